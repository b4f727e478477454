"""Looks at dead letters, and sends them to the consumer again without losing one.

A redrive sends each message to the consumer's queue first and deletes it here only when SQS has
acknowledged that. Whoever is killed in between leaves a message in both queues, and applying an
object twice changes nothing. It is done here and not by SQS (`StartMessageMoveTask`), because that
moves a whole queue and can't choose; a letter stands for an object, so there are never very many.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from forebay.aws.queue import Depth, Message, Queue
from forebay.db.connect import Connection
from forebay.sweep import keys_in

Applied = Literal["no", "in part", "yes"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter."""

    id: str
    #: When S3 first told of the object.
    sent_at: dt.datetime
    receives: int
    #: Archive objects that it tells of; none if it is no event of this archive.
    objects: Sequence[str]
    #: Whether the ledger knows them as applied by now.
    applied: Applied
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
        TransientError: SQS did not answer.
    """
    messages = dead_letters.peek(limit)
    keys = {message.id: keys_in(message.body, bucket) for message in messages}
    done = _applied(connection, [key for found in keys.values() for key in found])
    letters = [_letter(message, keys[message.id], done) for message in messages]
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


def _letter(message: Message, keys: Sequence[str], done: Collection[str]) -> Letter:
    count = sum(key in done for key in keys)
    applied: Applied = "no" if not count else "yes" if count == len(keys) else "in part"
    return Letter(message.id, message.sent_at, message.receives, keys, applied, message.body)


def _applied(connection: Connection, keys: Sequence[str]) -> set[str]:
    rows = connection.execute(
        "SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL",
        [list(keys)],
    ).fetchall()
    return {row[0] for row in rows}
