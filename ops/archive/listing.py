"""Lists archive objects by the time of their commands.

The hour in an object's name is the hour in which its oldest record arrived
(docs/archive-format.md). A record arrives when its command is accepted, or later by the time of
retries. So the oldest record of an object with a command of time T arrived between T minus the
buffer interval (minus the difference of a writer's clock) and T plus the longest retry.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from itertools import takewhile

from forebay.archive.layout import COMMANDS_PREFIX, StoredObject, format_hour
from forebay.ids import accepted_ms
from ops.archive.store import ObjectStore

#: How much earlier than a command the hour of its object may be: the longest buffer interval
#: (900 s, Firehose's limit) plus the time by which an id may be ahead of the archive's clock
#: (`forebay.ids.MAX_AHEAD_MS`, 10 min).
EARLIER = dt.timedelta(seconds=900 + 600)
#: How much later than a command the hour of its object may be. Retries delay a record by seconds,
#: so it may arrive in the next hour; the name of a direct object has the hour of its command.
LATER = dt.timedelta(minutes=10)

# The bounds of the names that begin with an hour: they begin with a digit.
_FIRST_DIGIT = f"{COMMANDS_PREFIX}0"
_AFTER_DIGITS = f"{COMMANDS_PREFIX}:"


def list_commands(
    store: ObjectStore, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> Iterator[StoredObject]:
    """Yield the objects that may contain commands accepted in a period, in the order of keys.

    The objects may contain other commands too: filter the commands by their ids. Objects
    without a digit at the begin of their names were not written by Forebay and have no hour, so
    they are always included.

    Args:
        store: the archive.
        since: the beginning of the period (inclusive); None for no limit.
        until: the end of the period (exclusive); None for no limit.

    Raises:
        TransientError: the store did not answer.
    """
    after, last = _compute_bounds(since, until)
    if after:
        yield from takewhile(lambda stored: stored.key < _FIRST_DIGIT, store.list(COMMANDS_PREFIX))
    for stored in store.list(COMMANDS_PREFIX, after=after):
        if last is not None and last < stored.key[: len(last)] < _AFTER_DIGITS:
            yield from store.list(COMMANDS_PREFIX, after=_AFTER_DIGITS)
            return
        yield stored


def count_objects(objects: Iterable[StoredObject]) -> tuple[int, int]:
    """Return the number of objects, and their size in bytes."""
    number = size = 0
    for stored in objects:
        number += 1
        size += stored.size_bytes
    return number, size


def is_listed(
    key: str, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> bool:
    """Return whether `list_commands` of this period would yield an object with this key."""
    after, last = _compute_bounds(since, until)
    if not _FIRST_DIGIT <= key < _AFTER_DIGITS:
        return True
    return key > after and (last is None or key[: len(last)] <= last)


def is_misplaced(key: str, first_id: str, last_id: str) -> bool:
    """Return whether a search by the time of its commands can miss an object.

    Args:
        key: the object's key.
        first_id: the smallest id of the object's commands.
        last_id: the greatest id of the object's commands.
    """
    return not all(
        is_listed(key, since=moment, until=moment + dt.timedelta(milliseconds=1))
        for moment in map(_get_acceptance_time, (first_id, last_id))
    )


def _get_acceptance_time(command_id: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(accepted_ms(command_id) / 1000, dt.UTC)


def _compute_bounds(since: dt.datetime | None, until: dt.datetime | None) -> tuple[str, str | None]:
    """Return the key after which objects of the period sort, and the greatest prefix of keys."""
    after = format_hour(since - EARLIER) if since else ""
    return after, format_hour(until + LATER) if until else None
