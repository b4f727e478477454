"""Absorbs the commands of a key into its state, one after the other in the order of their ids.

The decisions about decided commands are made on the way, each on the state that the commands before
it have led to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Self

from forebay.apply.edits.decider import Decider
from forebay.apply.edits.dependencies import Dependencies, Patience, Settled
from forebay.apply.edits.state import KeyState
from forebay.apply.edits.storage import read_item_values, read_states
from forebay.apply.prepare import upcast
from forebay.apply.results import Counts
from forebay.apply.rows.table import Table
from forebay.command import Command, KeyValue
from forebay.conditions import PreparedCondition
from forebay.decided_commands import is_decided_command
from forebay.decisions.effects import Effect
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError

KeyCommands = Mapping[KeyValue, Sequence[Command]]

by_id = attrgetter("id")


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Keys of a table, and their commands, which are to be merged."""

    table: Table
    commands: KeyCommands
    #: The decided commands among them, by id.
    decided_commands: Mapping[str, Command]
    #: Empty before `with_decider`, and if there are none.
    decider: Decider
    #: The decisions that their conditions name; empty before `with_decider`.
    dependencies: Dependencies = Dependencies()  # noqa: RUF009 - immutable

    @classmethod
    def of_commands(cls, table: Table, commands: KeyCommands) -> Self:
        """Find the decided commands."""
        spec = table.spec
        decided_commands = {
            command.id: command
            for of_key in commands.values()
            for command in of_key
            if is_decided_command(command.op, command.body, command.condition, spec)
        }
        return cls(table, commands, decided_commands, Decider(spec))

    def select_keys(self, keys: Iterable[KeyValue]) -> Self:
        """Some of these keys."""
        return replace(self, commands={key: self.commands[key] for key in keys})

    def with_decider(self, patience: Patience) -> Self:
        """The same plan, ready to decide."""
        decided_commands = self.decided_commands.values()
        return replace(
            self,
            decider=Decider.of_commands(decided_commands, self.table.spec),
            dependencies=Dependencies.read(self.table.connection, decided_commands, patience),
        )

    def absorb_first_patches(self, states: Mapping[KeyValue, KeyState]) -> FirstPatches:
        """Absorb single patches of items that have no other patch.

        Decided patches among them that fail, or that may have to wait, are left to a walk.
        """
        commands, decided_commands, decider = self.commands, self.decided_commands, self.decider
        first = FirstPatches()
        for key, state in states.items():
            of_key = commands[key]
            if len(of_key) > 1 or not state.is_unpatched_item:
                continue
            plain = command = of_key[0]
            if command.id in decided_commands:
                condition = decider.conditions.get(command.id)
                if command.op != "patch" or (
                    condition is not None and condition.condition.names_commands
                ):
                    continue
                try:
                    plain = decider.decide(command, state)
                except BodyError:
                    continue
            if state.absorb_first_patch(plain):
                first.keys.add(key)
                if plain is not command:
                    first.effects[key] = decider.make_effect(command, plain)
        return first

    def absorb_key(self, key: KeyValue, state: KeyState) -> Walk:
        """Absorb the key's commands into its state, which changes."""
        walk = Walk(self, state)
        walk.take_all(self.commands[key])
        return walk

    def load_states(self) -> dict[KeyValue, KeyState]:
        """The states of the keys, with the values of the items where the commands need them."""
        states = read_states(self.table, list(self.commands), self.decider.field_names)
        for state in states.values():
            if state.kept:
                state.kept = {id_: _upcast_kept(self.table, p) for id_, p in state.kept.items()}
        patched_keys = [
            key
            for key, state in states.items()
            if state.fields
            and state.has_item
            and any(command.op != "patch" for command in self.commands[key])
        ]
        if patched_keys:
            read_item_values(self.table, states, patched_keys)
        return states


@dataclass(frozen=True, slots=True)
class FirstPatches:
    """Single patches that were absorbed by items without other patches."""

    keys: set[KeyValue] = field(default_factory=set)
    #: Of the decided patches among them.
    effects: dict[KeyValue, Effect] = field(default_factory=dict)


@dataclass(slots=True)
class Walk:
    """Commands of a key, absorbed into its state in the order of their ids."""

    plan: MergePlan
    state: KeyState
    settled: Settled = field(default_factory=Settled)
    duplicates: int = 0
    #: The ids under which the absorbed commands have taken their place.
    absorbed_ids: list[str] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    #: Why a command waits for a command that it depends on, if any does.
    unsettled_reason: str | None = None

    def take(self, command: Command) -> None:
        """Absorb a command, refuse it, or leave it for later."""
        try:
            plain = command
            if command.id in self.plan.decided_commands:
                condition = self.plan.decider.conditions.get(command.id)
                if condition is not None and self._must_wait(command, condition):
                    return
                find_effective_id = partial(self.plan.dependencies.find_effective_id, self.settled)
                plain = self.plan.decider.decide(command, self.state, find_effective_id)
            is_duplicate = self.state.absorb(self._complete(plain)) == "duplicate"
        except BodyError as exc:
            self.refusals.append(Refusal.of_body(command, exc))
            self.settled.refused_ids.add(command.id)
            return
        if is_duplicate:
            self.duplicates += 1
            return
        self.absorbed_ids.append(plain.id)
        if plain is not command:
            self.effects.append(self.plan.decider.make_effect(command, plain))
            self.settled.effective_ids[command.id] = plain.id

    def take_all(self, commands: Sequence[Command]) -> None:
        """Absorb commands in the order of their ids, each id once."""
        if len(commands) == 1:  # the common case
            self.take(commands[0])
            return
        seen: set[str] = set()
        for command in sorted(commands, key=by_id):
            if command.id in seen:
                self.duplicates += 1
                continue
            seen.add(command.id)
            self.take(command)

    def count(self, *, without: Collection[str] = ()) -> Counts:
        """The counts of the commands that are not refused, without those of these ids."""
        counted = [id_ for id_ in self.absorbed_ids if id_ not in without]
        applied = sum(map(self.state.has_taken, counted))
        return Counts(applied, len(counted) - applied, self.duplicates)

    def _must_wait(self, command: Command, condition: PreparedCondition) -> bool:
        if not condition.condition.after:
            return False
        needed = self.plan.dependencies.find_unsettled(
            command, condition.condition, self.state, self.settled
        )
        if needed is None or condition.fault is not None:  # it is refused for the fault
            return False
        self.unsettled_reason = f"command {command.id} waits for {needed}, which is not applied yet"
        return True

    def _complete(self, command: Command) -> Command:
        """The command with all fields of its item.

        A patch that may have to be kept is checked; others are checked when they are written.
        """
        body, encoder = command.body, self.plan.table.encoder
        if body is None:
            return command
        if command.op != "patch":
            return command._replace(body=encoder.complete_body(body))
        base = self.state.base
        if not self.state.has_item or (base is not None and command.id < base.id):
            encoder.encode_fields(body)
        return command


def _upcast_kept(table: Table, patch: Command) -> Command:
    """A kept patch in the current schema version; if that fails, it is refused with its item."""
    try:
        return upcast(patch, table.spec)
    except BodyError:
        return patch
