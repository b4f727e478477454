"""Refusals: commands and lines that could not be applied, before a decision about them."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.archive.lines import Entry, InvalidLine
from forebay.db.faults import CONFLICTS


@dataclass(frozen=True, slots=True)
class Undecided:
    """A candidate: a command or line that could not be applied, and is not decided yet."""

    #: As it was archived.
    entry: Entry
    #: A stable name of the reason.
    code: str
    detail: str
    sqlstate: str | None = None

    @property
    def needs_other_release(self) -> bool:
        """True if the reason is this release's code or declarations, not Postgres or the line."""
        return not isinstance(self.entry, InvalidLine) and self.sqlstate is None

    @property
    def depends_on_other_rows(self) -> bool:
        """True if the command may apply after other commands."""
        return self.sqlstate in CONFLICTS
