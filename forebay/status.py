"""The status of a command, derived from the tables: no state is kept per command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from forebay.ids import is_create_id, is_outdated, original_version

CommandStatus = Literal["pending", "applied", "superseded", "rejected"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a command was rejected."""

    code: str
    detail: str
    #: The SQLSTATE of the error, where Postgres refused the row.
    sqlstate: str | None = None


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

    @classmethod
    def of_columns(
        cls,
        version: str | None,
        *,
        by_create: bool | None,
        tombstone: str | None = None,
        rejection: Reason | None = None,
    ) -> Self:
        """Read from the tables' columns; an outdated row counts as before it was marked."""
        if version is not None and is_outdated(version):
            version = original_version(version)
            by_create = is_create_id(version)
        return cls(version, bool(by_create), tombstone, rejection)


def find_status(command_id: str, traces: Traces) -> CommandStatus:
    """The status of a command whose id this deployment made.

    A command that can't win against the row or tombstone of its key (law 2) is superseded, whether
    apply has processed it or not.
    """
    if traces.rejection is not None:
        return "rejected"
    version = traces.row_version or traces.tombstone
    if version is None:
        return "pending"
    if version == command_id:
        return "applied"
    row_by_create = traces.row_version is not None and traces.row_by_create
    if is_create_id(command_id):
        is_beaten = not row_by_create or version < command_id
    else:
        is_beaten = not row_by_create and version > command_id
    return "superseded" if is_beaten else "pending"
