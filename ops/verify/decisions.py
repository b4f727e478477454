"""Compare the operators' decisions about rejections with their lines in the archive."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from forebay.db.connect import Connection
from ops.cut import get_cut_time
from ops.verify.compare import Findings

TABLE: Final = "forebay.decisions"
#: Members of an archived line, except the rejection that it refers to.
_MEMBERS: Final = ("decision", "command", "rule", "reason", "by", "run", "at")


class DecisionCheck:
    """One comparison of all decisions."""

    def __init__(
        self,
        connection: Connection,
        archived: Callable[[], Iterable[Mapping[str, Any]]],
        cut: str,
        findings: Findings,
    ) -> None:
        """Prepare a comparison.

        Args:
            connection: a connection to the database.
            archived: returns the archive's lines; a rejection may have several lines.
            cut: decisions after it may not have reached the database yet.
            findings: receives the differences.
        """
        self._connection = connection
        self._archived = archived
        self._until = get_cut_time(cut)
        self._findings = findings
        self.in_archive = self.in_database = self.differing = 0

    def run(self) -> None:
        """Report the differences.

        The database is read first, as a decision is archived before it is recorded.
        """
        in_database = self._read_decisions(None)
        latest: dict[str, Mapping[str, Any]] = {}
        for line in self._archived():
            previous = latest.get(line["rejection"])
            if previous is None or _parse_time(line["at"]) >= _parse_time(previous["at"]):
                latest[line["rejection"]] = line
        self.in_archive, self.in_database = len(latest), len(in_database)
        absent = [line for rejection, line in latest.items() if rejection not in in_database]
        self._report_absent([line["rejection"] for line in absent if self._is_due(line)])
        for rejection, members in in_database.items():
            if members is not None:  # otherwise a retry is under way
                self._compare(rejection, latest.get(rejection), members)

    def _is_due(self, line: Mapping[str, Any]) -> bool:
        return self._until is None or _parse_time(line["at"]) <= self._until

    def _report_absent(self, rejections: Sequence[str]) -> None:
        now = self._read_decisions(rejections) if rejections else {}
        for rejection in sorted(set(rejections) - now.keys()):
            self._add(rejection, "a decision", "absent")

    def _compare(
        self, rejection: str, line: Mapping[str, Any] | None, members: Mapping[str, Any]
    ) -> None:
        if line is None:
            self._add(rejection, "absent", "a decision")
            return
        archived = {**line, "at": _parse_time(line["at"])}
        names = [name for name in _MEMBERS if archived[name] != members[name]]
        if names or members["line"] is not None:
            names += ["line"] * (members["line"] is not None)
            self._add(rejection, "a decision", f"a decision with other {', '.join(names)}")

    def _add(self, rejection: str, archive: str, database: str) -> None:
        self.differing += 1
        self._findings.add(TABLE, rejection, archive, database)

    def _read_decisions(
        self, rejections: Sequence[str] | None
    ) -> dict[str, Mapping[str, Any] | None]:
        """Read decisions by rejection; None stands for a decision not recorded as archived."""
        ids = None if rejections is None else list(rejections)
        rows = self._connection.execute(_SELECT, {"wanted": ids}).fetchall()
        names = (*_MEMBERS, "line")
        return {
            rejection: dict(zip(names, members, strict=True)) if is_archived else None
            for rejection, is_archived, *members in rows
        }


def _parse_time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


_SELECT: Final = """
    SELECT rejection::text, recorded_at IS NOT NULL,
           decision, command::text, rule, reason, by, run::text, decided_at, line
    FROM forebay.decisions
    WHERE %(wanted)s::text[] IS NULL OR rejection::text = ANY(%(wanted)s::text[])
"""
