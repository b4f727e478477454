"""The import without Lambda: turns a batch of messages into commands, with a report per file."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from forebay.archive.layout import IMPORTS_PREFIX, REPORT_SUFFIX
from forebay.aws.archive import Archive, ObjectGoneError, OpenObject
from forebay.aws.events import iterate_records, read_principal
from forebay.errors import ForebayError
from forebay.intake.attachments import AttachmentCheck
from forebay.intake.commands import CommandMaker, Line, Origin
from forebay.intake.json_text import JsonText, parse_text
from forebay.log import Log
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from lambdas.imports import report as reports
from lambdas.imports.csv_rows import UnreadableFileError
from lambdas.imports.formats import has_known_ending, open_source
from lambdas.imports.ids import ObjectIds
from lambdas.imports.items import Item, read_items
from lambdas.imports.lines import ForeignObjectError, Lines
from lambdas.imports.report import Report

#: The uploader's name if S3's event does not contain it.
UNKNOWN_UPLOADER: Final = "unknown"

_NAME: Final = re.compile(r"imports/(?P<resource>[^/]+)/(?P<op>[^/]+)/(?P<file>.+)", re.DOTALL)
_NAME_RULE: Final = (
    "the name must be imports/<resource>/<create, put, patch or delete>/"
    "<any>.<csv, tsv, ndjson or jsonl>[.gz]"
)
_OPS: Final = ("create", "put", "patch", "delete")


class Importer:
    """Imports the files that messages name.

    Ids and keys derive from the object, its version and the line. A retry by the same release
    therefore makes the same commands. A retry by another release may not, so each line is decided
    only once (`Lines`).
    """

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        archive: Archive,
        log: Log,
        attachments: AttachmentCheck | None = None,
    ) -> None:
        self._resources = resources
        self._archive = archive
        self._log = log
        self._attachments = attachments or AttachmentCheck(None)

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Import every file of an SQS batch; the answer names the failed messages."""
        failures = []
        for message in event["Records"]:
            try:
                for key, record in iterate_records(
                    message["body"], bucket=self._archive.bucket, prefix=IMPORTS_PREFIX
                ):
                    self.import_object(
                        key, version=_read_version(record), uploader=read_principal(record)
                    )
            except ForebayError as exc:
                self._log.event("import_failed", level="WARNING", reason=str(exc))
                failures.append({"itemIdentifier": message["messageId"]})
        return {"batchItemFailures": failures}

    def import_object(
        self, key: str, *, version: str | None = None, uploader: str | None = None
    ) -> Report:
        """Import one version of a file, and store its report next to it.

        Args:
            key: the file's key.
            version: S3's version id; None for the newest version.
            uploader: the principal in S3's event; None if it has none.

        Raises:
            TransientError: S3 did not answer; a repeated call continues with the undecided lines.
        """
        started = time.monotonic()
        try:
            opened = self._archive.open(key, version=version)
        except ObjectGoneError:
            self._log.event("import_gone", level="WARNING", object=key)
            return Report(key, "")
        report = Report.of(key, opened)
        if _is_no_file(key, opened):
            return report
        try:
            self._import(opened, report, uploader)
        except (UnreadableFileError, ForeignObjectError) as exc:
            report.error = str(exc)
        reports.store(self._archive, report)
        self._log.event(
            "imported",
            object=key,
            version=report.version,
            uploader=uploader,
            accepted=report.accepted,
            refused=report.refused,
            error=report.error,
            seconds=round(time.monotonic() - started, 3),
        )
        return report

    def _import(self, opened: OpenObject, report: Report, uploader: str | None) -> None:
        key = report.object
        name, op = _read_name(key)
        ids = ObjectIds(key, opened.version, opened.stored_at)
        lines = Lines(self._archive, ids, report)
        try:
            spec = self._find_spec(name)
            origin = _build_origin(report, uploader)
            make_line = _LineMaker(spec, op, ids, origin, self._attachments)
            for item in read_items(open_source(key, opened), spec):
                lines.add(item.line, make_line(item))
        except UnreadableFileError as exc:
            lines.end(str(exc))
        else:
            lines.end()

    def _find_spec(self, name: str) -> ResourceSpec:
        spec = self._resources.get(name)
        if spec is None:
            names = ", ".join(sorted(self._resources))
            raise UnreadableFileError(f"{_NAME_RULE}; there is no resource {name!r}, only {names}")
        return spec


def _is_no_file(key: str, opened: OpenObject) -> bool:
    """Return True for a report, and for the empty object that S3's console creates as a folder."""
    if key.endswith("/"):
        return not opened.file.read(1)
    return key.endswith(REPORT_SUFFIX) and reports.is_report(opened)


def _read_name(key: str) -> tuple[str, str]:
    """The resource and the operation in a file's name.

    Raises:
        UnreadableFileError: the name is invalid; the message names the missing part.
    """
    match = _NAME.fullmatch(key)
    if match is None:
        raise UnreadableFileError(f"{_NAME_RULE}; it lacks a part")
    if match["op"] not in _OPS:
        raise UnreadableFileError(f"{_NAME_RULE}; {match['op']!r} is no operation")
    if not has_known_ending(match["file"]):
        ending = "".join(PurePosixPath(match["file"]).suffixes[-2:])
        description = repr(ending) if ending else "no ending"
        raise UnreadableFileError(f"{_NAME_RULE}; files with {description} are not read")
    return match["resource"], match["op"]


class _LineMaker:
    """Makes the commands of a file's items."""

    def __init__(
        self,
        spec: ResourceSpec,
        op: str,
        ids: ObjectIds,
        origin: Origin,
        attachments: AttachmentCheck,
    ) -> None:
        self._spec = spec
        self._op = op
        self._ids = ids
        self._commands = CommandMaker(ids, attachments)
        self._origin = origin

    def __call__(self, item: Item) -> Line | Problem:
        """Make an item's command, or return the problem with the item."""
        self._ids.line = item.line
        try:
            if item.fault is not None:
                return Problem("validation_failed", item.fault)
            json_item = parse_text(item.text)
            return self._make(json_item, name=str(item.line))
        except ProblemError as exc:
            return exc.problem

    def _make(self, item: JsonText, *, name: str) -> Line:
        match self._op:
            case "delete":
                return self._commands.delete_item(self._spec, item, self._origin)
            case "put":
                return self._commands.put_item(self._spec, item, self._origin)
            case "patch":
                return self._commands.patch_item(self._spec, item, self._origin)
            case _:
                return self._commands.create(self._spec, item, self._origin, name=name)


def _build_origin(report: Report, uploader: str | None) -> Origin:
    """The origin of a file's commands; server-made keys depend on the file, not on the uploader."""
    return Origin(
        by=f"import:{uploader or UNKNOWN_UPLOADER}:{report.object}",
        idempotency_key=f"{report.object}@{report.version}",
        key_owner=f"import:{report.object}",
    )


def _read_version(record: Mapping[str, Any]) -> str | None:
    """The object's version in an S3 event; None in a bucket without versioning."""
    version = record["s3"]["object"].get("versionId")
    return version if isinstance(version, str) else None
