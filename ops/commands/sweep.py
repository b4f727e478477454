"""`forebay sweep`: archive objects that nobody has applied."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.sweep import Survey, Sweep, dead_objects, enqueue, start_of_listing
from ops import options
from ops.archive.store import ObjectStore, StoredObject, bucket_name
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
from ops.sweeping.explain import Explainer, Unapplied
from ops.sweeping.imports import MissedImports
from ops.sweeping.waiting import wait_until_applied

_GRACE_SECONDS = 120


def sweep(
    *,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Objects that arrived at this time or later; else all."),
    ] = None,
    grace: Annotated[
        int, typer.Option(min=0, help="Leave objects alone that are younger, in seconds.")
    ] = _GRACE_SECONDS,
    wait: Annotated[
        int,
        typer.Option(
            "--wait", min=0, help="Wait until all are applied, for so many seconds at most."
        ),
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Enqueue nothing.")] = False,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    queue_url: Annotated[
        str | None,
        typer.Option("--queue-url", help="The consumer's queue. [env var: FOREBAY_QUEUE_URL]"),
    ] = None,
    dead_letter_queue_url: Annotated[
        str | None,
        typer.Option(
            "--dead-letter-queue-url",
            help="The dead-letter queue. [env var: FOREBAY_DEAD_LETTER_QUEUE_URL]",
        ),
    ] = None,
    import_queue_url: Annotated[
        str | None,
        typer.Option(
            "--import-queue-url",
            help="The imports' queue; without it no imports are looked at. "
            "[env var: FOREBAY_IMPORT_QUEUE_URL]",
        ),
    ] = None,
    import_dead_letter_queue_url: Annotated[
        str | None,
        typer.Option(
            "--import-dead-letter-queue-url",
            help="Its dead-letter queue. [env var: FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL]",
        ),
    ] = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> int:
    """Compare the archive with the ledger, enqueue missed objects, and say why others wait.

    Files to import that have no report are enqueued too.
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
    console = Console(as_json=as_json, databases=context.databases, strays=context.strays)
    bucket = bucket_name(context.get(ARCHIVE))
    queue = Queue(context.sqs, context.get(QUEUE))
    begin = options.moment(since, "--from") if since else None
    after = start_of_listing(begin) if begin else ""
    imports = MissedImports(context, since=begin, grace=dt.timedelta(seconds=grace))
    with context.connect(purpose="sweep") as connection:
        looking = _Looking(context, connection, after, dt.timedelta(seconds=grace))
        found = looking.survey()
        waiting = queue.depth().total
        enqueued = 0
        if imports.keys and not dry_run:
            console.confirm(
                f"Tell the import again of {len(imports.keys):,} files that have no report? One "
                "that is being imported is not imported twice.",
                yes=yes,
            )
            imports.enqueue()
        if found.missed and not dry_run:
            console.confirm(
                f"Enqueue {found.missed:,} of {found.listed:,} objects that are not applied? "
                f"{queue.name} holds {waiting:,} messages, which may tell of some of them.",
                yes=yes,
            )
            with console.progress("sweep", unit="objects", total=found.missed) as meter:
                for keys in looking.sweep().missed(looking.listed()):
                    enqueue(queue, bucket, keys)
                    enqueued += len(keys)
                    meter.advance(len(keys))
        if wait:
            found = wait_until_applied(console, looking.survey, looking.explain, seconds=wait)
        unapplied = looking.explain() if found.applied < found.listed else []
    console.facts(
        {
            **found.as_counts,
            "oldest_missed": found.oldest,
            "waiting_in_queue": waiting,
            "enqueued": enqueued,
            "not_applied": [one.to_json() for one in unapplied],
            "imports": imports.to_json(),
        }
    )
    return _exit_code(found, imports, dry_run=dry_run, waited=bool(wait))


def _exit_code(found: Survey, imports: MissedImports, *, dry_run: bool, waited: bool) -> ExitCode:
    if found.dead or imports.dead or (waited and found.applied < found.listed):
        return ExitCode.INCOMPLETE
    return ExitCode.FOUND if dry_run and (found.missed or imports.keys) else ExitCode.OK


class _Looking:
    """Looks at archive, ledger and dead letters, as they are at each call."""

    def __init__(
        self, context: Context, connection: Connection, after: str, grace: dt.timedelta
    ) -> None:
        self._context = context
        self._connection = connection
        self._grace = grace
        self._dead_letters = Queue(context.sqs, context.get(DEAD_LETTERS))
        #: The archive's objects.
        self.listed = partial(_listed, context.archive, after)

    def sweep(self) -> Sweep:
        """A sweep of this moment."""
        return Sweep(
            self._connection,
            now=dt.datetime.now(dt.UTC),
            grace=self._grace,
            dead=dead_objects(self._dead_letters, bucket_name(self._context.get(ARCHIVE))),
        )

    def survey(self) -> Survey:
        """The counts."""
        return self.sweep().survey(self.listed())

    def explain(self) -> list[Unapplied]:
        """The first of the objects that are not applied, each with the reason."""
        context, now = self._context, dt.datetime.now(dt.UTC)
        explainer = Explainer(self._connection, context.archive, context.resources, now=now)
        return explainer.explain(self.sweep().unapplied(self.listed()))


def _listed(store: ObjectStore, after: str) -> Iterable[StoredObject]:
    return store.list(COMMANDS_PREFIX, after=after)
