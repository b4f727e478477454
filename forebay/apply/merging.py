"""Applies all commands of keys with patches or decided commands (law 7).

The fold to one winner per key is not enough for such keys: a patch keeps the other fields, and a
condition looks at states that a later command replaces. So the state of each key is read, its
commands are absorbed in the order of their ids, and the result is written. The resource's lock is
held exclusively.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import psycopg

from forebay.apply.conflicts import find_claimants, find_conflicts, find_hopeless
from forebay.apply.decided import decide, is_decided
from forebay.apply.edits import KeyState
from forebay.apply.prepare import upcast
from forebay.apply.results import Counts, Result
from forebay.apply.rows import Rows, copy_texts
from forebay.apply.statements import Table
from forebay.apply.table import CONFLICT_TRIES, one_per_constraint, replace_rows
from forebay.command import Command, KeyValue
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.decisions.effects import Effect
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec

#: The code of a refusal of a command that is not decided yet.
UNDECIDED = "undecided"

KeyCommands = Mapping[KeyValue, Sequence[Command]]

_by_id = attrgetter("id")


class _LeftOutError(Exception):
    """Postgres left out rows of an UPDATE or a COPY without an error."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of merging the commands of some keys."""

    result: Result = Result()  # noqa: RUF009 - immutable
    #: Of the decided commands that passed.
    effects: Sequence[Effect] = ()
    #: Patches of earlier chunks that waited, and that Postgres refuses now.
    refused_waiting: Sequence[Refusal] = ()

    def __add__(self, other: Merged) -> Merged:
        """The result for the keys of both."""
        return Merged(
            self.result + other.result,
            (*self.effects, *other.effects),
            (*self.refused_waiting, *other.refused_waiting),
        )


@dataclass(slots=True)
class _Walk:
    """Commands of a key, absorbed into its state in the order of their ids."""

    table: Table
    state: KeyState
    #: Ids of the commands that need a decision.
    decided: Collection[str]
    duplicates: int = 0
    #: The ids under which the absorbed commands have taken their place.
    absorbed: list[str] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def take(self, command: Command) -> None:
        """Absorb a command, or refuse it."""
        try:
            plain = self._make_plain(command)
            is_duplicate = self.state.absorb(self._complete(plain)) == "duplicate"
        except BodyError as exc:
            self.refusals.append(Refusal.of_body(command, exc))
            return
        if is_duplicate:
            self.duplicates += 1
            return
        self.absorbed.append(plain.id)
        if plain is not command:
            self.effects.append(_make_effect(command, plain))

    def count(self, *, without: Collection[str] = ()) -> Counts:
        """The counts of the commands that are not refused, without those of these ids."""
        counted = [id_ for id_ in self.absorbed if id_ not in without]
        applied = sum(map(self.state.has_taken, counted))
        return Counts(applied, len(counted) - applied, self.duplicates)

    def _make_plain(self, command: Command) -> Command:
        if command.id not in self.decided:
            return command
        return decide(command, self.state, self.table.spec)

    def _complete(self, command: Command) -> Command:
        """The command with all fields of its item.

        A patch that may have to be kept is checked; others are checked when they are written.
        """
        body, encoder = command.body, self.table.encoder
        if body is None:
            return command
        if command.op != "patch":
            return command._replace(body=encoder.complete_body(body))
        base = self.state.base
        if not self.state.has_item or (base is not None and command.id < base.id):
            encoder.encode_fields(body)
        return command


def merge(table: Table, commands: KeyCommands, *, decides: bool) -> Merged:
    """Apply all commands of some keys.

    Args:
        table: their table.
        commands: the commands of each key, of the current schema version.
        decides: whether decisions are made. If not, a key with a command that needs a decision, or
            that is refused, is left unchanged, and the result refuses that command.

    Raises:
        psycopg.Error: not the data's fault.
    """
    spec = table.spec
    decided = {c.id for of_key in commands.values() for c in of_key if is_decided(c, spec)}
    merged = Merged()
    if decided and not decides:
        undecided = dict(_find_undecided(decided, commands))
        commands = {key: of_key for key, of_key in commands.items() if key not in undecided}
        merged = Merged(Result(refusals=list(undecided.values())))
    if not commands:
        return merged
    states = _read_states(table, commands, decided)
    walks = {key: _walk(table, states[key], of_key, decided) for key, of_key in commands.items()}
    ready = {key: walk for key, walk in walks.items() if decides or not walk.refusals}
    refused = _write(table, {key: walk.state for key, walk in ready.items()})
    if refused and decides:
        merged += _merge_singly(
            table,
            {key: commands[key] for key in refused},
            decided,
            refused,
            {key: walks[key].state for key in refused},
        )
    elif not decides:
        first = [walk.refusals[0] for walk in walks.values() if walk.refusals]
        merged += Merged(Result(refusals=[*first, *_blame(refused, commands)]))
    done = [walk for key, walk in ready.items() if key not in refused]
    counts = Counts(*map(sum, zip(*[walk.count() for walk in done], strict=True)))
    refusals = [refusal for walk in done for refusal in walk.refusals]
    effects = [effect for walk in done for effect in walk.effects]
    return merged + Merged(Result(counts, refusals), effects)


def drop_known(table: Table, refusals: Sequence[Refusal]) -> Result:
    """Count the refused patches that the table has, or that lose to it: no decision is needed.

    Args:
        table: their table.
        refusals: of patches with keys that Postgres can store.
    """
    if not refusals:
        return Result()
    states = table.read_states(list({refusal.command.key for refusal in refusals}))
    counts, remaining = Counts(), []
    for refusal in refusals:
        fate = states[refusal.command.key].copied().absorb(refusal.command)
        if fate == "applied":
            remaining.append(refusal)
        else:
            is_duplicate = fate == "duplicate"
            counts += Counts(superseded=not is_duplicate, duplicates=is_duplicate)
    return Result(counts, remaining)


def _find_undecided(
    decided: Collection[str], commands: KeyCommands
) -> Iterator[tuple[KeyValue, Refusal]]:
    detail = "its condition or increment is not decided yet"
    for key, of_key in commands.items():
        for command in of_key:
            if command.id in decided:
                yield key, Refusal(command, UNDECIDED, detail)
                break


def _read_states(
    table: Table, commands: KeyCommands, decided: Collection[str]
) -> dict[KeyValue, KeyState]:
    """The states of the keys, with the values of the items where the commands need them."""
    states = table.read_states(list(commands))
    for state in states.values():
        if state.kept:
            state.kept = {id_: _make_current(table, p) for id_, p in state.kept.items()}
    needy = [
        key
        for key, of_key in commands.items()
        if states[key].has_item
        and (decided or states[key].fields)
        and any(
            command.id in decided or (states[key].fields and command.op != "patch")
            for command in of_key
        )
    ]
    if needy:
        table.read_item_values(states, needy)
    return states


def _make_current(table: Table, patch: Command) -> Command:
    """A kept patch in the current schema version; if that fails, it is refused with its item."""
    try:
        return upcast(patch, table.spec)
    except BodyError:
        return patch


def _walk(
    table: Table, state: KeyState, commands: Sequence[Command], decided: Collection[str]
) -> _Walk:
    """Absorb commands into a state, which changes."""
    walk = _Walk(table, state, decided)
    if len(commands) == 1:  # the common case
        walk.take(commands[0])
        return walk
    seen: set[str] = set()
    for command in sorted(commands, key=_by_id):
        if command.id in seen:
            walk.duplicates += 1
            continue
        seen.add(command.id)
        walk.take(command)
    return walk


def _blame(refused: Mapping[KeyValue, Refusal], commands: KeyCommands) -> Iterator[Refusal]:
    """A refusal of a command of each refused key; the decision finds the guilty command."""
    for key, refusal in refused.items():
        yield Refusal(commands[key][0], refusal.code, refusal.detail, refusal.sqlstate)


def _merge_singly(
    table: Table,
    commands: KeyCommands,
    decided: Collection[str],
    refused: Mapping[KeyValue, Refusal],
    written: Mapping[KeyValue, KeyState],
) -> Merged:
    """Apply the commands of keys one at a time, and refuse those that fail.

    The keys come in the order of their first commands, so that a unique value is claimed by the
    oldest command. Conflicts with other keys may be resolved by them: a key is tried again after
    the key in its way, and all are tried again as long as one of them succeeds.

    Args:
        table: their table.
        commands: all commands of the refused keys.
        decided: the ids of those that need a decision.
        refused: why the keys were refused when they were written together.
        written: the states that were refused.
    """
    states = _read_states(table, commands, decided)  # as they are, without the failed commands
    simple = {key for key, of_key in commands.items() if len(of_key) == 1 and not states[key].kept}
    obstacles = _find_obstacles(table, states, refused, written, simple)
    merged, pending = Merged(), dict[KeyValue, Sequence[Command]]()
    for key, of_key in sorted(commands.items(), key=lambda item: min(map(_by_id, item[1]))):
        if key in simple and (key in obstacles.hopeless or not refused[key].conflict):
            merged += Merged(Result(refusals=[_refuse_as(of_key[0], refused[key])]))
        else:
            pending[key] = of_key
    refusals: dict[KeyValue, _Try] = {}
    tries, is_progress = 0, True
    while pending and is_progress and tries < CONFLICT_TRIES:
        is_progress, queue = False, list(reversed(pending))
        while queue:
            key = queue.pop()
            if key not in pending:
                continue
            tries += len(pending[key])
            waiting = refusals[key].waiting if key in refusals else frozenset[str]()
            waiting |= states[key].kept.keys()
            tried = _try_singly(table, states[key], pending[key], decided, waiting)
            merged += tried.finish()
            # A key in conflict was written without the commands that failed.
            states[key], pending[key] = tried.walk.state, tried.list_conflicting()
            refusals[key] = tried
            if not pending[key]:
                is_progress = True
                del pending[key]
            if tried.walk.absorbed:
                queue += reversed(obstacles.waiters.pop(key, ()))
    for key in pending:
        merged += refusals[key].give_up()
    return merged


@dataclass(frozen=True, slots=True)
class _Obstacles:
    """Keys that are refused because of the rows of other keys."""

    #: Keys of single commands that stay refused in whatever order the refused keys are tried.
    hopeless: Collection[KeyValue]
    #: By key, the refused keys that its row is in the way of, in the order of their commands.
    waiters: dict[KeyValue, Sequence[KeyValue]]


def _find_obstacles(
    table: Table,
    states: Mapping[KeyValue, KeyState],
    refused: Mapping[KeyValue, Refusal],
    written: Mapping[KeyValue, KeyState],
    simple: Collection[KeyValue],
) -> _Obstacles:
    """Find why keys are refused, by a few statements for each constraint."""
    keys = [key for key, refusal in refused.items() if refusal.conflict and written[key].has_item]
    hopeless, waiters = set[KeyValue](), defaultdict[KeyValue, list[Command]](list)
    if not keys:
        return _Obstacles(hopeless, {})
    table.read_item_values(states, keys)
    spec, by_text = table.spec, {str(key): key for key in refused}
    puts = [
        Command(
            written[key].greatest_id,
            "put",
            spec.path,
            key,
            spec.schema_version,
            "",
            None,
            {**states[key].values, **written[key].values},
        )
        for key in keys
    ]
    rows = table.encoder.encode(puts).rows
    single_rows = rows.at(n for n, put in enumerate(rows.commands) if put.key in simple)
    for error in one_per_constraint([refused[key] for key in keys]):
        for place, text in find_claimants(table, rows, error, by_text.keys()):
            waiters[by_text[text]].append(rows.commands[place])
        # A key with several commands may give up its value by the first, whatever the last does.
        ends = find_hopeless(table, single_rows, error, keys=by_text.keys())
        hopeless.update(refusal.command.key for refusal in ends.values())
    return _Obstacles(
        hopeless,
        {key: [put.key for put in sorted(of_key, key=_by_id)] for key, of_key in waiters.items()},
    )


def _refuse_as(command: Command, refusal: Refusal) -> Refusal:
    """The same refusal, of another command."""
    return Refusal(
        command, refusal.code, refusal.detail, refusal.sqlstate, conflict=refusal.conflict
    )


@dataclass(slots=True)
class _Try:
    """The commands of a key, each applied by itself."""

    walk: _Walk
    #: Ids of patches that waited before.
    waiting: frozenset[str]

    @property
    def has_conflict(self) -> bool:
        """True if other keys' commands may resolve a refusal."""
        return any(refusal.conflict for refusal in self.walk.refusals)

    def list_conflicting(self) -> list[Command]:
        """The commands that may apply after other keys' commands."""
        return [refusal.command for refusal in self.walk.refusals if refusal.conflict]

    def finish(self) -> Merged:
        """The result without the refusals in conflict."""
        final = [refusal for refusal in self.walk.refusals if not refusal.conflict]
        counts = self.walk.count(without=self.waiting)
        return Merged(Result(counts), self.walk.effects) + self._divide(final)

    def give_up(self) -> Merged:
        """The refusals in conflict, which no other key has resolved."""
        return self._divide([refusal for refusal in self.walk.refusals if refusal.conflict])

    def _divide(self, refusals: Sequence[Refusal]) -> Merged:
        own = [refusal for refusal in refusals if refusal.command.id not in self.waiting]
        waiting = [refusal for refusal in refusals if refusal.command.id in self.waiting]
        return Merged(Result(refusals=own), refused_waiting=waiting)


def _try_singly(
    table: Table,
    state: KeyState,
    commands: Sequence[Command],
    decided: Collection[str],
    waiting: frozenset[str],
) -> _Try:
    """Apply commands of a key one at a time.

    A waiting patch may be why the item that it waited for is refused, so it is tried by itself
    after that item.
    """
    done = _Walk(table, state, decided)
    queue = sorted(commands, key=_by_id)
    seen: set[str] = set()
    while queue:
        command = queue.pop(0)
        if command.id in seen:
            done.duplicates += 1
            continue
        seen.add(command.id)
        refusal = _try_one(table, done, command)
        if refusal is None:
            continue
        if command.op != "patch" and done.state.kept:
            refusal, left_out = _try_without_waiting(table, done, command)
            queue = sorted([*queue, *left_out], key=_by_id)
        if refusal is not None:
            done.refusals.append(refusal)
    return _Try(done, waiting)


def _try_without_waiting(
    table: Table, done: _Walk, command: Command
) -> tuple[Refusal | None, Sequence[Command]]:
    """Apply a put, create or delete without one of the waiting patches, or without all of them.

    Returns:
        The patches that were left out, to be tried by themselves; or why the command is refused
        without any.
    """
    kept, refusal = done.state.kept, None
    choices = [frozenset([id_]) for id_ in sorted(kept)]
    for left_out in dict.fromkeys([*choices, frozenset(kept)]):
        done.state.kept = {id_: patch for id_, patch in kept.items() if id_ not in left_out}
        refusal = _try_one(table, done, command)
        if refusal is None:
            return None, [kept[id_] for id_ in left_out]
    done.state.kept = kept
    return refusal, ()


def _try_one(table: Table, done: _Walk, command: Command) -> Refusal | None:
    """Apply a command after others; return its refusal, which leaves everything unchanged."""
    trial = _Walk(table, done.state.copied(), done.decided)
    trial.take(command)
    if trial.refusals:
        return trial.refusals[0]
    refused = _write(table, {command.key: trial.state})
    if refused:
        return _refuse_as(command, refused[command.key])
    done.state = trial.state
    done.state.new_base, done.state.changed = None, set()
    done.duplicates += trial.duplicates
    done.absorbed += trial.absorbed
    done.effects += trial.effects
    return None


def _write(table: Table, states: Mapping[KeyValue, KeyState]) -> dict[KeyValue, Refusal]:
    """Write the changed rows, tombstones and edits; return the refusals by key.

    A refused key is left unchanged.
    """
    replaced = [
        state.new_base._replace(body=None if state.new_base.body is None else state.values)
        for state in states.values()
        if state.new_base is not None
    ]
    refusals = list(replace_rows(table, replaced).refusals) if replaced else []
    refused = {refusal.command.key: refusal for refusal in refusals}
    by_fields: dict[frozenset[str], list[KeyValue]] = defaultdict(list)
    for key, state in states.items():
        if state.new_base is None and state.changed:
            by_fields[frozenset(state.changed)].append(key)
    for names, keys in by_fields.items():
        refused.update(_update(table, _Changes(sorted(names), keys, states)))
    table.write_edits({key: state for key, state in states.items() if key not in refused})
    return refused


@dataclass(frozen=True, slots=True)
class _Changes:
    """Rows of which the same fields are to be set."""

    names: Sequence[str]
    keys: Sequence[KeyValue]
    states: Mapping[KeyValue, KeyState]

    def without(self, keys: Collection[KeyValue]) -> _Changes:
        """The changes of the other rows."""
        return replace(self, keys=[key for key in self.keys if key not in keys])

    def halves(self) -> Iterator[_Changes]:
        """Each half of the rows."""
        middle = len(self.keys) // 2
        yield replace(self, keys=self.keys[:middle])
        yield replace(self, keys=self.keys[middle:])

    def describe(self, key: KeyValue, spec: ResourceSpec) -> Command:
        """A patch that makes the row's changes, for a refusal."""
        state = self.states[key]
        body = {name: state.values[name] for name in self.names}
        command_id = max(state.fields[name] for name in self.names)
        return Command(command_id, "patch", spec.path, key, spec.schema_version, "", None, body)

    def encode(self, table: Table) -> Sequence[Sequence[object]]:
        """The changed columns.

        Raises:
            BodyError: a column can't hold a value.
        """
        bodies = [self.states[key].values for key in self.keys]
        return table.encoder.encode_columns(self.names, bodies)


def _update(table: Table, changes: _Changes) -> dict[KeyValue, Refusal]:
    """Set some fields of rows together; if that fails, set those of the rows that are not guilty.

    If the guilty rows can't be identified, each half is tried.
    """
    table.clear_stage()
    first, conflicts = changes.describe(changes.keys[0], table.spec), dict[KeyValue, Refusal]()
    refusal: Refusal | None = None
    try:
        with table.connection.transaction():
            _update_staged(table, changes)
    except BodyError as exc:
        refusal = Refusal.of_body(first, exc)
    except _LeftOutError:
        if len(changes.keys) == 1:
            refusal = _explain_left_out(table, first)
    except psycopg.Error as exc:
        if not is_data_fault(exc) or needs_newer_code(exc, table.spec):
            raise
        refusal, conflicts = Refusal.of_row(first, exc), _find_conflicts(table, changes, exc)
    else:
        return {}
    if len(changes.keys) == 1 and refusal is not None:
        return {changes.keys[0]: refusal}
    parts = [changes.without(conflicts)] if conflicts else changes.halves()
    for part in parts:
        conflicts |= _update(table, part) if part.keys else {}
    return conflicts


def _find_conflicts(
    table: Table, changes: _Changes, error: psycopg.Error
) -> dict[KeyValue, Refusal]:
    """The refusals of all rows that a constraint over the changed columns refuses."""
    columns = dict(zip(changes.names, changes.encode(table), strict=True))
    unknown = [None] * len(changes.keys)
    commands = [changes.describe(key, table.spec) for key in changes.keys]
    fields = [columns.get(field.name, unknown) for field in table.spec.fields]
    conflicts = find_conflicts(table, Rows(commands, [changes.keys, *fields]), error)
    return {refusal.command.key: refusal for refusal in conflicts.values()}


def _update_staged(table: Table, changes: _Changes) -> None:
    columns = [changes.keys, *changes.encode(table)]
    with table.connection.cursor() as cursor:
        with cursor.copy(table.copy_fields(changes.names)) as copy:
            for text in copy_texts(columns):
                copy.write(text)
        if cursor.rowcount != len(changes.keys):
            raise _LeftOutError
        cursor.execute(table.update_fields(changes.names))
        if cursor.rowcount != len(changes.keys):
            raise _LeftOutError


def _explain_left_out(table: Table, change: Command) -> Refusal:
    """The refusal of a change that Postgres has left out."""
    body = table.encoder.encode_fields(change.body or {})
    fields = [[body.get(field.name)] for field in table.spec.fields]
    return table.refuse_unread(Rows([change], [[change.key], *fields]))[0]


def _make_effect(command: Command, plain: Command) -> Effect:
    has_sums = plain.body is not command.body
    return Effect(
        command.id,
        command.resource,
        str(command.key),
        plain.id,
        plain.body if has_sums else None,
        command.schema if has_sums else None,
        dt.datetime.now(dt.UTC),
    )
