"""The report of an import: counts the accepted items, and gives reasons for the refused ones."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from forebay.archive.layout import REPORT_SUFFIX
from forebay.aws.archive import Archive, OpenObject
from forebay.problem import Problem

#: The report lists this many refused items; it counts all of them.
MAX_REPORTED: Final = 1_000

#: Metadata that distinguish a report from a user's file with such a name.
_MARK: Final = {"forebay": "import-report"}


@dataclass(slots=True)
class Report:
    """The result of importing one version of a file."""

    object: str
    version: str
    #: When the version was stored (ISO 8601, UTC); None if it does not exist.
    stored_at: str | None = None
    accepted: int = 0
    refused: int = 0
    #: Why the file, or its rest, was not read.
    error: str | None = None
    #: The first refused items, with their lines.
    problems: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, key: str, opened: OpenObject) -> Report:
        """An empty report for a file."""
        return cls(key, opened.version, opened.stored_at.astimezone(dt.UTC).isoformat())

    def add_problem(self, line: int, problem: Problem) -> None:
        """Add the reason for a refused line, up to the limit."""
        if len(self.problems) < MAX_REPORTED:
            self.problems.append(
                {
                    "line": line,
                    "code": problem.code,
                    "detail": problem.detail,
                    "errors": [dict(error) for error in problem.errors],
                }
            )


def store(archive: Archive, report: Report) -> None:
    """Store a report next to its file.

    Another run never replaces a version's report, and an older version never replaces a newer
    version's report: its own is stored under a name with its version.

    Raises:
        TransientError: S3 did not acknowledge the report; it may be stored anyway.
    """
    key = f"{report.object}{REPORT_SUFFIX}"
    text = orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    while not archive.create(key, text, _MARK):
        existing = archive.open(key)
        version, stored_at = _read_identity(existing)
        if version == report.version:
            return
        if stored_at >= (report.stored_at or ""):
            archive.create(f"{report.object}.{report.version}{REPORT_SUFFIX}", text, _MARK)
            return
        if archive.replace_text(key, text, existing.etag, _MARK):
            return


def is_report(opened: OpenObject) -> bool:
    """Return True if an import has written the object."""
    return _MARK.items() <= opened.metadata.items()


def _read_identity(existing: OpenObject) -> tuple[str, str]:
    """The version and time of a report's file; empty texts if the object is not a report."""
    try:
        members = orjson.loads(existing.file.read())
        return str(members["version"]), str(members["stored_at"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "", ""
