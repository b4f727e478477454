"""List dead letters, and send them to the consumer again without losing any.

A redrive sends each message to the consumer's queue first, and deletes it from the dead-letter
queue only after SQS has acknowledged it. If the program is killed in between, the message is in
both queues, and applying an object twice makes no change. SQS's own `StartMessageMoveTask` is not
used, as it moves a whole queue and can't select; a letter stands for an object, so there are never
very many.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forebay.archive.layout import COMMANDS_PREFIX
from forebay.aws.events import EventRefusedError, iterate_keys
from forebay.aws.queue import Depth, Message, Queue
from forebay.db.connect import Connection
from forebay.failures import Failure, read_failures
from forebay.sweep import list_keys
from ops.errors import RefusedError

Applied = Literal["no", "in part", "yes"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter."""

    id: str
    #: The time of S3's first event for the object.
    sent_at: dt.datetime
    #: Archive objects in its event; empty if it is not an event of this archive.
    objects: Sequence[str]
    #: How many of its objects the ledger calls applied: none, some, or all.
    applied: Applied
    #: Why it is a dead letter, if known.
    reason: str | None
    #: The last failure of its objects, and the number of failures; None if none was recorded. SQS's
    #: own count would include each reading of the letter.
    failed_at: dt.datetime | None
    failures: int | None
    body: str


@dataclass(frozen=True, slots=True)
class Redriven:
    """The result of a redrive, with the depths of both queues before and after."""

    moved: int
    left: int
    dead_before: Depth
    dead_after: Depth
    queue_before: Depth
    queue_after: Depth


def read(dead_letters: Queue, bucket: str, connection: Connection, limit: int) -> list[Letter]:
    """Return the dead letters, at most `limit`, the oldest first; they stay in their queue.

    Raises:
        RefusedError: the queue has a dead-letter queue, so reading its messages could move them.
        TransientError: SQS did not answer.
    """
    if dead_letters.gives_up():
        raise RefusedError(
            f"{dead_letters.name} is not a dead-letter queue: it has a dead-letter queue itself, "
            "to which reading could move its messages; give the address of that queue"
        )
    messages = dead_letters.peek(limit)
    keys = {message.id: list_keys(message.body, bucket) for message in messages}
    all_keys = [key for message_keys in keys.values() for key in message_keys]
    applied, failures = _find_applied(connection, all_keys), read_failures(connection, all_keys)
    letters = [
        _describe_letter(message, bucket, keys[message.id], applied, failures)
        for message in messages
    ]
    return sorted(letters, key=lambda letter: letter.sent_at)


def redrive(
    dead_letters: Queue,
    queue: Queue,
    *,
    only: Collection[str] = (),
    on_moved: Callable[[int], None] = lambda _: None,
) -> Redriven:
    """Send dead letters to the consumer's queue again.

    Args:
        dead_letters: the queue to take them from.
        queue: the consumer's queue.
        only: ids of the chosen messages; all messages if empty.
        on_moved: called with the number of messages that were moved since the last call.

    Raises:
        TransientError: SQS did not answer; unmoved messages become visible again within a minute.
    """
    dead_before, queue_before = dead_letters.depth(), queue.depth()
    count, remaining = 0, list[Message]()
    try:
        for batch in dead_letters.drain():
            selection = [message for message in batch if not only or message.id in only]
            remaining += [message for message in batch if message not in selection]
            queue.send([message.body for message in selection])
            dead_letters.delete(selection)
            count += len(selection)
            on_moved(len(selection))
    finally:
        dead_letters.release(remaining)
    return Redriven(
        count, len(remaining), dead_before, dead_letters.depth(), queue_before, queue.depth()
    )


def _describe_letter(
    message: Message,
    bucket: str,
    keys: Sequence[str],
    applied: Collection[str],
    failures: Mapping[str, Failure],
) -> Letter:
    count = sum(key in applied for key in keys)
    errors = sorted(
        (failures[key] for key in keys if key in failures), key=lambda failure: failure.at
    )
    last = errors[-1] if errors else None
    return Letter(
        id=message.id,
        sent_at=message.sent_at,
        objects=keys,
        applied="no" if not count else "yes" if count == len(keys) else "in part",
        reason=last.error if last else _find_refusal(message.body, bucket),
        failed_at=last.at if last else None,
        failures=sum(failure.times for failure in errors) if last else None,
        body=message.body,
    )


def _find_refusal(body: str, bucket: str) -> str | None:
    """Return the reason for which the consumer refuses the message itself, if it does."""
    try:
        for _ in iterate_keys(body, bucket=bucket, prefix=COMMANDS_PREFIX):
            pass
    except EventRefusedError as exc:
        return str(exc)
    return None


def _find_applied(connection: Connection, keys: Sequence[str]) -> set[str]:
    rows = connection.execute(
        "SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL",
        [list(keys)],
    ).fetchall()
    return {row[0] for row in rows}
