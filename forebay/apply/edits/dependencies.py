"""Dependencies of decided commands: earlier commands of the key that have to be settled first.

Archive objects may be applied in another order than their commands were accepted. So a condition
that names commands in its member `after` is not examined before they are settled, or before
`SETTLING_SECONDS` have passed since the object's first delivery.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from forebay.apply.edits.state import KeyState
from forebay.command import Command
from forebay.conditions import MAX_DEPENDENCY_AGE_SECONDS, SETTLING_SECONDS, Condition
from forebay.db.connect import Connection
from forebay.decisions.effects import find_effective_ids
from forebay.decisions.rejections import find_rejected
from forebay.errors import BodyError
from forebay.ids import accepted_ms, is_decided_command_id
from forebay.status import Patches, Traces, find_status
from forebay.unmet import PRECONDITION_FAILED


@dataclass(slots=True)
class Settled:
    """The decided commands of a key about which the same transaction has made decisions."""

    #: By id, of those that have passed.
    effective_ids: dict[str, str] = field(default_factory=dict)
    refused_ids: set[str] = field(default_factory=set)

    def has(self, command_id: str) -> bool:
        """Return whether a command is settled."""
        return command_id in self.effective_ids or command_id in self.refused_ids


@dataclass(frozen=True, slots=True)
class Patience:
    """How long commands may wait for others."""

    #: False in a replay and in a rehearsal.
    may_wait: bool = False
    #: When the object was first delivered, in ms; None: counted from each command's acceptance.
    delivered_ms: int | None = None

    def lasts(self, command: Command, needed: str) -> bool:
        """Return whether a command may still wait for the command with the id `needed`."""
        accepted = accepted_ms(command.id)
        begun = accepted if self.delivered_ms is None else self.delivered_ms
        return (
            self.may_wait
            and accepted - accepted_ms(needed) <= MAX_DEPENDENCY_AGE_SECONDS * 1000
            and time.time() * 1000 < begun + SETTLING_SECONDS * 1000
        )


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The decisions about the commands that the conditions of some commands name."""

    patience: Patience = Patience()
    rejected: Collection[str] = ()
    #: By the id of a decided command that has passed, its effective id.
    effective_ids: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, commands: Iterable[Command], patience: Patience) -> Self:
        """Look up the decisions about all commands that these commands name."""
        named = sorted({id_ for command in commands for id_ in _list_named(command)})
        if not named:
            return cls(patience)
        return cls(
            patience, find_rejected(connection, named), find_effective_ids(connection, named)
        )

    def find_unsettled(
        self, command: Command, condition: Condition, state: KeyState, settled: Settled
    ) -> str | None:
        """The id of a command that has to be settled before the decision about this command.

        Args:
            command: a decided command.
            condition: the command's.
            state: of its key.
            settled: the commands that the same transaction has settled.

        Raises:
            BodyError: the command depends on a command that was not settled in time.
        """
        needed = self._find_pending(condition.after, state, settled)
        if needed is not None and not self.patience.lasts(command, needed):
            detail = f"command {needed}, which it depends on, has not been applied in time"
            raise BodyError(PRECONDITION_FAILED, detail)
        return needed

    def find_effective_id(self, settled: Settled, command_id: str) -> str:
        """The id under which a command has taken its place, if it has passed; else its own."""
        return settled.effective_ids.get(command_id) or self.effective_ids.get(
            command_id, command_id
        )

    def _find_pending(self, ids: Iterable[str], state: KeyState, settled: Settled) -> str | None:
        traces: Traces | None = None
        for id_ in ids:
            if id_ in self.rejected or id_ in self.effective_ids or settled.has(id_):
                continue
            traces = traces or _trace(state)
            if is_decided_command_id(id_) or find_status(id_, traces) == "pending":
                return id_
        return None


def _list_named(command: Command) -> Iterator[str]:
    members = command.condition
    if members is not None and ("after" in members or "match" in members):
        condition = Condition.of_json(members)
        yield from condition.after
        yield from condition.list_command_tags()


def _trace(state: KeyState) -> Traces:
    """The state as the status of a command sees it."""
    base = state.base
    patches = Patches(list(state.fields.values()), list(state.kept), state.recent)
    if base is None:
        return Traces(patches=patches)
    if base.is_delete:
        return Traces(tombstone=base.id, patches=patches)
    return Traces(base.id, base.is_create, patches=patches)
