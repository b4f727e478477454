"""The function that applies commands, for live objects, replays and tests alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import psycopg

from forebay.apply.chunk import ChunkApplier, ChunkResult
from forebay.apply.prepare import Chunk, prepare
from forebay.apply.results import Ledger, Outcome, OvertakenError, PatchedError, Result, Source
from forebay.apply.rows.winners import Habits
from forebay.archive.lines import Entry
from forebay.archive.read_ahead import ReadAhead
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import is_worth_an_instant_retry
from forebay.decisions.decision_log import DecisionLog, LogMovedError, PendingEntryError
from forebay.errors import HeldError
from forebay.resource.spec import ResourceSpec
from forebay.retry import compute_backoff_seconds

#: Called with the connection and commands that its transaction may have applied.
Watch: TypeAlias = Callable[[Connection, Sequence[Command]], None]

_INSTANT_RETRIES = 5
_FIRST_PAUSE_SECONDS = 0.2


def read_ahead(
    chunks: Iterable[Sequence[Entry]], resources: Mapping[str, ResourceSpec]
) -> ReadAhead[Chunk]:
    """Start to read an object for a later call of `apply`.

    Args:
        chunks: the object's lines in their order; each chunk becomes one transaction, so its size
            bounds memory and the time that locks are held.
        resources: the declarations, by path.
    """
    return ReadAhead(chunks, partial(prepare, resources=resources))


def apply(
    connection: Connection,
    chunks: Iterable[Sequence[Entry]] | ReadAhead[Chunk],
    source: Source,
    *,
    resources: Mapping[str, ResourceSpec],
    decision_log: DecisionLog,
    decides: bool = True,
    admit: Callable[[int], None] = lambda _: None,
    habits: Habits | None = None,
    watch: Watch = lambda *_: None,
) -> Outcome:
    """Apply an archive object: a transaction per chunk, and a second if it needs decisions.

    The tables end as law 2 states, whatever the order, duplication or splitting of objects. A live
    object continues where an interrupted run stopped; a complete object is not applied again.

    Args:
        connection: to the primary, autocommit, not used by others during the call.
        chunks: as `read_ahead` takes or returns them; closed at the end.
        source: the object's name, and whether this is a replay.
        resources: the declarations, by path.
        decision_log: the destination of decisions; call its `follow` first.
        decides: whether commands that can't apply are rejected. If not, the outcome contains them,
            and the ledger does not mark the object as complete.
        admit: called with the number of a chunk's lines before its transaction begins; may block
            to limit the rate.
        habits: a performance hint from earlier objects; pass the same instance each time.
        watch: called in each transaction, after its last change of a table, with the connection
            and the commands that may have changed a row.

    Raises:
        HeldError: commands need newer code, all others are applied; the object stays incomplete.
        psycopg.Error: transient, or a schema that does not fit; the chunk was rolled back, and
            applying the object again is safe.
        ValueError: the connection is not autocommit.
    """
    ahead = chunks if isinstance(chunks, ReadAhead) else read_ahead(chunks, resources)
    with ahead:
        if not connection.autocommit:
            raise ValueError("apply needs an autocommit connection: each chunk commits by itself")
        applier = ChunkApplier(connection, source, resources, decision_log, habits or Habits())
        run = _Run(applier, Ledger(connection, source), decides, watch)
        for chunk, check_is_last in ahead:
            admit(len(chunk.entries))
            if not run.apply_next(chunk, check_is_last):
                return run.outcome if run.outcome.lines else Outcome(already_applied=True)
        run.mark_complete()
    if run.outcome.held_reason is not None:
        raise HeldError(f"{source.object}: {run.outcome.held_reason}")
    return run.outcome


def rehearse(
    connection: Connection,
    chunks: Iterable[Sequence[Entry]],
    source: Source,
    *,
    resources: Mapping[str, ResourceSpec],
    decision_log: DecisionLog,
) -> Outcome:
    """Return the outcome that `apply` would have now; changes neither tables nor archive.

    Every chunk is applied by the same code and rolled back, so each is counted as if it were the
    next chunk to be applied. Locks are held for one chunk at a time.

    Raises:
        psycopg.Error: as `apply`.
    """
    decision_log.is_rehearsal = True
    applier = ChunkApplier(connection, source, resources, decision_log, Habits())
    outcome = Outcome()
    for entries in chunks:
        chunk = prepare(entries, resources)
        result = _rehearse_chunk(applier, chunk)
        outcome = outcome.plus(len(entries), chunk.ids, result)
    return outcome


def _rehearse_chunk(applier: ChunkApplier, chunk: Chunk) -> Result:
    """The result that a chunk would have now."""
    while True:
        try:
            with applier.connection.transaction(force_rollback=True):
                applied = applier.apply_without_decisions(chunk)
                if applied.candidates is None:
                    return applied.result
                decisions = applier.decide_candidates(applied.candidates, is_rehearsal=True)
                return applied.result + decisions.result
        except PatchedError:
            continue


@dataclass(slots=True)
class _Run:
    """The run of apply over an object."""

    applier: ChunkApplier
    ledger: Ledger
    decides: bool
    watch: Watch
    #: Of committed transactions only.
    outcome: Outcome = field(default_factory=Outcome)
    #: Lines of the chunks that were taken.
    position: int = 0
    #: Lines that are applied already; None until a transaction has read it from the ledger.
    lines_done: int | None = None
    is_complete: bool = False

    def apply_next(self, chunk: Chunk, check_is_last: Callable[[], bool]) -> bool:
        """Apply the lines of the next chunk that are not applied; False if the object is complete.

        A deadlock is retried over the same connection.
        """
        attempt = 0
        while True:
            try:
                is_taken = self._apply_chunk(chunk, check_is_last)
            except OvertakenError:  # another consumer has this object too, and is further
                self.lines_done = None
            except PendingEntryError:
                self.applier.decision_log.catch_up()
            except PatchedError:
                continue
            except psycopg.Error as exc:
                attempt = _pause(attempt, exc)
            else:
                self.position += len(chunk.entries)
                return is_taken

    def mark_complete(self) -> None:
        """Mark the object as complete, if its last chunk was not known to be the last."""
        if not self.is_complete and _may_complete(self.outcome):
            self.apply_next(prepare((), self.applier.resources), lambda: True)

    def _apply_chunk(self, chunk: Chunk, check_is_last: Callable[[], bool]) -> bool:
        """One chunk in one transaction; a second transaction if candidates need decisions."""
        with self.applier.connection.transaction():
            lines_done = self.lines_done
            if lines_done is None:
                lines_done = self.ledger.read_lines_done()
            if lines_done is None:
                return False
            start = max(self.position, lines_done)
            if start > self.position:
                remaining = chunk.entries[start - self.position :]
                chunk = prepare(remaining, self.applier.resources)
            if not chunk.entries and not check_is_last():
                self.lines_done = lines_done
                return True
            if self.decides and self.applier.needs_decisions_only(chunk):
                applied = ChunkResult(Result(), chunk)
            else:
                applied = self.applier.apply_without_decisions(chunk)
                self.watch(self.applier.connection, chunk.list_commands())
            candidates = applied.candidates
            if candidates is None:
                outcome, is_complete = self._advance_ledger(
                    chunk, applied.result, start, check_is_last
                )
            elif self.decides:
                self.ledger.insert_row()
        if candidates is not None and self.decides:
            outcome, is_complete = self._commit_decisions(
                chunk, applied.result, candidates, start, check_is_last
            )
        elif candidates is not None:
            undecided = list(candidates.explain(applied.refusals))
            result = applied.result + Result(refusals=undecided)
            outcome, is_complete = self.outcome.plus(len(chunk.entries), chunk.ids, result), False
        self.outcome, self.lines_done, self.is_complete = outcome, lines_done, is_complete
        return True

    def _commit_decisions(
        self,
        chunk: Chunk,
        first_result: Result,
        candidates: Chunk,
        start: int,
        check_is_last: Callable[[], bool],
    ) -> tuple[Outcome, bool]:
        """The second transaction: rejects candidates, or applies them after all."""
        attempt = 0
        while True:
            try:
                with (
                    self.applier.decision_log.reserve_slot() as slot,
                    self.applier.connection.transaction(),
                ):
                    slot.mark_alive()
                    decisions = self.applier.decide_candidates(candidates)
                    self.watch(self.applier.connection, candidates.list_commands())
                    result = first_result + decisions.result
                    advanced = self._advance_ledger(chunk, result, start, check_is_last)
                    slot.record(decisions.rejections, decisions.effects)
            except LogMovedError:
                self.applier.decision_log.follow()
            except psycopg.Error as exc:
                attempt = _pause(attempt, exc)
            else:
                return advanced

    def _advance_ledger(
        self, chunk: Chunk, result: Result, start: int, check_is_last: Callable[[], bool]
    ) -> tuple[Outcome, bool]:
        """Advance the ledger; return the outcome so far, and whether the object is complete.

        Held, unsettled or undecided commands keep the ledger at its position, so that the next run
        tries them again.
        """
        outcome = self.outcome.plus(len(chunk.entries), chunk.ids, result)
        if not _may_complete(outcome):
            return outcome, False
        is_complete = check_is_last()
        self.ledger.advance(
            start=start,
            end=start + len(chunk.entries),
            ids=chunk.ids,
            counts=result.counts,
            total=outcome,
            is_last=is_complete,
        )
        return outcome, is_complete


def _may_complete(outcome: Outcome) -> bool:
    return (
        outcome.held_reason is None and outcome.unsettled_reason is None and not outcome.undecided
    )


def _pause(attempt: int, error: psycopg.Error) -> int:
    """Wait before the next attempt, and count it; raise an error that a retry can't help."""
    attempt += 1
    if attempt > _INSTANT_RETRIES or not is_worth_an_instant_retry(error):
        raise error
    time.sleep(compute_backoff_seconds(attempt, first=_FIRST_PAUSE_SECONDS))
    return attempt
