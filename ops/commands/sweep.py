"""`forebay sweep`: find archive objects that are not applied, and enqueue them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated

import typer

from forebay.archive.layout import COMMANDS_PREFIX, StoredObject, format_hour
from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.sweep import Survey, Sweep, enqueue, find_dead_objects
from ops import options
from ops.archive.store import ObjectStore, parse_bucket_name
from ops.commands.arguments import DeadLetterQueueUrl, QueueUrl, build_console
from ops.console import Console
from ops.context import (
    ARCHIVE,
    DATABASE,
    DEAD_LETTERS,
    IMPORT_DEAD_LETTERS,
    IMPORT_QUEUE,
    QUEUE,
    Context,
)
from ops.exit_codes import ExitCode
from ops.sweeping import (
    IMPORTS,
    UPLOADS,
    Explainer,
    MissedFiles,
    Unapplied,
    wait_until_applied,
)

_GRACE_SECONDS = 120

_Since = Annotated[
    str | None,
    typer.Option("--from", help="Only objects stored at this time or later (default: all)."),
]
_Grace = Annotated[int, typer.Option(min=0, help="Leave out younger objects, in seconds.")]
_Wait = Annotated[
    int,
    typer.Option(
        "--wait", min=0, help="Wait until all objects are applied, for at most this many seconds."
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Enqueue nothing.")]
_ImportQueueUrl = Annotated[
    str | None,
    typer.Option(
        "--import-queue-url",
        help="The imports' queue; if it is unknown, files to import are left out. "
        "[env var: FOREBAY_IMPORT_QUEUE_URL]",
    ),
]
_ImportDeadLetterQueueUrl = Annotated[
    str | None,
    typer.Option(
        "--import-dead-letter-queue-url",
        help="The imports' dead-letter queue. [env var: FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL]",
    ),
]


def sweep(
    *,
    since: _Since = None,
    grace: _Grace = _GRACE_SECONDS,
    wait: _Wait = 0,
    dry_run: _DryRun = False,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    queue_url: QueueUrl = None,
    dead_letter_queue_url: DeadLetterQueueUrl = None,
    import_queue_url: _ImportQueueUrl = None,
    import_dead_letter_queue_url: _ImportDeadLetterQueueUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> int:
    """Compare the archive with the ledger, enqueue missed objects, and explain why others wait.

    Files to import that have no report, and uploads that were not claimed, are enqueued too.
    """
    context = Context(
        {
            DATABASE: database_url,
            ARCHIVE: source,
            QUEUE: queue_url,
            DEAD_LETTERS: dead_letter_queue_url,
            IMPORT_QUEUE: import_queue_url,
            IMPORT_DEAD_LETTERS: import_dead_letter_queue_url,
        },
        env,
    )
    console = build_console(context, as_json=as_json)
    queue = Queue(context.sqs, context.get(QUEUE))
    begin = options.parse_moment(since, "--from") if since else None
    after = format_hour(begin) if begin else ""
    age = dt.timedelta(seconds=grace)
    imports, uploads = files = tuple(
        MissedFiles(context, inbox, since=begin, grace=age) for inbox in (IMPORTS, UPLOADS)
    )
    with context.connect(purpose="sweep") as connection:
        inspection = _Inspection(context, connection, after, age)
        survey = inspection.survey()
        waiting = queue.depth().total
        enqueued = 0
        if not dry_run:
            _enqueue_files(console, files, yes=yes)
        if survey.missed and not dry_run:
            enqueued = _enqueue_missed(console, inspection, queue, survey, waiting, yes=yes)
        if wait:
            survey = wait_until_applied(
                console, inspection.survey, inspection.explain, seconds=wait
            )
        unapplied = inspection.explain() if survey.applied < survey.listed else []
    console.facts(
        {
            **survey.as_counts,
            "oldest_missed": survey.oldest,
            "waiting_in_queue": waiting,
            "enqueued": enqueued,
            "not_applied": [archive_object.to_json() for archive_object in unapplied],
            "imports": imports.to_json(),
            "uploads": uploads.to_json(),
        }
    )
    return _exit_code(survey, files, dry_run=dry_run, waited=bool(wait))


def _enqueue_files(console: Console, files: Sequence[MissedFiles], *, yes: bool) -> None:
    for missed in files:
        if missed.keys:
            console.confirm(
                f"Enqueue {len(missed.keys):,} {missed.name} that were not read? A file that is "
                "being read gives no second command.",
                yes=yes,
            )
            missed.enqueue()


def _enqueue_missed(
    console: Console,
    inspection: _Inspection,
    queue: Queue,
    survey: Survey,
    waiting: int,
    *,
    yes: bool,
) -> int:
    """Enqueue the objects that are missed now; return their number."""
    console.confirm(
        f"Enqueue {survey.missed:,} of {survey.listed:,} objects that are not applied? "
        f"{queue.name} has {waiting:,} messages already, some perhaps for these objects.",
        yes=yes,
    )
    enqueued = 0
    with console.progress("sweep", unit="objects", total=survey.missed) as meter:
        for keys in inspection.sweep().missed(inspection.listed()):
            enqueue(queue, inspection.bucket, keys)
            enqueued += len(keys)
            meter.advance(len(keys))
    return enqueued


def _exit_code(
    survey: Survey, files: Sequence[MissedFiles], *, dry_run: bool, waited: bool
) -> ExitCode:
    dead = survey.dead or any(part.dead for part in files)
    if dead or (waited and survey.applied < survey.listed):
        return ExitCode.INCOMPLETE
    missed = survey.missed or any(part.keys for part in files)
    return ExitCode.FOUND if dry_run and missed else ExitCode.OK


class _Inspection:
    """Compares archive, ledger and dead letters; each call sees their current state."""

    def __init__(
        self, context: Context, connection: Connection, after: str, grace: dt.timedelta
    ) -> None:
        self._context = context
        self._connection = connection
        self._grace = grace
        self._dead_letters = Queue(context.sqs, context.get(DEAD_LETTERS))
        self.bucket = parse_bucket_name(context.get(ARCHIVE))
        #: Lists the archive's objects.
        self.listed = partial(_list_objects, context.archive, after)

    def sweep(self) -> Sweep:
        """Return a sweep at the current time."""
        return Sweep(
            self._connection,
            now=dt.datetime.now(dt.UTC),
            grace=self._grace,
            dead=find_dead_objects(self._dead_letters, self.bucket),
        )

    def survey(self) -> Survey:
        """Count the objects by their states."""
        return self.sweep().survey(self.listed())

    def explain(self) -> list[Unapplied]:
        """Return the first objects that are not applied, each with the reason."""
        context, now = self._context, dt.datetime.now(dt.UTC)
        explainer = Explainer(self._connection, context.archive, context.resources, now=now)
        return explainer.explain(self.sweep().unapplied(self.listed()))


def _list_objects(store: ObjectStore, after: str) -> Iterable[StoredObject]:
    return store.list(COMMANDS_PREFIX, after=after)
