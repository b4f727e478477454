"""Applies the commands of refused keys one at a time, to find the commands that are refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from forebay.apply.edits.dependencies import Settled
from forebay.apply.edits.state import KeyState
from forebay.apply.edits.storage import read_item_values, write_states
from forebay.apply.edits.walk import MergePlan, Walk, by_id
from forebay.apply.results import MergeResult, Result
from forebay.apply.rows.conflicts import find_claimants, find_hopeless
from forebay.apply.rows.table import Table
from forebay.apply.rows.winners import CONFLICT_TRIES, select_error_per_constraint
from forebay.command import Command, KeyValue
from forebay.decisions.refusals import Refusal


def merge_singly(
    plan: MergePlan,
    refused: Mapping[KeyValue, Refusal],
    written: Mapping[KeyValue, KeyState],
) -> MergeResult:
    """Apply the commands of keys one at a time, and refuse those that fail.

    The keys come in the order of their first commands, so that a unique value is claimed by the
    oldest command. Conflicts with other keys may be resolved by them: a key is tried again after
    the key in its way, and all are tried again as long as one of them succeeds.

    Args:
        plan: of the refused keys, and of keys that were not written because of others.
        refused: why keys were refused when they were written together.
        written: the states that were refused.
    """
    states, commands = plan.load_states(), plan.commands  # as they are, without the failed commands
    simple = {key for key, of_key in commands.items() if len(of_key) == 1 and not states[key].kept}
    blocked = _find_blocked_keys(plan.table, states, refused, written, simple)
    merged, pending = MergeResult(), dict[KeyValue, Sequence[Command]]()
    for key, of_key in sorted(commands.items(), key=lambda item: min(map(by_id, item[1]))):
        refusal = refused.get(key)
        is_final = refusal is not None and (key in blocked.hopeless or not refusal.conflict)
        if key in simple and refusal is not None and is_final:
            merged += MergeResult(Result(refusals=[_copy_refusal(of_key[0], refusal)]))
        else:
            pending[key] = of_key
    return merged + _Passes(plan, states, pending, blocked.waiters).run_all()


@dataclass(frozen=True, slots=True)
class _BlockedKeys:
    """Keys that are refused because of the rows of other keys."""

    #: Keys of single commands that stay refused in whatever order the refused keys are tried.
    hopeless: Collection[KeyValue]
    #: By key, the refused keys that its row is in the way of, in the order of their commands.
    waiters: dict[KeyValue, Sequence[KeyValue]]


def _find_blocked_keys(
    table: Table,
    states: Mapping[KeyValue, KeyState],
    refused: Mapping[KeyValue, Refusal],
    written: Mapping[KeyValue, KeyState],
    simple: Collection[KeyValue],
) -> _BlockedKeys:
    """Find why keys are refused, by a few statements for each constraint."""
    keys = [key for key, refusal in refused.items() if refusal.conflict and written[key].has_item]
    hopeless, waiters = set[KeyValue](), defaultdict[KeyValue, list[Command]](list)
    if not keys:
        return _BlockedKeys(hopeless, {})
    read_item_values(table, states, keys)
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
    for error in select_error_per_constraint([refused[key] for key in keys]):
        for place, text in find_claimants(table, rows, error, by_text.keys()):
            waiters[by_text[text]].append(rows.commands[place])
        # A key with several commands may give up its value by the first, whatever the last does.
        ends = find_hopeless(table, single_rows, error, keys=by_text.keys())
        hopeless.update(refusal.command.key for refusal in ends.values())
    return _BlockedKeys(
        hopeless,
        {key: [put.key for put in sorted(of_key, key=by_id)] for key, of_key in waiters.items()},
    )


def _copy_refusal(command: Command, refusal: Refusal) -> Refusal:
    """The same refusal, of another command."""
    return Refusal(
        command, refusal.code, refusal.detail, refusal.sqlstate, conflict=refusal.conflict
    )


@dataclass(slots=True)
class _KeyAttempt:
    """The commands of a key, each applied by itself."""

    walk: Walk
    #: Ids of patches that waited before.
    waiting_ids: frozenset[str]

    def list_conflicting(self) -> list[Command]:
        """The commands that may apply after other keys' commands."""
        return [refusal.command for refusal in self.walk.refusals if refusal.conflict]

    def summarize_settled(self) -> MergeResult:
        """The result without the refusals in conflict."""
        final = [refusal for refusal in self.walk.refusals if not refusal.conflict]
        counts = self.walk.count(without=self.waiting_ids)
        result = Result(counts, unsettled_reason=self.walk.unsettled_reason)
        return MergeResult(result, self.walk.effects) + self._divide(final)

    def refuse_conflicting(self) -> MergeResult:
        """The refusals in conflict, which no other key has resolved."""
        return self._divide([refusal for refusal in self.walk.refusals if refusal.conflict])

    def _divide(self, refusals: Sequence[Refusal]) -> MergeResult:
        own = [refusal for refusal in refusals if refusal.command.id not in self.waiting_ids]
        waiting = [refusal for refusal in refusals if refusal.command.id in self.waiting_ids]
        return MergeResult(Result(refusals=own), refused_waiting=waiting)


@dataclass(slots=True)
class _Passes:
    """Passes over keys, each of which tries the commands that have not succeeded yet."""

    plan: MergePlan
    #: By key, without the effects of commands that failed.
    states: dict[KeyValue, KeyState]
    #: By key, the commands to try, in the order of the keys' first commands.
    pending: dict[KeyValue, Sequence[Command]]
    #: As in `_BlockedKeys`.
    waiters: dict[KeyValue, Sequence[KeyValue]]
    #: The last attempt at each key.
    last_attempts: dict[KeyValue, _KeyAttempt] = field(default_factory=dict)
    merged: MergeResult = field(default_factory=MergeResult)
    commands_tried: int = 0

    def run_all(self) -> MergeResult:
        """Try the keys as long as a pass settles one of them; refuse the others."""
        is_progress = True
        while self.pending and is_progress and self.commands_tried < CONFLICT_TRIES:
            is_progress = self._try_all()
        for key in self.pending:
            self.merged += self.last_attempts[key].refuse_conflicting()
        return self.merged

    def _try_all(self) -> bool:
        """Try each pending key; return whether one was settled."""
        count, queue = len(self.pending), list(reversed(self.pending))
        while queue:
            key = queue.pop()
            if key in self.pending and self._try_key(key).walk.absorbed_ids:
                queue += reversed(self.waiters.pop(key, ()))
        return len(self.pending) < count

    def _try_key(self, key: KeyValue) -> _KeyAttempt:
        """Try the pending commands of a key."""
        self.commands_tried += len(self.pending[key])
        waiting_ids, settled = frozenset(self.states[key].kept), Settled()
        if last := self.last_attempts.get(key):
            waiting_ids, settled = waiting_ids | last.waiting_ids, last.walk.settled
        walk = Walk(self.plan, self.states[key], settled)
        attempt = self.last_attempts[key] = _try_singly(walk, self.pending[key], waiting_ids)
        self.merged += attempt.summarize_settled()
        # A key in conflict was written without the commands that failed.
        self.states[key], self.pending[key] = attempt.walk.state, attempt.list_conflicting()
        if not self.pending[key]:
            del self.pending[key]
        return attempt


def _try_singly(
    walk: Walk, commands: Sequence[Command], waiting_ids: frozenset[str]
) -> _KeyAttempt:
    """Apply commands of a key one at a time.

    A waiting patch may be why the item that it waited for is refused, so it is tried by itself
    after that item.
    """
    queue = sorted(commands, key=by_id)
    seen: set[str] = set()
    while queue:
        command = queue.pop(0)
        if command.id in seen:
            walk.duplicates += 1
            continue
        seen.add(command.id)
        refusal = _try_one(walk, command)
        if refusal is None:
            continue
        if command.op != "patch" and walk.state.kept:
            refusal, left_out = _try_without_waiting(walk, command)
            queue = sorted([*queue, *left_out], key=by_id)
        if refusal is not None:
            walk.refusals.append(refusal)
            if not refusal.conflict:  # others may be resolved by other keys
                walk.settled.refused_ids.add(command.id)
    return _KeyAttempt(walk, waiting_ids)


def _try_without_waiting(walk: Walk, command: Command) -> tuple[Refusal | None, Sequence[Command]]:
    """Apply a put, create or delete without one of the waiting patches, or without all of them.

    Returns:
        The patches that were left out, to be tried by themselves; or why the command is refused
        without any.
    """
    kept, refusal = walk.state.kept, None
    choices = [frozenset([id_]) for id_ in sorted(kept)]
    for left_out in dict.fromkeys([*choices, frozenset(kept)]):
        walk.state.kept = {id_: patch for id_, patch in kept.items() if id_ not in left_out}
        refusal = _try_one(walk, command)
        if refusal is None:
            return None, [kept[id_] for id_ in left_out]
    walk.state.kept = kept
    return refusal, ()


def _try_one(walk: Walk, command: Command) -> Refusal | None:
    """Apply a command after others; return its refusal, which leaves everything unchanged."""
    trial = replace(
        walk,
        state=walk.state.copied(),
        duplicates=0,
        absorbed_ids=[],
        effects=list(walk.effects),
        refusals=list(walk.refusals),
    )
    trial.take(command)
    if len(trial.refusals) > len(walk.refusals):
        return trial.refusals[-1]
    walk.unsettled_reason = trial.unsettled_reason
    refused = write_states(walk.plan.table, {command.key: trial.state})
    if refused:
        walk.settled.effective_ids.pop(command.id, None)
        return _copy_refusal(command, refused[command.key])
    walk.state = trial.state
    walk.state.new_base, walk.state.changed = None, set()
    walk.duplicates += trial.duplicates
    walk.absorbed_ids += trial.absorbed_ids
    walk.effects = trial.effects
    return None
