"""The report of an import: which items of a file were accepted, and why others were refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from forebay.aws.archive import REPORT_SUFFIX, Archive, OpenObject
from forebay.problem import Problem

#: Refused items that the report names; it counts all of them.
MAX_REPORTED: Final = 1_000

#: Metadata by which a report is told from a file that somebody has given such a name.
_MARK: Final = {"forebay": "import-report"}


@dataclass(slots=True)
class Report:
    """What became of one version of a file."""

    object: str
    version: str
    #: When the version was stored (ISO 8601, UTC); None if there is none.
    stored_at: str | None = None
    accepted: int = 0
    refused: int = 0
    #: Why nothing, or nothing more, of the file was read.
    error: str | None = None
    #: The first of the refused items, with their lines.
    problems: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, key: str, opened: OpenObject) -> Report:
        """The report of a file of which nothing is decided yet."""
        return cls(key, opened.version, opened.stored_at.astimezone(dt.UTC).isoformat())

    def add_problem(self, line: int, problem: Problem) -> None:
        """Says why a line was refused, as long as there is room."""
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
    """Stores a report beside its file.

    The report of a version is never replaced by another run's, and never by that of an older
    version: the older one is stored under the name of its version.

    Raises:
        TransientError: not stored, as far as we know.
    """
    key = f"{report.object}{REPORT_SUFFIX}"
    text = orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    while not archive.create(key, text, _MARK):
        existing = archive.open(key)
        version, stored_at = _described(existing)
        if version == report.version:
            return
        if stored_at >= (report.stored_at or ""):
            archive.create(f"{report.object}.{report.version}{REPORT_SUFFIX}", text, _MARK)
            return
        if archive.replace_text(key, text, existing.etag, _MARK):
            return


def is_report(opened: OpenObject) -> bool:
    """Whether an import has written the object."""
    return _MARK.items() <= opened.metadata.items()


def _described(existing: OpenObject) -> tuple[str, str]:
    """Version and time of the file that a report is about; empty texts if it is no report."""
    try:
        members = orjson.loads(existing.file.read())
        return str(members["version"]), str(members["stored_at"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "", ""
