"""The import without Lambda: from a batch of messages to commands, and a report for each file."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from forebay.aws.archive import Archive, ObjectGoneError, OpenObject
from forebay.aws.events import object_keys
from forebay.errors import ForebayError
from forebay.intake.commands import Caller, CommandMaker, Line
from forebay.intake.json_text import parse
from forebay.log import Log
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from lambdas.imports.ids import ObjectIds
from lambdas.imports.items import Item, UnreadableFileError, items

IMPORTS_PREFIX: Final = "imports/"
#: One object of the archive, which the consumer applies like any other.
CHUNK_COMMANDS: Final = 10_000
CHUNK_BYTES: Final = 16 * 1024 * 1024
#: Refused items that the report names; it counts all of them.
MAX_REPORTED: Final = 1_000

_NAME: Final = re.compile(
    r"imports/(?P<resource>[^/]+)/(?P<op>create|put)/.+\.(?:csv|ndjson)(?:\.gz)?"
)


@dataclass(slots=True)
class Report:
    """What became of a file; the object beside it."""

    object: str
    version: str
    accepted: int = 0
    refused: int = 0
    #: Why nothing, or nothing more, of the file was read.
    error: str | None = None
    #: The first of the refused items, with their lines.
    problems: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, item: Item, problem: Problem) -> None:
        """Counts an item that is no valid command."""
        self.refused += 1
        if len(self.problems) < MAX_REPORTED:
            self.problems.append(
                {
                    "line": item.line,
                    "code": problem.code,
                    "detail": problem.detail,
                    "errors": [dict(error) for error in problem.errors],
                }
            )


class Importer:
    """Imports the files that messages tell of.

    Everything that a retry does again is the same: ids and keys derive from the object, its version
    and the line, and so do the names of the objects that are written. What is there already stays.
    """

    def __init__(
        self, *, resources: Mapping[str, ResourceSpec], archive: Archive, log: Log
    ) -> None:
        self._resources = resources
        self._archive = archive
        self._log = log

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Imports every file of an SQS batch; the answer names the messages to try again."""
        failures = []
        for message in event["Records"]:
            try:
                for key in object_keys(
                    message["body"], bucket=self._archive.bucket, prefix=IMPORTS_PREFIX
                ):
                    self.import_object(key)
            except ForebayError as exc:
                self._log.event("import_failed", level="WARNING", reason=str(exc))
                failures.append({"itemIdentifier": message["messageId"]})
        return {"batchItemFailures": failures}

    def import_object(self, key: str) -> Report:
        """Imports one file, and stores its report beside it.

        Raises:
            TransientError: S3 did not answer; doing it again continues where it is needed.
        """
        started = time.monotonic()
        try:
            opened = self._archive.open(key)
        except ObjectGoneError:
            self._log.event("import_gone", level="WARNING", object=key)
            return Report(key, "")
        report = Report(key, opened.version)
        try:
            self._import(key, opened, report)
        except UnreadableFileError as exc:
            report.error = str(exc)
        self._archive.write_import_report(key, asdict(report))
        self._log.event(
            "imported",
            object=key,
            accepted=report.accepted,
            refused=report.refused,
            error=report.error,
            seconds=round(time.monotonic() - started, 3),
        )
        return report

    def _import(self, key: str, opened: OpenObject, report: Report) -> None:
        named = _NAME.fullmatch(key)
        spec = self._resources.get(named["resource"]) if named else None
        if named is None or spec is None:
            raise UnreadableFileError(
                "the name must be imports/<resource>/<create or put>/<any>.<csv or ndjson>[.gz], "
                f"with one of {', '.join(sorted(self._resources))}"
            )
        chunk: list[Line] = []
        size = 0
        try:
            for line in _commands(opened, spec, named["op"], report):
                chunk.append(line)
                size += len(line.data)
                if len(chunk) == CHUNK_COMMANDS or size >= CHUNK_BYTES:
                    self._store(chunk, report)
                    chunk, size = [], 0
        except UnreadableFileError:
            self._store(chunk, report)
            raise
        self._store(chunk, report)

    def _store(self, chunk: list[Line], report: Report) -> None:
        if chunk:
            self._archive.write_import([line.data for line in chunk], chunk[0].command.id)
            report.accepted += len(chunk)


def _commands(opened: OpenObject, spec: ResourceSpec, op: str, report: Report) -> Iterator[Line]:
    """The commands of the file's items, and in the report those that are none."""
    key = report.object
    ids = ObjectIds(key, opened.version, opened.stored_at)
    maker = CommandMaker(ids)
    caller = Caller(by=f"import:{key}", idempotency_key=f"{key}@{opened.version}")
    for item in items(key, opened.file, spec):
        ids.line = item.line
        try:
            _check(item)
            if op == "put":
                yield maker.put_item(spec, item.text, caller)
            else:
                yield maker.post(spec, item.text, caller, index=item.line)
        except ProblemError as exc:
            report.refuse(item, exc.problem)


def _check(item: Item) -> None:
    if item.fault is not None:
        raise ProblemError(Problem("validation_failed", item.fault))
    parse(item.text)
