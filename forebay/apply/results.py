"""The results of apply: of a step, of a chunk and of a run; and the ledger that records them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from forebay.command import Command
from forebay.db.connect import Connection
from forebay.decisions.refusals import Refusal
from forebay.lag import histogram


class OvertakenError(Exception):
    """Another consumer advanced this object's ledger row; this chunk is rolled back."""


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of commands."""

    #: The archive object's key: the ledger's primary key.
    object: str
    #: True in a replay, which applies an object however often it was applied before.
    replay: bool = False
    #: True if only chosen commands of the object are replayed: the object is not marked complete.
    partial: bool = False

    def __post_init__(self) -> None:
        if self.partial and not self.replay:
            raise ValueError(f"{self.object}: only a replay may apply a part of an object")


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of lines per status; the sum is the number of lines."""

    #: Changed a table.
    applied: int = 0
    #: Lost to another command of the same key.
    superseded: int = 0
    #: Applied or decided before.
    duplicates: int = 0
    #: Can never apply.
    rejected: int = 0
    #: Belongs to a retired resource.
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """The sums of both."""
        return Counts(
            self.applied + other.applied,
            self.superseded + other.superseded,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a step for some commands; every command is in exactly one of its parts.

    The results of steps for different commands add up.
    """

    counts: Counts = Counts()
    refusals: Sequence[Refusal] = ()
    #: Commands that the step left to another step.
    deferred: Sequence[Command] = ()
    #: Why commands are held for another release, if any are.
    held: str | None = None

    def __add__(self, other: Result) -> Result:
        """The result for the commands of both."""
        return Result(
            self.counts + other.counts,
            (*self.refusals, *other.refusals),
            (*self.deferred, *other.deferred),
            self.held or other.held,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run of apply."""

    #: Lines of this run, without the lines that an earlier, interrupted run applied.
    lines: int = 0
    counts: Counts = Counts()
    #: Smallest and greatest command id of the lines; None without commands.
    first_id: str | None = None
    last_id: str | None = None
    #: Why commands are held for newer code, if any are.
    held: str | None = None
    #: Commands that a run without decisions could not apply, with all other commands of their keys
    #: in the object; no count includes them.
    undecided: tuple[Refusal, ...] = ()
    #: True if the object was complete before, and the run made no change.
    already_applied: bool = False

    def plus(self, lines: int, ids: Sequence[str], result: Result) -> Outcome:
        """This outcome after another chunk.

        Args:
            lines: the number of its lines.
            ids: of its commands, ascending.
            result: of its lines; refusals are undecided.
        """
        first_id, last_id = self.first_id, self.last_id
        if ids:
            first_id = ids[0] if first_id is None else min(first_id, ids[0])
            last_id = ids[-1] if last_id is None else max(last_id, ids[-1])
        return replace(
            self,
            lines=self.lines + lines,
            counts=self.counts + result.counts,
            first_id=first_id,
            last_id=last_id,
            held=self.held or result.held,
            undecided=(*self.undecided, *result.refusals),
        )


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
