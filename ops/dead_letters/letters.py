"""Looks at dead letters, and sends them to the consumer again without losing one.

A redrive sends each message to the consumer's queue first and deletes it here only when SQS has
acknowledged that. Whoever is killed in between leaves a message in both queues, and applying an
object twice changes nothing. It is done here and not by SQS (`StartMessageMoveTask`), because that
moves a whole queue and can't choose; a letter stands for an object, so there are never very many.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.aws.events import EventRefusedError, object_keys
from forebay.aws.queue import Depth, Message, Queue
from forebay.db.connect import Connection
from forebay.failures import Failure, failures_of
from forebay.sweep import keys_in
from ops.errors import RefusedError

Applied = Literal["no", "in part", "yes"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter."""

    id: str
    #: When S3 first told of the object.
    sent_at: dt.datetime
    #: Archive objects that it tells of; none if it is no event of this archive.
    objects: Sequence[str]
    #: Whether the ledger knows them as applied by now.
    applied: Applied
    #: Why it is a dead letter, as far as that is known.
    reason: str | None
    #: The last failure of its objects, and how often they have failed; None where no failure could
    #: be noted. SQS's own count would count looks at the letter too.
    failed_at: dt.datetime | None
    failures: int | None
    body: str


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a redrive did, with what both queues held before and after."""

    moved: int
    left: int
    dead_before: Depth
    dead_after: Depth
    queue_before: Depth
    queue_after: Depth


def read(dead_letters: Queue, bucket: str, connection: Connection, limit: int) -> list[Letter]:
    """The dead letters, at most so many, the oldest first; they stay where they are.

    Raises:
        RefusedError: the queue gives up messages that are received too often.
        TransientError: SQS did not answer.
    """
    if dead_letters.gives_up():
        raise RefusedError(
            f"{dead_letters.name} is no queue of dead letters: it gives up messages that are "
            "received too often, and to look at one is to receive it; name its dead-letter queue"
        )
    messages = dead_letters.peek(limit)
    keys = {message.id: keys_in(message.body, bucket) for message in messages}
    every = [key for found in keys.values() for key in found]
    done, failures = _applied(connection, every), failures_of(connection, every)
    letters = [_letter(message, bucket, keys[message.id], done, failures) for message in messages]
    return sorted(letters, key=lambda letter: letter.sent_at)


def redrive(
    dead_letters: Queue,
    queue: Queue,
    *,
    only: Collection[str] = (),
    on_moved: Callable[[int], None] = lambda _: None,
) -> Redriven:
    """Sends dead letters to the consumer's queue again.

    Args:
        dead_letters: from where.
        queue: to where.
        only: ids of messages; all of them unless given.
        on_moved: told how many more have been moved.

    Raises:
        TransientError: SQS did not answer; what was not moved appears again within a minute.
    """
    dead_before, queue_before = dead_letters.depth(), queue.depth()
    moved, left = 0, list[Message]()
    try:
        for batch in dead_letters.drain():
            chosen = [message for message in batch if not only or message.id in only]
            left += [message for message in batch if message not in chosen]
            queue.send([message.body for message in chosen])
            dead_letters.delete(chosen)
            moved += len(chosen)
            on_moved(len(chosen))
    finally:
        dead_letters.release(left)
    return Redriven(
        moved, len(left), dead_before, dead_letters.depth(), queue_before, queue.depth()
    )


def _letter(
    message: Message,
    bucket: str,
    keys: Sequence[str],
    done: Collection[str],
    failures: Mapping[str, Failure],
) -> Letter:
    count = sum(key in done for key in keys)
    failed = sorted((failures[key] for key in keys if key in failures), key=lambda one: one.at)
    last = failed[-1] if failed else None
    return Letter(
        id=message.id,
        sent_at=message.sent_at,
        objects=keys,
        applied="no" if not count else "yes" if count == len(keys) else "in part",
        reason=last.error if last else _refusal(message.body, bucket),
        failed_at=last.at if last else None,
        failures=sum(one.times for one in failed) if last else None,
        body=message.body,
    )


def _refusal(body: str, bucket: str) -> str | None:
    """Why the consumer refuses the message itself, if it does."""
    try:
        for _ in object_keys(body, bucket=bucket, prefix=COMMANDS_PREFIX):
            pass
    except EventRefusedError as exc:
        return str(exc)
    return None


def _applied(connection: Connection, keys: Sequence[str]) -> set[str]:
    rows = connection.execute(
        "SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL",
        [list(keys)],
    ).fetchall()
    return {row[0] for row in rows}
