"""Tries the commands again that a replay could not apply at their turn.

Objects are replayed in any order, so a command may come before another command that frees a unique
value, or before the row that it refers to. These leftovers are tried again after all objects. A
command that fails again is rejected only if the ledger does not show its object as applied, and if
the reason is not this release's code. If the reason is other rows, the replay must also be of the
whole archive, into the database that owns it. `rebuild --allow-new-rejections` rejects all of them.

Commands with a condition or an increment that have no decision are leftovers, too: they are decided
after all others, object by object, in the order of the objects' first leftovers. If such a command
may wait for one that it depends on, it is left to the consumer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from forebay.apply import Counts, Outcome, Source, apply
from forebay.apply.edits.dependencies import Dependencies, Patience, Settled
from forebay.apply.edits.merging import UNDECIDED
from forebay.apply.edits.storage import read_states
from forebay.apply.results import Ledger
from forebay.apply.rows.table import Table
from forebay.archive.lines import CHUNK_COMMANDS, Entry, InvalidLine
from forebay.conditions import SETTLING_SECONDS, Condition
from forebay.db.connect import Connection
from forebay.decisions.decision_log import DecisionLog
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.ids import accepted_ms
from forebay.resource.spec import ResourceSpec

#: The maximum number of leftovers in memory. Further objects fail; a resumed run tries them again.
MAX_COMMANDS = 200_000
#: In the place of an object's key, for commands of several objects that are applied together.
#: It is not stored: the ledger stays as it is, and no decision is made.
_SEVERAL_OBJECTS = "several objects"


@dataclass(frozen=True, slots=True)
class LeftoversResult:
    """The result of an object with leftovers."""

    key: str
    #: The outcome of the whole object, including its leftovers.
    outcome: Outcome
    #: The counts of the leftovers only.
    added: Counts
    #: The reason why leftovers could not be applied, if any remain.
    error: str | None


@dataclass(slots=True)
class _Object:
    """An object with leftovers."""

    outcome: Outcome
    remaining: Sequence[Refusal]
    added: Counts = Counts()  # noqa: RUF009 - frozen


def reject_permanent_failures(
    connection: Connection,
    decision_log: DecisionLog,
    resources: Mapping[str, ResourceSpec],
    source: Source,
    outcome: Outcome,
) -> Outcome:
    """Reject the commands that can't apply later either, such as a text that is too long.

    Commands that another command or another release could let apply are left undecided.

    Args:
        connection: a connection to the primary, with autocommit.
        decision_log: records the decisions.
        resources: the declarations, by path.
        source: the object that was replayed.
        outcome: the object's outcome, with commands that could not be applied.

    Returns:
        The outcome, with the commands that remain.
    """
    key = source.object
    if _is_applied(connection, key):
        return outcome
    item = _Object(outcome, outcome.undecided)
    _Applier(connection, decision_log, resources).decide(
        key,
        item,
        keep=lambda refusal: refusal.needs_other_release or refusal.depends_on_other_rows,
        tries_runners_up=False,
    )
    total = replace(outcome, counts=outcome.counts + item.added, undecided=tuple(item.remaining))
    if not item.remaining and not source.partial:
        _mark_applied(connection, key, total)
    return total


class Leftovers:
    """The leftovers of a replay: commands that could not be applied at their turn."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._commands = 0

    def __bool__(self) -> bool:
        return bool(self._objects)

    def add(self, key: str, outcome: Outcome) -> bool:
        """Keep an object's leftovers; return False if there would be too many."""
        if self._commands + len(outcome.undecided) > MAX_COMMANDS:
            return False
        self._commands += len(outcome.undecided)
        self._objects[key] = _Object(outcome, outcome.undecided)
        return True

    def try_again(
        self,
        connection: Connection,
        decision_log: DecisionLog,
        resources: Mapping[str, ResourceSpec],
        *,
        is_everything: bool,
        decides_conflicts: bool = True,
        rejects_all: bool = False,
    ) -> Iterator[LeftoversResult]:
        """Try the leftovers again, decide about the rest where permitted, and yield the results.

        Args:
            connection: a connection to the primary, with autocommit.
            decision_log: records the decisions.
            resources: the declarations, by path.
            is_everything: whether the replay has no conditions.
            decides_conflicts: whether the archive is complete, so that conflicts may be decided.
            rejects_all: whether to reject all commands that can't be applied.
        """
        applier = _Applier(connection, decision_log, resources)
        self._apply_until_stuck(applier)
        policy = _Policy(
            rejects_all=rejects_all,
            rejects_conflicts=is_everything and decides_conflicts and decision_log.may_extend(),
        )
        self._decide_until_stuck(applier, policy)
        for key, item in self._objects.items():
            total = replace(item.outcome, counts=item.outcome.counts + item.added, undecided=())
            if not item.remaining and is_everything:
                _mark_applied(connection, key, total)
            yield LeftoversResult(key, total, item.added, _describe_error(item.remaining))

    def _count_remaining(self) -> int:
        return sum(len(item.remaining) for item in self._objects.values())

    def _apply_until_stuck(self, applier: _Applier) -> None:
        """Try all leftovers until no more of them can be applied."""
        while applier.try_each(self._objects):
            pass
        entries = [refusal.entry for item in self._objects.values() for refusal in item.remaining]
        if len(entries) > 1 and len(self._objects) > 1:
            # Commands of several objects may block each other in a cycle.
            applier.try_together(entries)
            applier.try_each(self._objects)

    def _decide_until_stuck(self, applier: _Applier, policy: _Policy) -> None:
        """Decide about the leftovers until no more of them can be decided."""
        count = -1
        while count != self._count_remaining():  # some may have waited for others
            count = self._count_remaining()
            for key, item in sorted(self._objects.items(), key=lambda pair: _get_first_id(pair[1])):
                if item.remaining:
                    is_applied = _is_applied(applier.connection, key)
                    own_ids = _list_ids(item.remaining)
                    applier.decide(
                        key,
                        item,
                        keep=partial(policy.keeps, applier, is_applied=is_applied, own_ids=own_ids),
                        tries_runners_up=policy.rejects_all or policy.rejects_conflicts,
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """The refusals that a replay may reject."""

    rejects_all: bool
    rejects_conflicts: bool

    def keeps(
        self, applier: _Applier, refusal: Refusal, *, is_applied: bool, own_ids: Collection[str]
    ) -> bool:
        """Return whether a refused command stays undecided.

        Args:
            applier: knows the commands that others depend on.
            refusal: the command, and the reason.
            is_applied: whether the ledger calls the command's object applied.
            own_ids: the ids of the object's leftovers.
        """
        if refusal.code == UNDECIDED and not is_applied:
            return not self.rejects_all and applier.must_wait(refusal, own_ids)
        return not (self.rejects_all or refusal.code == UNDECIDED) and (
            is_applied
            or refusal.needs_other_release
            or (refusal.depends_on_other_rows and not self.rejects_conflicts)
        )


@dataclass(frozen=True, slots=True)
class _Applier:
    """Applies leftovers over one connection."""

    connection: Connection
    decision_log: DecisionLog
    resources: Mapping[str, ResourceSpec]

    def try_each(self, objects: Mapping[str, _Object]) -> bool:
        """Try each object's leftovers; return whether their number has decreased."""
        has_progress = False
        for key, item in objects.items():
            if not item.remaining:
                continue
            entries = [refusal.entry for refusal in item.remaining]
            outcome = self._apply(key, entries, decides=False)
            has_progress = has_progress or len(outcome.undecided) < len(item.remaining)
            item.remaining, item.added = outcome.undecided, item.added + outcome.counts
        return has_progress

    def must_wait(self, refusal: Refusal, own_ids: Collection[str]) -> bool:
        """Return whether the consumer may still let the command wait for one that it depends on.

        Args:
            refusal: of a command without a decision.
            own_ids: the ids of the commands that are decided with it.
        """
        command = refusal.command
        is_young = accepted_ms(command.id) + SETTLING_SECONDS * 1000 > time.time() * 1000
        if command.condition is None or not is_young:
            return False
        condition = Condition.of_json(command.condition)
        table = Table(self.connection, self.resources[command.resource])
        state = read_states(table, [command.key])[command.key]
        dependencies = Dependencies.read(self.connection, [command], Patience(may_wait=True))
        try:
            needed = dependencies.find_unsettled(
                command, condition, state, Settled(refused_ids={*own_ids})
            )
        except BodyError:
            return False
        return needed is not None

    def try_together(self, entries: Sequence[Entry]) -> None:
        """Try the leftovers of all objects in the same chunks."""
        self._apply(_SEVERAL_OBJECTS, entries, decides=False)

    def decide(
        self, key: str, item: _Object, *, keep: Callable[[Refusal], bool], tries_runners_up: bool
    ) -> None:
        """Reject the commands that can't be applied, except the commands of keys that are kept.

        Args:
            key: the object's key.
            item: the object.
            keep: returns whether a command must not be decided; the key's other commands are then
                not decided either.
            tries_runners_up: whether the key's other commands are tried after the winner was
                rejected; if not, keys with several commands are kept, unless one of them has a
                condition or an increment: then all of them are applied in the order of their ids.
        """
        commands_of_key = Counter(_get_key(refusal) for refusal in item.remaining)
        kept_keys = {
            _get_key(refusal)
            for refusal in item.remaining
            if keep(refusal)
            or (
                not tries_runners_up
                and refusal.code != UNDECIDED
                and commands_of_key[_get_key(refusal)] > 1
            )
        }
        kept_keys.discard(None)  # invalid lines, which have no key
        entries = [
            refusal.entry for refusal in item.remaining if _get_key(refusal) not in kept_keys
        ]
        if entries:
            item.added += self._apply(key, entries, decides=True).counts
        item.remaining = [refusal for refusal in item.remaining if _get_key(refusal) in kept_keys]

    def _apply(self, key: str, entries: Sequence[Entry], *, decides: bool) -> Outcome:
        return apply(
            self.connection,
            _split(entries),
            # Only a part of the object is applied, so the ledger must not change.
            Source(key, replay=True, partial=True),
            resources=self.resources,
            decision_log=self.decision_log,
            decides=decides,
        )


def _split(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    for start in range(0, len(entries), CHUNK_COMMANDS):
        yield entries[start : start + CHUNK_COMMANDS]


def _get_key(refusal: Refusal) -> tuple[str, object] | None:
    entry = refusal.entry
    return None if isinstance(entry, InvalidLine) else (entry.resource, entry.key)


def _get_first_id(item: _Object) -> str:
    """Return the smallest id of an object's leftovers; an empty text if it has no commands."""
    entries = [refusal.entry for refusal in item.remaining]
    return min((e.id for e in entries if not isinstance(e, InvalidLine)), default="")


def _is_applied(connection: Connection, key: str) -> bool:
    """Return whether the ledger shows an object as applied."""
    row = connection.execute(
        "SELECT completed_at IS NOT NULL FROM forebay.ledger WHERE object = %s", [key]
    ).fetchone()
    return row is not None and bool(row[0])


def _mark_applied(connection: Connection, key: str, total: Outcome) -> None:
    Ledger(connection, Source(key, replay=True)).advance(
        start=0, end=total.lines, ids=(), counts=total.counts, total=total, is_last=True
    )


def _list_ids(refusals: Sequence[Refusal]) -> set[str]:
    entries = [refusal.entry for refusal in refusals]
    return {entry.id for entry in entries if not isinstance(entry, InvalidLine)}


def _describe_error(undecided: Sequence[Refusal]) -> str | None:
    if not undecided:
        return None
    first = undecided[0]
    name = "an invalid line" if isinstance(first.entry, InvalidLine) else first.entry.id
    if first.code == UNDECIDED:
        return (
            f"{len(undecided):,} commands wait for others that are not applied yet; the first is "
            f"{name}. The consumer decides them within {SETTLING_SECONDS // 60} minutes; after "
            "that time, a replay decides them too"
        )
    return (
        f"{len(undecided):,} commands can't be applied, and a replay may not reject them; the "
        f"first is {name}: {first.detail}. Use a release that can apply them. If the object was "
        "never applied, `forebay sweep` sends it to the consumer, which decides"
    )
