"""Applies all commands of keys with patches or decided commands (law 7).

The fold to one winner per key is not enough for such keys: a patch keeps the other fields, and a
condition looks at states that a later command replaces. So the state of each key is read, its
commands are absorbed in the order of their ids, and the result is written. The resource's lock is
held exclusively.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from forebay.apply.dependencies import Patience
from forebay.apply.results import Counts, Merged, Result
from forebay.apply.singly import merge_singly
from forebay.apply.statements import Table
from forebay.apply.walk import KeyCommands, MergePlan
from forebay.apply.writing import write_states
from forebay.command import KeyValue
from forebay.decisions.refusals import Refusal

#: The code of a refusal of a command that is not decided yet.
UNDECIDED = "undecided"


def merge(table: Table, commands: KeyCommands, *, decides: bool, patience: Patience) -> Merged:
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
    merged = Merged()
    if plan.decided and decides:
        plan = plan.with_dependencies(patience)
    elif plan.decided:
        undecided = dict(_find_undecided(plan))
        plan = plan.select(key for key in commands if key not in undecided)
        merged = Merged(Result(refusals=list(undecided.values())))
    if not plan.commands:
        return merged
    states = plan.read_states()
    simple = plan.absorb_first_patches(states)
    walks = {key: plan.walk(key, state) for key, state in states.items() if key not in simple}
    ready = {key: walk for key, walk in walks.items() if decides or not walk.refusals}
    unready = walks.keys() - ready.keys()
    refused = write_states(table, {key: s for key, s in states.items() if key not in unready})
    if refused and decides:
        written = {key: states[key] for key in refused}
        merged += merge_singly(plan.select(refused), refused, written)
    elif not decides:
        first = [walk.refusals[0] for walk in walks.values() if walk.refusals]
        merged += Merged(Result(refusals=[*first, *_blame(refused, commands)]))
    done = [walk for key, walk in ready.items() if key not in refused]
    counts = Counts(applied=len(simple - refused.keys()))
    counts += Counts(*map(sum, zip(*[walk.count() for walk in done], strict=True)))
    refusals = [refusal for walk in done for refusal in walk.refusals]
    effects = [effect for walk in done for effect in walk.effects]
    unsettled = next(filter(None, [walk.unsettled for walk in done]), None)
    return merged + Merged(Result(counts, refusals, unsettled=unsettled), effects)


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


def _find_undecided(plan: MergePlan) -> Iterator[tuple[KeyValue, Refusal]]:
    detail = "its condition or increment is not decided yet"
    for key, of_key in plan.commands.items():
        for command in of_key:
            if command.id in plan.decided:
                yield key, Refusal(command, UNDECIDED, detail)
                break


def _blame(refused: Mapping[KeyValue, Refusal], commands: KeyCommands) -> Iterator[Refusal]:
    """A refusal of a command of each refused key; the decision finds the guilty command."""
    for key, refusal in refused.items():
        yield Refusal(commands[key][0], refusal.code, refusal.detail, refusal.sqlstate)
