"""The time from acceptance to apply of commands: an additive histogram, and its quantiles.

The ledger keeps one histogram per archive object, so quantiles of any period cover all commands of
that period and not a sample. Bucket 0 holds times up to `FIRST_SECONDS`. The end of each following
bucket is `RATIO` times the end of the bucket before, so the error of a quantile is at most that
factor. The last bucket has no end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from forebay.ids import accepted_ms, format_ms

FIRST_SECONDS: Final = 0.1
RATIO: Final = 2 ** (1 / 8)
BUCKETS: Final = 184  # the last begins at about nine days: Firehose and SQS keep data for less

#: Ends of the buckets in milliseconds, without the last bucket.
_ENDS: Final = tuple(round(1000 * FIRST_SECONDS * RATIO**bucket) for bucket in range(BUCKETS - 1))


def histogram(ids: Sequence[str], now_ms: int) -> list[int]:
    """The commands per bucket, if all are applied now, without empty buckets at the end.

    An id from the future (a writer's clock is ahead of this one) counts in bucket 0.

    Args:
        ids: of the commands, ascending: their texts sort by acceptance time.
        now_ms: milliseconds since the Unix epoch.
    """
    if not ids:
        return []
    # Buckets up to that of the newest command are empty.
    newest = bisect_left(_ENDS, now_ms - accepted_ms(ids[-1]))
    counts = [0] * newest
    older = len(ids)
    for end_ms in _ENDS[newest:]:
        if not older:
            return counts
        still_older = bisect_left(ids, format_ms(now_ms - end_ms), 0, older)
        counts.append(older - still_older)
        older = still_older
    return [*counts, older] if older else counts


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds within which that share of the commands was applied; None without commands.

    Interpolates within a bucket, evenly by ratio. The last bucket has no end, so its beginning is
    returned.
    """
    total = sum(counts)
    target = share * total
    count_below = 0
    for bucket, count in enumerate(counts):
        if count and count_below + count >= target:
            fraction = (target - count_below) / count
            if bucket == 0:
                return FIRST_SECONDS * fraction
            if bucket == BUCKETS - 1:
                fraction = 0
            return float(FIRST_SECONDS * RATIO ** (bucket - 1 + fraction))
        count_below += count
    return None
