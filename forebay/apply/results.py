"""The results of apply: of a step, of a chunk and of a run; and the ledger that records them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add, sub
from typing import NamedTuple

from forebay.command import Command
from forebay.db.connect import Connection
from forebay.decisions.effects import Effect
from forebay.decisions.refusals import Refusal
from forebay.lag import histogram


class OvertakenError(Exception):
    """Another consumer advanced this object's ledger row; this chunk is rolled back."""


class PatchedError(Exception):
    """Another transaction has patched a key of the chunk before the chunk could lock it."""


@dataclass(frozen=True, slots=True)
class Source:
    """The archive object that a run applies, and the kind of the run."""

    #: The object's key: the ledger's primary key.
    object: str
    #: True in a replay, which applies an object however often it was applied before.
    replay: bool = False
    #: True if only chosen commands of the object are replayed: the object is not marked complete.
    partial: bool = False
    #: When its message was first delivered, in ms; commands may wait for others from then on.
    delivered_ms: int | None = None

    def __post_init__(self) -> None:
        if self.partial and not self.replay:
            raise ValueError(f"{self.object}: only a replay may apply a part of an object")


class Counts(NamedTuple):
    """The number of lines per status; the sum is the number of lines."""

    #: Changed a table.
    applied: int = 0
    #: Lost to another command of the same key.
    superseded: int = 0
    #: Applied or rejected before.
    duplicates: int = 0
    #: Can never apply.
    rejected: int = 0
    #: Of a retired resource.
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        """The counts of the lines of both."""
        return Counts(*map(add, self, other))

    def __sub__(self, other: Counts) -> Counts:
        """The counts without the lines of `other`."""
        return Counts(*map(sub, self, other))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a step for some commands; every command is in exactly one of its parts.

    The results of steps for different commands add up.
    """

    counts: Counts = Counts()  # noqa: RUF009 - immutable
    refusals: Sequence[Refusal] = ()
    #: Commands that the step left to another step.
    deferred: Sequence[Command] = ()
    #: Why commands are held for another release, if any are.
    held_reason: str | None = None
    #: Why a command waits for a command that it depends on, if any does.
    unsettled_reason: str | None = None
    #: How many of the rejected commands are unmet; see `forebay.unmet`.
    unmet: int = 0

    def __add__(self, other: Result) -> Result:
        """The result for the commands of both."""
        return Result(
            self.counts + other.counts,
            (*self.refusals, *other.refusals),
            (*self.deferred, *other.deferred),
            self.held_reason or other.held_reason,
            self.unsettled_reason or other.unsettled_reason,
            self.unmet + other.unmet,
        )


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The result of merging the commands of some keys."""

    result: Result = Result()
    #: Of the decided commands that passed.
    effects: Sequence[Effect] = ()
    #: Patches of earlier chunks that waited, and that Postgres refuses now.
    refused_waiting: Sequence[Refusal] = ()

    def __add__(self, other: MergeResult) -> MergeResult:
        """The result for the keys of both."""
        return MergeResult(
            self.result + other.result,
            (*self.effects, *other.effects),
            (*self.refused_waiting, *other.refused_waiting),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run of apply."""

    #: Lines of this run, without the lines that an earlier, interrupted run applied.
    lines: int = 0
    counts: Counts = Counts()  # noqa: RUF009 - immutable
    #: Smallest and greatest command id of the lines; None without commands.
    first_id: str | None = None
    last_id: str | None = None
    #: Why commands are held for newer code, if any are.
    held_reason: str | None = None
    #: Why a command waits for a command that it depends on, if any does. The object is then not
    #: complete, and has to be applied again.
    unsettled_reason: str | None = None
    #: Commands that a run without decisions could not apply, with all other commands of their keys
    #: in the object; no count includes them.
    undecided: tuple[Refusal, ...] = ()
    #: How many of the rejected commands are unmet; see `forebay.unmet`.
    unmet: int = 0
    #: True if the object was complete before, and the run made no change.
    already_applied: bool = False

    def plus(self, lines: int, ids: Sequence[str], result: Result) -> Outcome:
        """This outcome after another chunk.

        Args:
            lines: the number of its lines.
            ids: of its commands, ascending.
            result: of its lines; refusals are undecided.
        """
        bounds = sorted(filter(None, [self.first_id, self.last_id, *ids[:1], *ids[-1:]]))
        return replace(
            self,
            lines=self.lines + lines,
            counts=self.counts + result.counts,
            first_id=bounds[0] if bounds else None,
            last_id=bounds[-1] if bounds else None,
            held_reason=self.held_reason or result.held_reason,
            unsettled_reason=self.unsettled_reason or result.unsettled_reason,
            undecided=(*self.undecided, *result.refusals),
            unmet=self.unmet + result.unmet,
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger row of one object."""

    connection: Connection
    source: Source

    def read_lines_done(self) -> int | None:
        """The number of lines that earlier runs applied; None if the object is complete."""
        if self.source.replay:
            return 0
        row = self.connection.execute(
            "SELECT lines, completed_at IS NOT NULL FROM forebay.ledger WHERE object = %s",
            [self.source.object],
        ).fetchone()
        lines, is_complete = row or (0, False)
        return None if is_complete else int(lines)

    def insert_row(self) -> None:
        """Record a live object in the first transaction of a chunk that waits for decisions.

        So `forebay verify` can distinguish such a chunk from a lost row of the ledger.
        """
        if not self.source.replay:
            self.connection.execute(_BEGIN, [self.source.object])

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
        source, replay = self.source, self.source.replay
        if replay and (source.partial or not is_last):
            return
        values = (total.counts if replay else counts)._asdict() | {
            "object": source.object,
            "start": start,
            "end": end,
            "last": is_last,
            "first_id": total.first_id,
            "last_id": total.last_id,
            "lags": histogram(ids, time.time_ns() // 1_000_000),
        }
        if self.connection.execute(_REPLAYED if replay else _ADVANCE, values).rowcount != 1:
            raise OvertakenError


_BEGIN = """
    INSERT INTO forebay.ledger (object, lines, applied, superseded, duplicates, rejected)
    VALUES (%s, 0, 0, 0, 0, 0)
    ON CONFLICT (object) DO NOTHING
"""
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
