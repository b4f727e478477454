"""Lists the archive by command time, although objects are named after times of arrival.

An object's hour is that of its oldest record's arrival (docs/archive-format.md), and a record
arrives when it was accepted, or later by the time of retries. So an object with a command of time T
can't have begun before T's hour, less the time that the buffer had been filling, and clocks of
writers may be a little ahead. Nor can it have begun later than T plus the longest retry.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import takewhile

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.ids import accepted_ms
from ops.archive.store import ObjectStore, StoredObject

#: Before the first command's time: the longest buffer interval (900 s, Firehose's limit) and how
#: far ahead of the archive's clock an id may be (`forebay.ids.MAX_AHEAD_MS`, 10 min).
EARLIER = dt.timedelta(seconds=900 + 600)
#: After the last command's time: a record that the function's retries delay by seconds arrives in
#: the same hour or the next; a direct object is named after its command's own hour.
LATER = dt.timedelta(minutes=10)

# What sorts before and after every name that begins with a digit, as hours do.
_FIRST_DIGIT = f"{COMMANDS_PREFIX}0"
_AFTER_DIGITS = f"{COMMANDS_PREFIX}:"


def list_commands(
    store: ObjectStore, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> Iterator[StoredObject]:
    """Every object that may hold commands accepted in that time, by key.

    It may hold others too: filter its commands by their ids. Objects whose names begin with no
    digit are none of ours; they have no hour, and may hold anything.

    Args:
        store: the archive.
        since: the earliest time of acceptance that is wanted.
        until: the time before which commands must have been accepted.

    Raises:
        TransientError: the store did not answer.
    """
    after, last = _bounds(since, until)
    if after:
        yield from takewhile(lambda found: found.key < _FIRST_DIGIT, store.list(COMMANDS_PREFIX))
    for found in store.list(COMMANDS_PREFIX, after=after):
        if last is not None and last < found.key[: len(last)] < _AFTER_DIGITS:
            yield from store.list(COMMANDS_PREFIX, after=_AFTER_DIGITS)
            return
        yield found


def is_listed(
    key: str, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> bool:
    """Return whether `list_commands` of that time yields an object of that key, if it is stored."""
    after, last = _bounds(since, until)
    if not _FIRST_DIGIT <= key < _AFTER_DIGITS:
        return True
    return key > after and (last is None or key[: len(last)] <= last)


def is_misplaced(key: str, first_id: str, last_id: str) -> bool:
    """Return whether `list_commands` of its commands' times does not yield an object.

    Args:
        key: of the object.
        first_id: the smallest id of its commands.
        last_id: the greatest one.
    """
    return not all(
        is_listed(key, since=moment, until=moment + dt.timedelta(milliseconds=1))
        for moment in map(_accepted, (first_id, last_id))
    )


def _accepted(command_id: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(accepted_ms(command_id) / 1000, dt.UTC)


def _bounds(since: dt.datetime | None, until: dt.datetime | None) -> tuple[str, str | None]:
    """What objects with an hour sort after, and what their keys begin with at most."""
    after = f"{COMMANDS_PREFIX}{since - EARLIER:%Y/%m/%d/%H}" if since else ""
    return after, f"{COMMANDS_PREFIX}{until + LATER:%Y/%m/%d/%H}" if until else None
