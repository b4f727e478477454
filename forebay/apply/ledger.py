"""The ledger: how far each archive object is applied, written in the transactions of apply."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from forebay.apply.outcome import Counts, Outcome, Source
from forebay.db.connect import Connection
from forebay.lag import histogram


class OvertakenError(Exception):
    """Another consumer advanced this object's ledger row; this chunk is rolled back."""


class Ledger:
    """The ledger row of one object."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._connection = connection
        self._source = source
        self._now_ms = now_ms

    def lines_done(self) -> int | None:
        """The number of lines that earlier runs applied; None if the object is complete."""
        if self._source.replay:
            return 0
        row = self._connection.execute(
            "SELECT lines, completed_at IS NOT NULL FROM forebay.ledger WHERE object = %s",
            [self._source.object],
        ).fetchone()
        if row is None:
            return 0
        lines, completed = row
        return None if completed else int(lines)

    def advance(
        self,
        *,
        start: int,
        end: int,
        ids: Sequence[str],
        counts: Counts,
        total: Outcome,
        is_last: bool,
    ) -> None:
        """Record lines `start` to `end`, in the transaction that applied them.

        A replay keeps the counts of a complete live run and only counts itself, at its end. A
        partial replay does not record itself: the rest of the object may not be applied yet.

        Args:
            start: lines that were applied before.
            end: lines that are applied after this chunk.
            ids: of the commands in these lines, ascending.
            counts: the statuses of these lines.
            total: of this run, with these lines.
            is_last: whether these are the object's last lines.

        Raises:
            OvertakenError: another run has advanced the row since `start` was read.
        """
        if not self._source.replay:
            values = self._build_values(counts, total, end) | {
                "start": start,
                "last": is_last,
                "lags": histogram(ids, self._now_ms()),
            }
            if self._connection.execute(_ADVANCE, values).rowcount != 1:
                raise OvertakenError
        elif is_last and not self._source.partial:
            self._connection.execute(_REPLAYED, self._build_values(total.counts, total, end))

    def _build_values(self, counts: Counts, total: Outcome, end: int) -> dict[str, object]:
        return {
            "object": self._source.object,
            "end": end,
            "applied": counts.applied,
            "superseded": counts.superseded,
            "duplicates": counts.duplicates,
            "rejected": counts.rejected,
            "skipped": counts.skipped,
            "first_id": total.first_id,
            "last_id": total.last_id,
        }


_ADVANCE = """
    INSERT INTO forebay.ledger AS l (
      object, lines, applied, superseded, duplicates, rejected, skipped, first_id, last_id, lags,
      completed_at)
    SELECT %(object)s, %(end)s, %(applied)s, %(superseded)s, %(duplicates)s, %(rejected)s,
           %(skipped)s, %(first_id)s, %(last_id)s, %(lags)s,
           CASE WHEN %(last)s THEN clock_timestamp() END
    ON CONFLICT (object) DO UPDATE SET
      lines = excluded.lines,
      applied = l.applied + excluded.applied,
      superseded = l.superseded + excluded.superseded,
      duplicates = l.duplicates + excluded.duplicates,
      rejected = l.rejected + excluded.rejected,
      skipped = l.skipped + excluded.skipped,
      first_id = least(l.first_id, excluded.first_id),
      last_id = greatest(l.last_id, excluded.last_id),
      lags = (SELECT array_agg(coalesce(before, 0) + coalesce(more, 0) ORDER BY bucket)
              FROM unnest(l.lags, excluded.lags) WITH ORDINALITY AS u (before, more, bucket)),
      completed_at = excluded.completed_at
    WHERE l.completed_at IS NULL AND l.lines = %(start)s
"""

_REPLAYED = """
    INSERT INTO forebay.ledger AS l (
      object, lines, applied, superseded, duplicates, rejected, skipped, first_id, last_id,
      completed_at, replays)
    SELECT %(object)s, %(end)s, %(applied)s, %(superseded)s, %(duplicates)s, %(rejected)s,
           %(skipped)s, %(first_id)s, %(last_id)s, clock_timestamp(), 1
    ON CONFLICT (object) DO UPDATE SET
      lines = excluded.lines,
      -- A live run that was interrupted has counted only a part of the lines.
      applied = CASE WHEN l.completed_at IS NULL THEN excluded.applied ELSE l.applied END,
      superseded = CASE WHEN l.completed_at IS NULL THEN excluded.superseded ELSE l.superseded END,
      duplicates = CASE WHEN l.completed_at IS NULL THEN excluded.duplicates ELSE l.duplicates END,
      rejected = CASE WHEN l.completed_at IS NULL THEN excluded.rejected ELSE l.rejected END,
      skipped = CASE WHEN l.completed_at IS NULL THEN excluded.skipped ELSE l.skipped END,
      lags = CASE WHEN l.completed_at IS NULL THEN NULL ELSE l.lags END,
      first_id = least(l.first_id, excluded.first_id),
      last_id = greatest(l.last_id, excluded.last_id),
      completed_at = coalesce(l.completed_at, excluded.completed_at),
      replays = l.replays + 1
"""
