"""`forebay dlq`: list dead letters, and send them to the consumer again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from forebay.aws.queue import Depth, Queue
from ops import dead_letters, options
from ops.archive.store import parse_bucket_name
from ops.commands.arguments import DeadLetterQueueUrl, QueueUrl, build_console
from ops.console import Console, build_table, shorten
from ops.context import ARCHIVE, DATABASE, DEAD_LETTERS, QUEUE, REPLICA, Context
from ops.dead_letters import Letter, Redriven
from ops.errors import RefusedError

app = typer.Typer(help="Dead letters: events of archive objects that could not be applied.")

_PURPOSE = "dlq"
_MAX_LETTERS = 10_000
_NO_REASON = "not recorded: the primary was unreachable, or the function ran out of time or memory"


@app.command("list")
def list_letters(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Read at most this many messages.")] = 100,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    dead_letter_queue_url: DeadLetterQueueUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List dead letters: their times, objects and errors, and whether they are applied by now."""
    context = _build_context(database_url, replica_url, source, dead_letter_queue_url, env)
    dead_queue = Queue(context.sqs, context.get(DEAD_LETTERS))
    depth = dead_queue.depth()
    letters = _read_letters(context, dead_queue, limit)
    build_console(context, as_json=as_json).result(
        {
            "queue": dead_queue.url,
            "depth": _describe_depth(depth),
            "letters": [_build_row(letter) for letter in letters],
        },
        _tabulate_letters(letters)
        if letters
        else f"{dead_queue.name} has {depth.total:,} messages, and none of them is visible now",
    )


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="The message's id.")],
    *,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    dead_letter_queue_url: DeadLetterQueueUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show one dead letter, with its body."""
    context = _build_context(database_url, replica_url, source, dead_letter_queue_url, env)
    dead_queue = Queue(context.sqs, context.get(DEAD_LETTERS))
    dead_letter = next(
        (
            candidate
            for candidate in _read_letters(context, dead_queue, _MAX_LETTERS)
            if candidate.id == letter
        ),
        None,
    )
    if dead_letter is None:
        raise RefusedError(
            f"{dead_queue.name} has no visible message {letter}; `forebay dlq list` shows the "
            "visible messages (a message is hidden for a minute after it was read)"
        )
    build_console(context, as_json=as_json).facts(
        {**_build_row(dead_letter), "body": dead_letter.body}
    )


@app.command()
def redrive(
    *,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Only the message with this id; may be repeated."),
    ] = None,
    dead_letter_queue_url: DeadLetterQueueUrl = None,
    queue_url: QueueUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Send dead letters to the consumer again; show the depths of both queues before and after."""
    context = Context({DEAD_LETTERS: dead_letter_queue_url, QUEUE: queue_url}, env)
    dead_queue = Queue(context.sqs, context.get(DEAD_LETTERS))
    queue = Queue(context.sqs, context.get(QUEUE))
    console = build_console(context, as_json=as_json)
    before = dead_queue.depth()
    total = len(ids) if ids else before.visible
    chosen = f"the {total:,} chosen messages" if ids else f"{total:,} messages"
    console.confirm(
        f"Send {chosen} of {dead_queue.name}, which has {before.total:,}, to {queue.name} again?",
        yes=yes,
    )
    with console.progress("redrive", unit="messages", total=total) as meter:
        redriven = dead_letters.redrive(dead_queue, queue, only=ids or (), on_moved=meter.advance)
    missing = len(ids or ()) - redriven.moved if ids else 0
    _print_redriven(console, redriven, dead_queue, queue)
    if missing > 0:
        raise RefusedError(
            f"{missing:,} of the messages are not visible in {dead_queue.name}; `forebay dlq list` "
            "shows the visible messages"
        )


def _build_context(
    database_url: str | None,
    replica_url: str | None,
    source: str | None,
    dead_letter_queue_url: str | None,
    env: str | None,
) -> Context:
    return Context(
        {
            DATABASE: database_url,
            REPLICA: replica_url,
            ARCHIVE: source,
            DEAD_LETTERS: dead_letter_queue_url,
        },
        env,
    )


def _read_letters(context: Context, dead_queue: Queue, limit: int) -> list[Letter]:
    bucket = parse_bucket_name(context.get(ARCHIVE))
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        return dead_letters.read(dead_queue, bucket, connection, limit)


def _tabulate_letters(letters: Sequence[Letter]) -> Table:
    return build_table(
        ["id", "sent at", "applied", "objects", "failures", "reason"],
        [
            (
                letter.id,
                f"{letter.sent_at:%F %T}",
                letter.applied,
                letter.objects,
                letter.failures,
                shorten(letter.reason or _NO_REASON, 160),
            )
            for letter in letters
        ],
    )


def _print_redriven(console: Console, redriven: Redriven, dead_queue: Queue, queue: Queue) -> None:
    console.show(
        build_table(
            ["queue", "before", "after"],
            [
                (dead_queue.name, redriven.dead_before.total, redriven.dead_after.total),
                (queue.name, redriven.queue_before.total, redriven.queue_after.total),
            ],
        )
    )
    console.result(
        {
            "moved": redriven.moved,
            "left": redriven.left,
            "dead_letters": {
                "before": _describe_depth(redriven.dead_before),
                "after": _describe_depth(redriven.dead_after),
            },
            "queue": {
                "before": _describe_depth(redriven.queue_before),
                "after": _describe_depth(redriven.queue_after),
            },
        },
        f"{redriven.moved:,} messages moved",
    )


def _build_row(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "sent_at": letter.sent_at,
        "applied": letter.applied,
        "objects": list(letter.objects),
        "reason": letter.reason,
        "failures": letter.failures,
        "failed_at": letter.failed_at,
    }


def _describe_depth(depth: Depth) -> dict[str, int]:
    return {**dataclasses.asdict(depth), "total": depth.total}
