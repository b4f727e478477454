"""The operators' sweep: explain why objects are not applied, wait for them, find missed files."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

from forebay.archive.layout import IMPORTS_PREFIX
from forebay.archive.lines import InvalidLine, read_chunks
from forebay.attachments import UPLOADS_PREFIX
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.errors import PermanentError
from forebay.resource.spec import ResourceSpec
from forebay.sweep import (
    FileSurvey,
    Reason,
    Stored,
    Survey,
    enqueue,
    find_dead_objects,
    survey_files,
)
from ops.archive.store import ObjectStore, parse_bucket_name
from ops.console import Console
from ops.context import (
    ARCHIVE,
    ATTACHMENTS,
    IMPORT_DEAD_LETTERS,
    IMPORT_QUEUE,
    UPLOAD_DEAD_LETTERS,
    UPLOAD_QUEUE,
    Context,
    Setting,
)

#: The number of objects to explain (each may have to be read), and of files to name.
MAX_NAMED = 20
_LOOK_SECONDS = 2.0
#: Reasons that do not change by waiting.
_LASTING = frozenset({"dead_letter", "held", "unreadable"})

Why: TypeAlias = Literal["young", "dead_letter", "held", "unreadable", "interrupted", "missed"]


@dataclass(frozen=True, slots=True)
class Unapplied:
    """An object that is not applied."""

    object: str
    stored_at: dt.datetime
    why: Why
    #: A sentence with the next step.
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the object for the operator."""
        return {
            "object": self.object,
            "stored_at": self.stored_at,
            "why": self.why,
            "detail": self.detail,
        }


class Explainer:
    """Examines objects that are not applied."""

    def __init__(
        self,
        connection: Connection,
        store: ObjectStore,
        resources: Mapping[str, ResourceSpec],
        *,
        now: dt.datetime,
    ) -> None:
        """Create an explainer.

        Args:
            connection: a connection to a database with the ledger.
            store: the archive.
            resources: the declarations of this release.
            now: the current time.
        """
        self._connection = connection
        self._store = store
        self._resources = resources
        self._now = now

    def explain(self, unapplied: Iterable[tuple[Stored, Reason]]) -> list[Unapplied]:
        """Return the first `MAX_NAMED` of the objects, each with its reason."""
        return [
            Unapplied(
                archive_object.key,
                archive_object.modified,
                *self._find_reason(archive_object, reason),
            )
            for archive_object, reason in islice(unapplied, MAX_NAMED)
        ]

    def _find_reason(self, archive_object: Stored, reason: Reason) -> tuple[Why, str]:
        if reason == "dead":
            return "dead_letter", "it failed too often; `forebay dlq list` shows its message"
        try:
            version = next(self._find_held_versions(archive_object.key), None)
        except PermanentError as exc:
            return "unreadable", str(exc)
        if version is not None:
            return "held", f"it contains {version}; deploy a release that has it"
        if reason == "young":
            age = (self._now - archive_object.modified).total_seconds()
            return "young", f"it was stored {age:,.0f} s ago, and its event may still arrive"
        lines = self._count_applied_lines(archive_object.key)
        if lines is not None:
            return (
                "interrupted",
                f"{lines:,} of its lines are applied; its next delivery applies the rest",
            )
        return "missed", "its event was lost, or its message waits in the queue"

    def _find_held_versions(self, key: str) -> Iterator[str]:
        """Yield a description of each command with a schema version unknown to this release."""
        for chunk in read_chunks(self._store.read(key)):
            for entry in chunk:
                spec = (
                    None if isinstance(entry, InvalidLine) else self._resources.get(entry.resource)
                )
                if spec is None or isinstance(entry, InvalidLine):
                    continue
                if entry.schema > spec.schema_version:
                    yield f"commands of {entry.resource} in schema version {entry.schema}"

    def _count_applied_lines(self, key: str) -> int | None:
        row = self._connection.execute(
            "SELECT lines FROM forebay.ledger WHERE object = %s", [key]
        ).fetchone()
        return None if row is None else int(row[0])


def wait_until_applied(
    console: Console,
    survey: Callable[[], Survey],
    explain: Callable[[], list[Unapplied]],
    *,
    seconds: float,
    look_seconds: float = _LOOK_SECONDS,
) -> Survey:
    """Return when every object is applied, when waiting can't help, or when the time is over.

    Args:
        console: shows the progress.
        survey: counts the objects.
        explain: returns the first unapplied objects, each with its reason.
        seconds: the longest time to wait.
        look_seconds: the time between two surveys.

    Returns:
        The last survey.
    """
    deadline = time.monotonic() + seconds
    result = survey()
    total = result.missed + result.young
    with console.progress("wait", unit="objects", total=total) as meter:
        applied = 0
        while (remaining := result.missed + result.young) and time.monotonic() < deadline:
            meter.advance(max(0, total - remaining - applied))
            applied = max(applied, total - remaining)
            unapplied = explain() if remaining <= MAX_NAMED else []
            # Empty if the last object was applied after the survey.
            if unapplied and all(archive_object.why in _LASTING for archive_object in unapplied):
                break
            time.sleep(min(look_seconds, max(0.0, deadline - time.monotonic())))
            result = survey()
    return result


@dataclass(frozen=True, slots=True)
class Inbox:
    """Files that a function reads and leaves marked as read; all settings of its parts."""

    #: What the files are, in results and questions.
    name: str
    prefix: str
    bucket: Setting
    queue: Setting
    dead_letters: Setting


IMPORTS = Inbox("files to import", IMPORTS_PREFIX, ARCHIVE, IMPORT_QUEUE, IMPORT_DEAD_LETTERS)
UPLOADS = Inbox("uploads", UPLOADS_PREFIX, ATTACHMENTS, UPLOAD_QUEUE, UPLOAD_DEAD_LETTERS)


class MissedFiles:
    """The missed files of an inbox, listed once; none if its queue is not configured."""

    def __init__(
        self, context: Context, inbox: Inbox, *, since: dt.datetime | None, grace: dt.timedelta
    ) -> None:
        """List the files.

        Args:
            context: names the buckets and the queues.
            inbox: the files.
            since: files that were stored earlier are ignored; None includes all files.
            grace: younger files are ignored.
        """
        self.name = inbox.name
        self._queue: Queue | None = None
        self._survey = FileSurvey()
        url = context.find(inbox.queue)
        if url is None:
            return
        self._queue = Queue(context.sqs, url)
        self._bucket = parse_bucket_name(context.get(inbox.bucket))
        self._survey = survey_files(
            Archive(context.s3, self._bucket).list(inbox.prefix),
            since=since,
            born_before=dt.datetime.now(dt.UTC) - grace,
            dead=find_dead_objects(
                Queue(context.sqs, context.get(inbox.dead_letters)), self._bucket, inbox.prefix
            ),
        )

    @property
    def keys(self) -> list[str]:
        """The files with an event that their function may never have received."""
        return [file.key for file in self._survey.missed]

    @property
    def dead(self) -> int:
        """The number of files in the dead-letter queue."""
        return self._survey.dead

    def enqueue(self) -> None:
        """Enqueue the missed files; this is harmless for a file that has been read since."""
        if self._queue is not None:
            enqueue(self._queue, self._bucket, self.keys)

    def to_json(self) -> dict[str, Any] | None:
        """Return the result for the operator; None if the queue is not configured."""
        if self._queue is None:
            return None
        return {**self._survey.as_counts, "files": self.keys[:MAX_NAMED]}
