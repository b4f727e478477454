"""`forebay sweep`: archive objects that nobody has applied."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.aws.queue import Queue
from forebay.sweep import Sweep, dead_objects, enqueue, start_of_listing
from ops import options
from ops.archive.store import ObjectStore, StoredObject, bucket_name
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, DEAD_LETTERS, QUEUE, Context
from ops.exit_codes import ExitCode

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
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
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> int:
    """Compare the archive with the ledger, and enqueue the objects that were missed."""
    context = Context(
        {
            DATABASE: database_url,
            ARCHIVE: source,
            QUEUE: queue_url,
            DEAD_LETTERS: dead_letter_queue_url,
        },
        env,
    )
    console = Console(as_json=as_json, databases=context.databases)
    bucket = bucket_name(context.get(ARCHIVE))
    queue = Queue(context.sqs, context.get(QUEUE))
    after = start_of_listing(options.moment(since, "--from")) if since else ""
    listed = partial(_listed, context.archive, after)
    with context.connect(purpose="sweep") as connection:
        swept = Sweep(
            connection,
            now=dt.datetime.now(dt.UTC),
            grace=dt.timedelta(seconds=grace),
            dead=dead_objects(Queue(context.sqs, context.get(DEAD_LETTERS)), bucket),
        )
        found = swept.survey(listed())
        waiting = queue.depth().total
        enqueued = 0
        if found.missed and not dry_run:
            console.confirm(
                f"Enqueue {found.missed:,} of {found.listed:,} objects that are not applied? "
                f"{queue.name} holds {waiting:,} messages, which may tell of some of them.",
                yes=yes,
            )
            with console.progress("sweep", unit="objects", total=found.missed) as meter:
                for keys in swept.missed(listed()):
                    enqueue(queue, bucket, keys)
                    enqueued += len(keys)
                    meter.advance(len(keys))
    console.facts(
        {
            **found.as_counts,
            "oldest_missed": found.oldest,
            "waiting_in_queue": waiting,
            "enqueued": enqueued,
        }
    )
    return ExitCode.FOUND if dry_run and found.missed else ExitCode.OK


def _listed(store: ObjectStore, after: str) -> Iterable[StoredObject]:
    return store.list(COMMANDS_PREFIX, after=after)
