"""The status of a command, derived from the tables: no state is kept per command.

An id does not show the kind of its command, apart from a create's. An id that the tables have no
trace of can be of a put that has not arrived, so it is `superseded` only if neither a put nor a
patch with this id could have an effect, or if it must be of a forgotten patch (`Patches.recent`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, Self

from forebay.ids import is_create_id, is_decided_command_id, is_outdated, original_version

CommandStatus = Literal["pending", "applied", "superseded", "rejected"]

#: How many ids a full list of `Patches.recent` has: `forebay.apply.edits.state.RECENT_IDS`, which
#: the read function must not import.
RECENT_IDS: Final = 16


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a command was rejected."""

    code: str
    detail: str
    #: The SQLSTATE of the error, where Postgres refused the row.
    sqlstate: str | None = None
    #: The command that an operator has sent in its place.
    amended_by: str | None = None


@dataclass(frozen=True, slots=True)
class Patches:
    """The ids of the patches that the tables know of a key, as in `forebay.apply.edits.state`."""

    #: Patches that set values of the item.
    in_item: Collection[str] = ()
    #: Patches without effect that may have one later.
    kept: Collection[str] = ()
    #: The last patches without a remaining effect. If the list is full, older ones are forgotten.
    recent: Collection[str] = ()

    def may_have_forgotten(self, command_id: str) -> bool:
        """Return whether the id is below those of a full list of patches without effect."""
        return len(self.recent) >= RECENT_IDS and command_id < min(self.recent)


@dataclass(frozen=True, slots=True)
class Traces:
    """The tables' contents about a command's key, and about the command itself."""

    #: Version of the row, and whether a create made it; None if there is no row.
    row_version: str | None = None
    row_by_create: bool = False
    #: Version of the tombstone, if there is one.
    tombstone: str | None = None
    #: Why the command was rejected, if it was.
    rejection: Reason | None = None
    patches: Patches = Patches()
    #: The id under which a decided command has taken its place, if it has passed.
    effective_id: str | None = None

    @classmethod
    def of_columns(
        cls,
        version: str | None,
        *,
        by_create: bool | None,
        tombstone: str | None = None,
        rejection: Reason | None = None,
        patches: Patches = Patches(),
        effective_id: str | None = None,
    ) -> Self:
        """Read from the tables' columns; an outdated row counts as before it was marked."""
        if version is not None and is_outdated(version):
            version = original_version(version)
            by_create = is_create_id(version)
        return cls(version, bool(by_create), tombstone, rejection, patches, effective_id)

    @property
    def base(self) -> str | None:
        """The put, create or delete that the row or the tombstone is from."""
        return self.row_version or self.tombstone

    @property
    def has_item(self) -> bool:
        """True if there is a row."""
        return self.row_version is not None

    def does_base_beat(self, command_id: str) -> bool:
        """Return whether neither a put nor a patch of this id, nor a create, can win (law 2)."""
        if self.base is None:
            return False
        row_by_create = self.has_item and self.row_by_create
        if is_create_id(command_id):
            return not row_by_create or self.base < command_id
        return not row_by_create and self.base > command_id


def find_status(command_id: str, traces: Traces) -> CommandStatus:
    """The status of a command with an id of this deployment.

    A command that can't win against the row or tombstone of its key (law 2) is superseded, whether
    apply has processed it or not.
    """
    if traces.rejection is not None:
        return "rejected"
    if traces.effective_id is None and is_decided_command_id(command_id):
        return "pending"  # its outcome does not depend on its id
    place, patches = traces.effective_id or command_id, traces.patches
    if place == traces.base or place in patches.in_item:
        return "applied"
    if traces.does_base_beat(place) or place in patches.recent:
        return "superseded"
    if place in patches.kept:
        return "superseded" if traces.has_item else "pending"
    # Without an item, a put that is older than all patches is just what they wait for.
    is_forgotten = traces.has_item and patches.may_have_forgotten(place)
    return "superseded" if is_forgotten and not is_create_id(place) else "pending"


def find_superseding(command_id: str, traces: Traces) -> str | None:
    """The command that beat a superseded command: the base, or else the key's newest patch."""
    place, patches = traces.effective_id or command_id, traces.patches
    is_before_create = traces.has_item and place in patches.kept
    if is_before_create or traces.does_base_beat(place):
        return traces.base
    newer = (patch for patch in (*patches.in_item, *patches.kept) if patch > place)
    return max(newer, default=traces.base)
