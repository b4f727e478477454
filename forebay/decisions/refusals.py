"""Refusals: commands and lines that could not be applied, before a decision about them."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from forebay.archive.lines import Entry, InvalidLine
from forebay.command import Command
from forebay.db.faults import CONFLICTS, choose_fault_code, describe_fault
from forebay.errors import BodyError


class Refusal(NamedTuple):
    """A command, or an invalid line, that a run could not apply."""

    entry: Entry
    #: A stable name of the reason.
    code: str
    detail: str
    sqlstate: str | None = None
    #: The error, if other rows caused it: the command may apply after its neighbours.
    conflict: psycopg.Error | None = None

    @classmethod
    def of_body(cls, command: Command, error: BodyError) -> Refusal:
        """The refusal of a command with a key or body that does not fit the declaration."""
        return cls(command, error.code, str(error))

    @classmethod
    def of_line(cls, line: InvalidLine) -> Refusal:
        """The refusal of a line that is not a command."""
        return cls(line, line.code, line.detail)

    @classmethod
    def of_row(cls, command: Command, error: psycopg.Error) -> Refusal:
        """The refusal of a command with a row that failed alone."""
        return cls(
            command,
            choose_fault_code(error),
            describe_fault(error),
            error.sqlstate,
            conflict=error if error.sqlstate in CONFLICTS else None,
        )

    @property
    def command(self) -> Command:
        """The refused command; only of a refusal that is not of an invalid line."""
        assert isinstance(self.entry, Command)  # noqa: S101 - the caller knows its entries
        return self.entry

    @property
    def line(self) -> InvalidLine:
        """The invalid line; only of a refusal of an invalid line."""
        assert isinstance(self.entry, InvalidLine)  # noqa: S101 - the caller knows its entries
        return self.entry

    @property
    def needs_other_release(self) -> bool:
        """True if the reason is this release's code or declarations, not Postgres or the line."""
        return not isinstance(self.entry, InvalidLine) and self.sqlstate is None

    @property
    def depends_on_other_rows(self) -> bool:
        """True if the command may apply after other commands."""
        return self.sqlstate in CONFLICTS
