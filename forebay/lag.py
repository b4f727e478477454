"""How long commands took from acceptance to applied: a histogram that adds up, and its quantiles.

The ledger keeps one histogram per archive object, so that the quantiles of any span of time are
those of all its commands and not of a sample. Bucket 0 takes what took `FIRST_SECONDS` or less;
every next bucket ends `RATIO` times as late, so a quantile is at most that factor off; the last
one has no end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

FIRST_SECONDS: Final = 0.1
RATIO: Final = 2 ** (1 / 8)
BUCKETS: Final = 184  # the last begins at about nine days: Firehose and SQS keep data for less

#: In milliseconds, for every bucket but the last.
_ENDS: Final = tuple(round(1000 * FIRST_SECONDS * RATIO**bucket) for bucket in range(BUCKETS - 1))


def histogram(ids: Sequence[str], now_ms: int) -> list[int]:
    """How many commands took how long, if all are applied now; without empty buckets at its end.

    An id from the future (a writer's clock is ahead of ours) counts as applied at once.

    Args:
        ids: of the commands, in ascending order: their texts sort by the time that is in them.
        now_ms: milliseconds since the Unix epoch.
    """
    counts: list[int] = []
    older = len(ids)
    for end_ms in _ENDS:
        if not older:
            return counts
        still_older = bisect_left(ids, _beginning(now_ms - end_ms), 0, older)
        counts.append(older - still_older)
        older = still_older
    return [*counts, older] if older else counts


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds in which that share of the commands was applied; None if there are none.

    Within a bucket the commands are taken to be spread evenly by ratio; of the last bucket, which
    has no end, only its beginning is known.
    """
    total = sum(counts)
    wanted = share * total
    below = 0
    for bucket, count in enumerate(counts):
        if count and below + count >= wanted:
            part = (wanted - below) / count
            if bucket == 0:
                return FIRST_SECONDS * part
            if bucket == BUCKETS - 1:
                part = 0
            return float(FIRST_SECONDS * RATIO ** (bucket - 1 + part))
        below += count
    return None


def _beginning(ms: int) -> str:
    """What ids of that millisecond begin with; ids of earlier ones sort before it."""
    text = f"{max(0, ms):012x}"
    return f"{text[:8]}-{text[8:]}"
