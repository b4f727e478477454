"""Applies all commands of keys with patches or decided commands (law 7).

The fold to one winner per key is not enough for such keys: a patch keeps the other fields, and a
condition looks at states that a later command replaces. So the state of each key is read, its
commands are absorbed in the order of their ids, and the result is written. The resource's lock is
held exclusively.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from forebay.apply.edits.claims import Claim, find_rivals
from forebay.apply.edits.dependencies import Patience
from forebay.apply.edits.singly import merge_singly
from forebay.apply.edits.state import KeyState
from forebay.apply.edits.storage import read_states, write_states
from forebay.apply.edits.walk import FirstPatches, KeyCommands, MergePlan, Walk
from forebay.apply.results import Counts, MergeResult, Result
from forebay.apply.rows.table import Table
from forebay.command import Command, KeyValue
from forebay.db.faults import UNIQUE_VIOLATION, choose_code
from forebay.decisions.refusals import Refusal

#: The code of a refusal of a decided command that has no decision yet.
UNDECIDED = "undecided"


def merge(table: Table, commands: KeyCommands, *, decides: bool, patience: Patience) -> MergeResult:
    """Apply all commands of some keys.

    Args:
        table: their table.
        commands: the commands of each key, of the current schema version.
        decides: whether decisions are made. If not, a key with a command that needs a decision, or
            that is refused, is left unchanged, and the result refuses that command.
        patience: how long decided commands may wait for commands that they depend on.

    Raises:
        psycopg.Error: not the data's fault.
    """
    plan = MergePlan.of_commands(table, commands)
    merged = MergeResult()
    if plan.decided_commands and decides:
        plan = plan.with_decider(patience)
    elif plan.decided_commands:
        undecided = dict(_find_undecided(plan))
        plan = plan.select_keys(key for key in commands if key not in undecided)
        merged = MergeResult(Result(refusals=list(undecided.values())))
    if not plan.commands:
        return merged
    states = plan.load_states()
    first = plan.absorb_first_patches(states)
    walks = {
        key: plan.absorb_key(key, state) for key, state in states.items() if key not in first.keys
    }
    ready = {key: walk for key, walk in walks.items() if decides or not walk.refusals}
    writable = {key: states[key] for key in states if key in first.keys or key in ready}
    unready = [c for key in commands.keys() - writable.keys() for c in commands[key]]
    refused, postponed = _write_in_turn(table, writable, unready)
    if decides and (refused or postponed):
        remaining = plan.select_keys([*refused, *postponed])
        merged += merge_singly(remaining, refused, {key: states[key] for key in refused})
    elif not decides:
        refusals = [walk.refusals[0] for walk in walks.values() if walk.refusals]
        refusals += [*_refuse_keys(refused, commands), *_refuse_postponed(postponed, commands)]
        merged += MergeResult(Result(refusals=refusals))
    unwritten = {*refused, *postponed}
    written = [walk for key, walk in ready.items() if key not in unwritten]
    return merged + _sum_up(first, written, unwritten)


def drop_known(table: Table, refusals: Sequence[Refusal]) -> Result:
    """Count the refused patches that the table has, or that lose to it: no decision is needed.

    Args:
        table: their table.
        refusals: of patches with keys that Postgres can store.
    """
    if not refusals:
        return Result()
    states = read_states(table, list({refusal.command.key for refusal in refusals}))
    counts, remaining = Counts(), []
    for refusal in refusals:
        counted_as = states[refusal.command.key].copied().absorb(refusal.command)
        if counted_as == "applied":
            remaining.append(refusal)
        else:
            is_duplicate = counted_as == "duplicate"
            counts += Counts(superseded=not is_duplicate, duplicates=is_duplicate)
    return Result(counts, remaining)


def _write_in_turn(
    table: Table, states: Mapping[KeyValue, KeyState], unready: Collection[Command]
) -> tuple[dict[KeyValue, Refusal], list[KeyValue]]:
    """Write the states; of those that claim the same unique value, the oldest claim first.

    Args:
        table: their table.
        states: to be written.
        unready: the commands of other keys, which are not written yet.

    Returns:
        The refusals by key, and the keys that were not written because an older claim was not
        written either, and for another reason than a conflict.
    """
    unique_columns = table.read_unique_columns() if len(states) + len(unready) > 1 else ()
    if not unique_columns:  # the common case
        return write_states(table, states), []
    claims = [Claim.of_state(key, state) for key, state in states.items()]
    rivals = find_rivals(unique_columns, [*claims, *map(Claim.of_command, unready)])
    leading = {key: state for key, state in states.items() if key not in rivals}
    refused = write_states(table, leading)
    resolved = {key for key in leading if key not in refused or refused[key].conflict}
    following = {
        key: state
        for key, state in states.items()
        if key in rivals and resolved.issuperset(rivals[key])
    }
    refused |= write_states(table, following) if following else {}
    return refused, [key for key in states if key not in leading and key not in following]


def _sum_up(
    first: FirstPatches, walks: Sequence[Walk], unwritten: AbstractSet[KeyValue]
) -> MergeResult:
    """The result of the keys that were written.

    Args:
        first: the first patches of keys.
        walks: those of the other keys that were written.
        unwritten: the keys that were not written.
    """
    counts = Counts(applied=len(first.keys - unwritten))
    counts += Counts(*map(sum, zip(*[walk.count() for walk in walks], strict=True)))
    refusals = [refusal for walk in walks for refusal in walk.refusals]
    effects = [effect for key, effect in first.effects.items() if key not in unwritten]
    effects += [effect for walk in walks for effect in walk.effects]
    unsettled_reason = next(filter(None, [walk.unsettled_reason for walk in walks]), None)
    return MergeResult(Result(counts, refusals, unsettled_reason=unsettled_reason), effects)


def _find_undecided(plan: MergePlan) -> Iterator[tuple[KeyValue, Refusal]]:
    detail = "its condition or increment is not decided yet"
    for key, of_key in plan.commands.items():
        for command in of_key:
            if command.id in plan.decided_commands:
                yield key, Refusal(command, UNDECIDED, detail)
                break


def _refuse_postponed(keys: Iterable[KeyValue], commands: KeyCommands) -> Iterator[Refusal]:
    """Refusals of keys that are to be tried again after the older claims of their values."""
    detail = "an older command of the object, which is not applied yet, claims its unique value"
    for key in keys:
        yield Refusal(commands[key][0], choose_code(UNIQUE_VIOLATION), detail, UNIQUE_VIOLATION)


def _refuse_keys(refused: Mapping[KeyValue, Refusal], commands: KeyCommands) -> Iterator[Refusal]:
    """A refusal of a command of each refused key; the decision finds the guilty command."""
    for key, refusal in refused.items():
        yield Refusal(commands[key][0], refusal.code, refusal.detail, refusal.sqlstate)
