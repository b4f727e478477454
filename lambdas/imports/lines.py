"""Decides the lines of a file, once for all runs of its import.

The objects of an import form a chain. Each decides a range of lines: it holds the commands of the
accepted ones, and its metadata say where the range ends, how many lines of it were refused, and
whether the import ends with it. An object's name derives from the file's version and the first line
of its range, and S3 creates it once. So of several runs, by whatever releases, exactly one decides
each line; the others find its object and take over what it says.
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

#: Items that one object of the archive decides at most.
CHUNK_ITEMS: Final = 10_000
CHUNK_BYTES: Final = 16 * 1024 * 1024

#: S3 keeps 2 KB of metadata.
_MAX_ERROR: Final = 1_000
_REFUSED_BEFORE: Final = Problem(
    "refused_before",
    "an earlier run of this import, by another release, refused the item; store the file again "
    "to import it",
)

#: The command of an item, or why there is none; None if the report has no room for the reason.
Verdict: TypeAlias = Line | Problem | None


class ForeignObjectError(PermanentError):
    """An object with the name of an import's object was not written by an import."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What an object of an import decides beside its commands: the object's metadata."""

    last_line: int
    refused: int
    #: Whether no object follows, for the import ends here.
    is_last: bool
    #: Why nothing more of the file was read.
    error: str | None

    def metadata(self) -> dict[str, str]:
        """As S3 stores it."""
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
        """The metadata of a stored object.

        Raises:
            ForeignObjectError: it has none.
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
    """The lines of one version of a file, decided chunk by chunk in their order."""

    def __init__(self, archive: Archive, ids: ObjectIds, report: Report) -> None:
        """None of its lines is decided yet.

        Args:
            archive: where the objects are.
            ids: of the version.
            report: gets what was decided.
        """
        self._archive = archive
        self._ids = ids
        self._report = report
        self._undecided: list[tuple[int, Verdict]] = []
        self._size = 0
        #: The first line that no object known here decides.
        self._next_line = 1
        #: Those that the last known object accepted.
        self._accepted: frozenset[int] = frozenset()
        self._has_ended = False

    def add(self, line: int, verdict: Line | Problem) -> None:
        """Takes the verdict of this run on the next item; another run may have decided it.

        Raises:
            ForeignObjectError: a name that the import needs is in use.
            TransientError: S3 did not answer.
        """
        if line < self._next_line:
            self._explain(line, verdict)
            return
        self._undecided.append((line, self._without_needless_reason(verdict)))
        if isinstance(verdict, Line):
            self._size += len(verdict.data)
        if len(self._undecided) >= CHUNK_ITEMS or self._size >= CHUNK_BYTES:
            self._decide()

    def end(self, error: str | None = None) -> None:
        """Decides the rest, and that nothing follows.

        Args:
            error: why nothing more of the file can be read; None at its end.

        Raises:
            ForeignObjectError, TransientError: as `add`.
        """
        while not self._has_ended:
            self._decide(is_last=True, error=error)

    def _decide(self, *, is_last: bool = False, error: str | None = None) -> None:
        """Creates the next object of the chain, or takes over the one that exists."""
        commands = [verdict for _, verdict in self._undecided if isinstance(verdict, Line)]
        last_line = self._undecided[-1][0] if self._undecided else self._next_line
        extent = Extent(last_line, len(self._undecided) - len(commands), is_last, error)
        name = self._ids.name(self._next_line)
        lines = [command.data for command in commands]
        if self._archive.write_import(lines, name, extent.metadata()):
            self._take_over(extent, frozenset(line_of(command.command.id) for command in commands))
        else:
            opened = self._archive.open_import(name)
            self._take_over(Extent.read(opened, name), _accepted_lines(opened))

    def _take_over(self, extent: Extent, accepted: frozenset[int]) -> None:
        """Reports what an object decides; verdicts on later lines remain."""
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
        """Says in the report why a decided line was refused, if it was."""
        if line not in self._accepted and verdict is not None:
            problem = _REFUSED_BEFORE if isinstance(verdict, Line) else verdict
            self._report.add_problem(line, problem)

    def _without_needless_reason(self, verdict: Line | Problem) -> Verdict:
        """A chunk of bad items must not hold more reasons than the report can take."""
        has_room = len(self._report.problems) < MAX_REPORTED
        return verdict if isinstance(verdict, Line) or has_room else None


def _accepted_lines(opened: OpenObject) -> frozenset[int]:
    with gzip.GzipFile(fileobj=opened.file) as content:
        return frozenset(line_of(orjson.loads(line)["id"]) for line in content)
