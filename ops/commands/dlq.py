"""`forebay dlq`: dead letters, and sending them to the consumer again."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from forebay.aws.queue import Depth, Queue
from ops import options
from ops.archive.store import bucket_name
from ops.console import Console, short, table
from ops.context import ARCHIVE, DATABASE, DEAD_LETTERS, QUEUE, REPLICA, Context
from ops.dead_letters import letters
from ops.dead_letters.letters import Letter
from ops.errors import RefusedError

app = typer.Typer(help="Dead letters: events of archive objects that could not be applied.")

_PURPOSE = "dlq"
_READ = 10_000
_NO_REASON = "not noted: the primary was away, or the function ended"

_DeadLetterUrl = Annotated[
    str | None,
    typer.Option(
        "--dead-letter-queue-url",
        help="The dead-letter queue. [env var: FOREBAY_DEAD_LETTER_QUEUE_URL]",
    ),
]
_QueueUrl = Annotated[
    str | None,
    typer.Option("--queue-url", help="The consumer's queue. [env var: FOREBAY_QUEUE_URL]"),
]


@app.command("list")
def list_letters(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Read so many at most.")] = 100,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    dead_letter_queue_url: _DeadLetterUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List dead letters: which objects, since when, and whether they are applied by now."""
    context = Context(
        {
            DATABASE: database_url,
            REPLICA: replica_url,
            ARCHIVE: source,
            DEAD_LETTERS: dead_letter_queue_url,
        },
        env,
    )
    dead = Queue(context.sqs, context.get(DEAD_LETTERS))
    depth = dead.depth()
    found = _read(context, dead, limit)
    Console(as_json=as_json, databases=context.databases, strays=context.strays).result(
        {"queue": dead.url, "depth": _depth(depth), "letters": [_row(one) for one in found]},
        table(
            ["id", "sent at", "applied", "objects", "failures", "reason"],
            [
                (
                    one.id,
                    f"{one.sent_at:%F %T}",
                    one.applied,
                    one.objects,
                    one.failures,
                    short(one.reason or _NO_REASON, 160),
                )
                for one in found
            ],
        )
        if found
        else f"{dead.name} holds {depth.total:,} messages, none of them visible now",
    )


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="The message's id.")],
    *,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    dead_letter_queue_url: _DeadLetterUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show one dead letter, with its body."""
    context = Context(
        {
            DATABASE: database_url,
            REPLICA: replica_url,
            ARCHIVE: source,
            DEAD_LETTERS: dead_letter_queue_url,
        },
        env,
    )
    dead = Queue(context.sqs, context.get(DEAD_LETTERS))
    found = next((one for one in _read(context, dead, _READ) if one.id == letter), None)
    if found is None:
        raise RefusedError(
            f"{dead.name} shows no message {letter}; `forebay dlq list` shows those it has "
            "(one that somebody looks at is hidden for a minute)"
        )
    Console(as_json=as_json, databases=context.databases, strays=context.strays).facts(
        {**_row(found), "body": found.body}
    )


@app.command()
def redrive(
    *,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Only this message; may be repeated.")
    ] = None,
    dead_letter_queue_url: _DeadLetterUrl = None,
    queue_url: _QueueUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Send dead letters to the consumer again; shows what both queues hold before and after."""
    context = Context({DEAD_LETTERS: dead_letter_queue_url, QUEUE: queue_url}, env)
    dead = Queue(context.sqs, context.get(DEAD_LETTERS))
    queue = Queue(context.sqs, context.get(QUEUE))
    console = Console(as_json=as_json, databases=context.databases, strays=context.strays)
    before = dead.depth()
    chosen = len(ids) if ids else before.visible
    console.confirm(
        f"Send {chosen:,} of the {before.total:,} messages of {dead.name} to {queue.name} again?",
        yes=yes,
    )
    with console.progress("redrive", unit="messages", total=chosen) as meter:
        done = letters.redrive(dead, queue, only=ids or (), on_moved=meter.advance)
    missing = len(ids or ()) - done.moved if ids else 0
    if not as_json:
        console.show(
            table(
                ["queue", "before", "after"],
                [
                    (dead.name, done.dead_before.total, done.dead_after.total),
                    (queue.name, done.queue_before.total, done.queue_after.total),
                ],
            )
        )
    console.result(
        {
            "moved": done.moved,
            "left": done.left,
            "dead_letters": {
                "before": _depth(done.dead_before),
                "after": _depth(done.dead_after),
            },
            "queue": {"before": _depth(done.queue_before), "after": _depth(done.queue_after)},
        },
        f"{done.moved:,} messages moved",
    )
    if missing > 0:
        raise RefusedError(
            f"{missing:,} of the messages are not in {dead.name}; `forebay dlq list` shows those "
            "it has"
        )


def _read(context: Context, dead: Queue, limit: int) -> list[Letter]:
    bucket = bucket_name(context.get(ARCHIVE))
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        return letters.read(dead, bucket, connection, limit)


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "sent_at": letter.sent_at,
        "applied": letter.applied,
        "objects": list(letter.objects),
        "reason": letter.reason,
        "failures": letter.failures,
        "failed_at": letter.failed_at,
    }


def _depth(depth: Depth) -> dict[str, int]:
    return {**dataclasses.asdict(depth), "total": depth.total}
