"""Dependencies of decided commands: earlier commands of the key that have to be settled first.

Archive objects may be applied in another order than their commands were accepted. So a condition
that names a command of the client's own, by `Read-After` or as a tag of `If-Match`, is not decided
before that command is settled, or before `SETTLING_SECONDS` have passed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from forebay.apply.edits import KeyState
from forebay.command import Command
from forebay.conditions import SETTLING_SECONDS, Condition
from forebay.db.connect import Connection
from forebay.decisions.effects import find_effects
from forebay.decisions.rejections import find_rejected
from forebay.errors import BodyError
from forebay.ids import accepted_ms, is_decided_id
from forebay.status import Patches, Traces, find_status
from forebay.unmet import PRECONDITION_FAILED


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The decisions about the commands that the conditions of some commands name."""

    #: Whether commands may wait at all; a replay and a rehearsal never wait.
    may_wait: bool = False
    rejected: Collection[str] = ()
    #: By the id of a decided command that has passed, the id of its place.
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, commands: Iterable[Command], *, may_wait: bool) -> Self:
        """Look up the decisions about all commands that these commands name."""
        named = sorted({id_ for command in commands for id_ in _list_named(command)})
        if not named:
            return cls(may_wait)
        effects = find_effects(connection, named)
        places = {id_: effect.effective_id for id_, effect in effects.items()}
        return cls(may_wait, find_rejected(connection, named), places)

    def place(self, command_id: str) -> str:
        """The id under which a command has taken its place, if it has passed; else its own."""
        return self.places.get(command_id, command_id)

    def find_unsettled(
        self, command: Command, state: KeyState, settled: Collection[str]
    ) -> str | None:
        """The id of a command that has to be settled before this command can be decided.

        Args:
            command: a decided command.
            state: of its key.
            settled: commands that the same walk over the key has settled.

        Raises:
            BodyError: the command depends on a command that is not settled in time.
        """
        if command.condition is None:
            return None
        condition = Condition.of_json(command.condition)
        needed = self._find_pending(condition.after, state, settled)
        if needed is None and not condition.has_match(state.state_tag, self.place):
            tags = [tag for tag in condition.list_command_tags() if tag < command.id]
            needed = self._find_pending(tags, state, settled)
        if needed is None or (self.may_wait and _is_young(command)):
            return needed
        if needed in condition.after:
            detail = f"command {needed}, which it depends on, has not been applied"
            raise BodyError(PRECONDITION_FAILED, detail)
        return None

    def _find_pending(
        self, ids: Iterable[str], state: KeyState, settled: Collection[str]
    ) -> str | None:
        traces: Traces | None = None
        for id_ in ids:
            if id_ in settled or id_ in self.rejected or id_ in self.places or id_ in state.kept:
                continue
            traces = traces or _trace(state)
            if is_decided_id(id_) or find_status(id_, traces) == "pending":
                return id_
        return None


def _list_named(command: Command) -> Iterator[str]:
    if command.condition is not None:
        condition = Condition.of_json(command.condition)
        yield from condition.after
        yield from condition.list_command_tags()


def _is_young(command: Command) -> bool:
    return time.time() * 1000 < accepted_ms(command.id) + SETTLING_SECONDS * 1000


def _trace(state: KeyState) -> Traces:
    """The state as the status of a command sees it."""
    base = state.base
    patches = Patches(list(state.fields.values()), list(state.kept), state.recent)
    if base is None:
        return Traces(patches=patches)
    if base.is_delete:
        return Traces(tombstone=base.id, patches=patches)
    return Traces(base.id, base.is_create, patches=patches)
