"""The import without Lambda: from a batch of messages to commands, and a report for each file."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final

from forebay.aws.archive import Archive, ObjectGoneError, OpenObject
from forebay.aws.events import object_records
from forebay.errors import ForebayError
from forebay.intake.commands import Caller, CommandMaker, Line
from forebay.intake.json_text import parse
from forebay.log import Log
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from lambdas.imports import report as reports
from lambdas.imports.ids import ObjectIds
from lambdas.imports.items import Item, UnreadableFileError, items
from lambdas.imports.lines import ForeignObjectError, Lines
from lambdas.imports.report import Report

IMPORTS_PREFIX: Final = "imports/"

_NAME: Final = re.compile(
    r"imports/(?P<resource>[^/]+)/(?P<op>create|put)/.+\.(?:csv|ndjson)(?:\.gz)?"
)


class Importer:
    """Imports the files that messages tell of.

    Ids and keys derive from the object, its version and the line. A retry therefore makes the same
    commands, unless it is another release's; so each line is decided once (`Lines`).
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
                for key, record in object_records(
                    message["body"], bucket=self._archive.bucket, prefix=IMPORTS_PREFIX
                ):
                    self.import_object(key, version=_version(record))
            except ForebayError as exc:
                self._log.event("import_failed", level="WARNING", reason=str(exc))
                failures.append({"itemIdentifier": message["messageId"]})
        return {"batchItemFailures": failures}

    def import_object(self, key: str, *, version: str | None = None) -> Report:
        """Imports one version of a file, and stores its report beside it.

        Args:
            key: of the file.
            version: as S3 numbered it; None for the newest.

        Raises:
            TransientError: S3 did not answer; doing it again continues where it is needed.
        """
        started = time.monotonic()
        try:
            opened = self._archive.open(key, version=version)
        except ObjectGoneError:
            self._log.event("import_gone", level="WARNING", object=key)
            return Report(key, "")
        report = Report.of(key, opened)
        try:
            self._import(opened, report)
        except (UnreadableFileError, ForeignObjectError) as exc:
            report.error = str(exc)
        reports.store(self._archive, report)
        self._log.event(
            "imported",
            object=key,
            version=report.version,
            accepted=report.accepted,
            refused=report.refused,
            error=report.error,
            seconds=round(time.monotonic() - started, 3),
        )
        return report

    def _import(self, opened: OpenObject, report: Report) -> None:
        key = report.object
        named = _NAME.fullmatch(key)
        if named is None:
            raise self._no_such_name()
        ids = ObjectIds(key, opened.version, opened.stored_at)
        lines = Lines(self._archive, ids, report)
        try:
            spec = self._resources.get(named["resource"])
            if spec is None:
                raise self._no_such_name()
            make = _Maker(spec, named["op"], ids, report)
            for item in items(key, opened.file, spec):
                lines.add(item.line, make(item))
        except UnreadableFileError as exc:
            lines.end(str(exc))
        else:
            lines.end()

    def _no_such_name(self) -> UnreadableFileError:
        return UnreadableFileError(
            "the name must be imports/<resource>/<create or put>/<any>.<csv or ndjson>[.gz], "
            f"with one of {', '.join(sorted(self._resources))}"
        )


class _Maker:
    """Makes the commands of a file's items."""

    def __init__(self, spec: ResourceSpec, op: str, ids: ObjectIds, report: Report) -> None:
        key = report.object
        self._spec = spec
        self._op = op
        self._ids = ids
        self._maker = CommandMaker(ids)
        self._caller = Caller(by=f"import:{key}", idempotency_key=f"{key}@{report.version}")

    def __call__(self, item: Item) -> Line | Problem:
        """The command of an item, or the reason why there is none."""
        self._ids.line = item.line
        try:
            if item.fault is not None:
                return Problem("validation_failed", item.fault)
            parse(item.text)
            if self._op == "put":
                return self._maker.put_item(self._spec, item.text, self._caller)
            return self._maker.post(self._spec, item.text, self._caller, name=str(item.line))
        except ProblemError as exc:
            return exc.problem


def _version(record: Mapping[str, Any]) -> str | None:
    """The version that an event is about; None in a bucket that keeps no versions."""
    version = record["s3"]["object"].get("versionId")
    return version if isinstance(version, str) else None
