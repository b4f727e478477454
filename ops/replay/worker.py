"""Applies the objects of a run over several connections, one connection per worker."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import psycopg

from forebay.apply import Habits, Outcome, Source, apply, rehearse
from forebay.archive.layout import StoredObject
from forebay.archive.lines import CHUNK_BYTES, CHUNK_COMMANDS, Entry, InvalidLine, read_chunks
from forebay.db.connect import Connection
from forebay.decisions.decision_log import DecisionLog
from forebay.errors import HeldError, PermanentError, TransientError
from forebay.replay import runs
from forebay.replay.selection import Selection
from forebay.resource.spec import ResourceSpec
from forebay.retry import compute_backoff_seconds
from ops.archive.store import ObjectStore
from ops.errors import StoppedError
from ops.replay.gate import Gate
from ops.replay.leftovers import reject_permanent_failures

_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 1.0  # all pauses together: half a minute
_MIN_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The parts that all workers of a run share."""

    store: ObjectStore
    resources: Mapping[str, ResourceSpec]
    selection: Selection
    gate: Gate
    connect: Callable[[], Connection]
    #: The run that records finished objects; None for a rehearsal.
    run_id: str | None
    rate_per_second: float | None = None
    habits: Habits = field(default_factory=Habits)
    #: The ids of the commands that were selected by their ids; all workers add to it.
    found_ids: set[str] = field(default_factory=set)

    @property
    def chunk_commands(self) -> int:
        """Commands per chunk; at a low rate the commands of a second, to avoid long bursts."""
        if self.rate_per_second is None:
            return CHUNK_COMMANDS
        return max(_MIN_CHUNK, min(CHUNK_COMMANDS, int(self.rate_per_second)))


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The result of one object."""

    key: str
    outcome: Outcome
    #: The reason why the object, or a part of it, could not be applied.
    error: str | None = None


_Results: TypeAlias = queue.Queue[ObjectResult | BaseException | None]


def work(job: Job, objects: Iterable[StoredObject], *, workers: int) -> Iterator[ObjectResult]:
    """Apply all objects in any order, and yield the result of each object when it is finished.

    Args:
        job: the parts that the workers share.
        objects: read by a thread, at most as far ahead as there are workers.
        workers: the number of threads that apply objects, each with a connection.

    Raises:
        StoppedError: the gate was stopped.
        psycopg.OperationalError, TransientError: the database or the archive did not answer at any
            attempt.
    """
    results: _Results = queue.Queue(maxsize=4 * workers)
    threads = _start_threads(job, objects, results, workers)
    running = len(threads)
    error: BaseException | None = None
    try:
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, ObjectResult):
                yield result
            elif error is None or isinstance(error, StoppedError):
                error = result
                job.gate.stop()
    finally:
        job.gate.stop()
        while running:
            running -= results.get() is None
        for thread in threads:
            thread.join()
    if error is not None:
        raise error


def _start_threads(
    job: Job, objects: Iterable[StoredObject], results: _Results, workers: int
) -> list[threading.Thread]:
    """Start the thread that reads the objects, and the threads that apply them.

    Each puts None into the results when it ends.
    """
    inputs: queue.Queue[StoredObject | None] = queue.Queue(maxsize=workers)
    threads = [
        threading.Thread(
            target=_feed, args=(job.gate, objects, inputs, results, workers), name="replay-feeder"
        )
    ]
    threads += [
        threading.Thread(
            target=_apply_objects, args=(job, inputs, results), name=f"replay-{number}"
        )
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    return threads


def _feed(
    gate: Gate,
    objects: Iterable[StoredObject],
    inputs: queue.Queue[StoredObject | None],
    results: _Results,
    workers: int,
) -> None:
    try:
        for archive_object in objects:
            _put(gate, inputs, archive_object)
        for _ in range(workers):
            _put(gate, inputs, None)
    except BaseException as exc:  # noqa: BLE001 - the caller's thread raises it
        results.put(exc)
    finally:
        results.put(None)


def _put(gate: Gate, inputs: queue.Queue[StoredObject | None], item: StoredObject | None) -> None:
    while True:
        if gate.is_stopped:
            raise StoppedError("stopped")
        with suppress(queue.Full):
            inputs.put(item, timeout=0.2)
            return


def _take(gate: Gate, inputs: queue.Queue[StoredObject | None]) -> StoredObject | None:
    while True:
        if gate.is_stopped:
            raise StoppedError("stopped")
        with suppress(queue.Empty):
            return inputs.get(timeout=0.2)


def _apply_objects(
    job: Job,
    inputs: queue.Queue[StoredObject | None],
    results: _Results,
) -> None:
    connection: Connection | None = None
    try:
        while (archive_object := _take(job.gate, inputs)) is not None:
            connection, result = _apply_with_retries(job, connection, archive_object)
            results.put(result)
    except BaseException as exc:  # noqa: BLE001 - the caller's thread raises it
        results.put(exc)
    finally:
        if connection is not None:
            connection.close()
        results.put(None)


def _apply_with_retries(
    job: Job, connection: Connection | None, archive_object: StoredObject
) -> tuple[Connection, ObjectResult]:
    """Apply an object; after a transient failure, wait and try again with a new connection."""
    attempt = 0
    while True:
        try:
            if connection is None or connection.closed:
                connection = job.connect()
            return connection, _apply(job, connection, archive_object)
        except (psycopg.OperationalError, TransientError) as exc:
            if connection is not None:
                connection.close()
            attempt += 1
            if isinstance(exc, HeldError) or attempt >= _ATTEMPTS:
                raise
            time.sleep(compute_backoff_seconds(attempt, first=_FIRST_PAUSE_SECONDS))
        except BaseException:
            if connection is not None:
                connection.close()
            raise


def _select(job: Job, archive_object: StoredObject) -> Iterator[Sequence[Entry]]:
    """Yield the selected commands of an object, in chunks."""
    chunks = read_chunks(
        job.store.read(archive_object.key), max_commands=job.chunk_commands, max_bytes=CHUNK_BYTES
    )
    for chunk in job.selection.chunks(chunks):
        if job.selection.ids:
            job.found_ids.update(entry.id for entry in chunk if not isinstance(entry, InvalidLine))
        yield chunk


def _apply(job: Job, connection: Connection, archive_object: StoredObject) -> ObjectResult:
    source = Source(archive_object.key, replay=True, partial=not job.selection.is_everything)
    chunks = _select(job, archive_object)
    decision_log = DecisionLog(connection, job.store, job.resources, ownership="claim")
    try:
        if job.run_id is None:
            admitted_chunks = job.gate.chunks(chunks)
            outcome = rehearse(
                connection,
                admitted_chunks,
                source,
                resources=job.resources,
                decision_log=decision_log,
            )
            return ObjectResult(archive_object.key, outcome, outcome.held_reason)
        outcome = apply(
            connection,
            chunks,
            source,
            resources=job.resources,
            decision_log=decision_log,
            # A command that can't be applied now may be applied after the other objects.
            decides=False,
            # A chunk waits here, before its transaction. It must not wait while it is read: chunks
            # are read ahead, during the transaction of the previous chunk, which holds locks.
            admit=job.gate.pass_through,
            habits=job.habits,
        )
        if outcome.undecided:
            outcome = reject_permanent_failures(
                connection, decision_log, job.resources, source, outcome
            )
    except (HeldError, PermanentError) as exc:
        if job.run_id is not None:
            runs.record_failure(connection, job.run_id, archive_object.key, str(exc))
        return ObjectResult(archive_object.key, Outcome(), str(exc))
    if not outcome.undecided:
        runs.record_object(connection, job.run_id, archive_object.key, outcome)
    return ObjectResult(archive_object.key, outcome)
