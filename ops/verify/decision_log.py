"""Compare the database's row about the decision log with the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from forebay.archive.decisions import NOTHING_READ, LogEntry
from forebay.db.connect import Connection
from ops.verify.compare import Findings

_TABLE: Final = "forebay.decision_log"


@dataclass(slots=True)
class LogComparison:
    """The database's row about the decision log, and the log's own state at that position."""

    position: int = NOTHING_READ
    owner: str | None = None
    database: str | None = None
    last: int = NOTHING_READ
    owner_there: str | None = None

    @classmethod
    def read(cls, connection: Connection) -> LogComparison:
        """Read the database's row."""
        row = connection.execute(
            "SELECT position, owner::text, database::text FROM forebay.decision_log"
        ).fetchone()
        return cls() if row is None else cls(*row)

    @property
    def is_owner(self) -> bool:
        """True if the database owns the archive."""
        return self.database is not None and self.owner == self.database

    def meet(self, entry: LogEntry) -> None:
        """Record an entry of the log."""
        self.last = entry.slot
        if entry.slot <= self.position:
            self.owner_there = entry.owner or self.owner_there

    def judge(self, findings: Findings) -> None:
        """Add the values of the database's row that contradict the log."""
        if self.position > self.last:
            findings.add(_TABLE, "position", f"{self.last} entries", str(self.position))
        elif self.owner != self.owner_there:
            findings.add(_TABLE, "owner", str(self.owner_there), str(self.owner))
