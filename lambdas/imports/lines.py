"""Decides the lines of a file, once for all runs of its import.

The objects of an import form a chain. Each object decides a range of lines. It contains the
commands of the accepted lines. Its metadata contain the end of the range, the number of refused
lines, and whether the import ends there. An object's name derives from the file's version and the
first line of its range, and S3 creates it once. So exactly one of several runs, of any releases,
decides each line; the other runs find that run's object and follow its decisions.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeAlias
from urllib.parse import quote, unquote

import orjson

from forebay.aws.archive import Archive, OpenObject
from forebay.errors import PermanentError
from forebay.intake.commands import Line
from forebay.problem import Problem
from lambdas.imports.ids import MAX_LINE, ObjectIds, line_of
from lambdas.imports.report import MAX_REPORTED, Report

#: The maximum number of items that one archive object decides.
CHUNK_ITEMS: Final = 10_000
CHUNK_BYTES: Final = 16 * 1024 * 1024

#: S3 stores at most 2 KB of metadata.
_MAX_ERROR: Final = 1_000
_REFUSED_BEFORE: Final = Problem(
    "refused_before",
    "an earlier run of this import, by another release, refused the item; store the file again "
    "to import it",
)

#: The command of an item, or the reason for its refusal; None if the report has no room for it.
Verdict: TypeAlias = Line | Problem | None


class ForeignObjectError(PermanentError):
    """An object with the name of an import's object was not written by an import."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The decisions of an import's object besides its commands: the object's metadata."""

    last_line: int
    refused: int
    #: True if the import ends with this object.
    is_last: bool
    #: Why the rest of the file was not read.
    error: str | None

    def metadata(self) -> dict[str, str]:
        """The metadata in the form that S3 stores."""
        members = {
            "last-line": str(self.last_line),
            "refused": str(self.refused),
            "is-last": str(int(self.is_last)),
        }
        if self.error is not None:
            members["error"] = quote(self.error)[:_MAX_ERROR]
        return members

    @classmethod
    def read(cls, opened: OpenObject, name: str) -> Self:
        """Read the metadata of a stored object.

        Raises:
            ForeignObjectError: the metadata are missing or invalid.
        """
        metadata: Mapping[str, str] = opened.metadata
        try:
            return cls(
                last_line=int(metadata["last-line"]),
                refused=int(metadata["refused"]),
                is_last=metadata["is-last"] == "1",
                error=unquote(metadata["error"]) if "error" in metadata else None,
            )
        except (KeyError, ValueError) as exc:
            raise ForeignObjectError(
                f"import-{name}.gz was not written by an import: {exc!r}"
            ) from exc


class Lines:
    """Decides the lines of one version of a file, chunk by chunk, in their order."""

    def __init__(self, archive: Archive, ids: ObjectIds, report: Report) -> None:
        """Start with no line decided.

        Args:
            archive: stores the objects.
            ids: the ids of the file's version.
            report: gets the decisions.
        """
        self._archive = archive
        self._ids = ids
        self._report = report
        self._undecided: list[tuple[int, Verdict]] = []
        self._size = 0
        #: The first line that no known object decides.
        self._next_line = 1
        #: The lines that the last known object accepted.
        self._accepted: frozenset[int] = frozenset()
        self._has_ended = False

    def add(self, line: int, verdict: Line | Problem) -> None:
        """Add this run's result for the next item; another run may have decided the item already.

        Raises:
            ForeignObjectError: a name that the import needs is in use.
            TransientError: S3 did not answer.
        """
        if line < self._next_line:
            self._explain(line, verdict)
            return
        self._undecided.append((line, self._drop_needless_reason(verdict)))
        if isinstance(verdict, Line):
            self._size += len(verdict.data)
        if len(self._undecided) >= CHUNK_ITEMS or self._size >= CHUNK_BYTES:
            self._decide()

    def end(self, error: str | None = None) -> None:
        """Decide the remaining lines, and end the chain.

        Args:
            error: why the rest of the file can't be read; None at the end of the file.

        Raises:
            ForeignObjectError, TransientError: as `add`.
        """
        while not self._has_ended:
            self._decide(is_last=True, error=error)

    def _decide(self, *, is_last: bool = False, error: str | None = None) -> None:
        """Create the next object of the chain, or follow the existing one."""
        commands = [verdict for _, verdict in self._undecided if isinstance(verdict, Line)]
        last_line = self._undecided[-1][0] if self._undecided else self._next_line
        extent = Extent(last_line, len(self._undecided) - len(commands), is_last, error)
        name = self._ids.name(self._next_line)
        lines = [command.data for command in commands]
        if self._archive.write_import(lines, name, extent.metadata()):
            self._take_over(extent, frozenset(line_of(command.command.id) for command in commands))
        else:
            opened = self._archive.open_import(name)
            self._take_over(Extent.read(opened, name), _read_accepted(opened))

    def _take_over(self, extent: Extent, accepted: frozenset[int]) -> None:
        """Report the decisions of an object; keep results of later lines."""
        self._report.accepted += len(accepted)
        self._report.refused += extent.refused
        self._accepted = accepted
        self._next_line = extent.last_line + 1
        if extent.is_last:
            self._next_line = MAX_LINE + 1
            self._has_ended = True
            self._report.error = extent.error
        pending, self._undecided, self._size = self._undecided, [], 0
        for line, verdict in pending:
            if line < self._next_line:
                self._explain(line, verdict)
            else:
                self._undecided.append((line, verdict))
                self._size += len(verdict.data) if isinstance(verdict, Line) else 0

    def _explain(self, line: int, verdict: Verdict) -> None:
        """Add the reason for a decided line to the report, if the line was refused."""
        if line not in self._accepted and verdict is not None:
            problem = _REFUSED_BEFORE if isinstance(verdict, Line) else verdict
            self._report.add_problem(line, problem)

    def _drop_needless_reason(self, verdict: Line | Problem) -> Verdict:
        """Drop a reason that the report has no room for, to bound the chunk's memory."""
        has_room = len(self._report.problems) < MAX_REPORTED
        return verdict if isinstance(verdict, Line) or has_room else None


def _read_accepted(opened: OpenObject) -> frozenset[int]:
    with gzip.GzipFile(fileobj=opened.file) as content:
        return frozenset(line_of(orjson.loads(line)["id"]) for line in content)
