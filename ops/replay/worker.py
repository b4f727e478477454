"""Applies the objects of a run on several connections; memory holds a chunk for each of them."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from forebay.apply import Habits, Outcome, Source, apply, rehearse
from forebay.archive.lines import CHUNK_BYTES, CHUNK_COMMANDS, read_chunks
from forebay.db.connect import Connection
from forebay.decisions.log import DecisionLog
from forebay.errors import HeldError, PermanentError, TransientError
from forebay.replay.runs import note_failure, note_object
from forebay.replay.selection import Selection
from forebay.resource.spec import ResourceSpec
from ops.archive.store import ObjectStore, StoredObject
from ops.errors import StoppedError
from ops.replay.gate import Gate
from ops.replay.leftovers import settle_at_once

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.5  # doubles with each attempt, with full jitter: half a minute in all
_MIN_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all workers of a run have in common."""

    store: ObjectStore
    resources: Mapping[str, ResourceSpec]
    selection: Selection
    gate: Gate
    connect: Callable[[], Connection]
    #: The run to note objects in; None for a dry run, which changes nothing.
    run_id: str | None
    rate_per_second: float | None = None
    habits: Habits = field(default_factory=Habits)

    @property
    def chunk_commands(self) -> int:
        """Commands in a chunk: at a low rate smaller, or a chunk would be a burst of a minute."""
        if self.rate_per_second is None:
            return CHUNK_COMMANDS
        return max(_MIN_CHUNK, min(CHUNK_COMMANDS, int(self.rate_per_second)))


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one object."""

    key: str
    size_bytes: int
    outcome: Outcome
    #: Why it could not be applied, wholly or in part.
    error: str | None = None


def work(job: Job, objects: Iterable[StoredObject], *, workers: int) -> Iterator[Done]:
    """Applies every object, in any order; what became of each, as soon as it is known.

    Raises:
        StoppedError: the gate was stopped.
        psycopg.OperationalError, TransientError: database or archive stayed away.
    """
    waiting: queue.Queue[StoredObject | None] = queue.Queue(maxsize=workers)
    finished: queue.Queue[Done | BaseException | None] = queue.Queue(maxsize=4 * workers)
    threads = [
        threading.Thread(target=_worker, args=(job, waiting, finished), name=f"replay-{number}")
        for number in range(workers)
    ]
    feeder = threading.Thread(
        target=_feed, args=(job.gate, objects, waiting, finished, workers), name="replay-feeder"
    )
    for thread in (feeder, *threads):
        thread.start()
    running = len(threads) + 1
    failed: BaseException | None = None
    try:
        while running:
            found = finished.get()
            if found is None:
                running -= 1
            elif isinstance(found, Done):
                yield found
            elif failed is None or isinstance(failed, StoppedError):
                failed = found
                job.gate.stop()
    finally:
        job.gate.stop()
        while running:
            running -= finished.get() is None
        for thread in (feeder, *threads):
            thread.join()
    if failed is not None:
        raise failed


def _feed(
    gate: Gate,
    objects: Iterable[StoredObject],
    waiting: queue.Queue[StoredObject | None],
    finished: queue.Queue[Done | BaseException | None],
    workers: int,
) -> None:
    try:
        for found in objects:
            _put(gate, waiting, found)
        for _ in range(workers):
            _put(gate, waiting, None)
    except BaseException as exc:  # noqa: BLE001 - whatever it is, it goes to the caller's thread
        finished.put(exc)
    finally:
        finished.put(None)


def _put(gate: Gate, waiting: queue.Queue[StoredObject | None], item: StoredObject | None) -> None:
    while True:
        if gate.is_stopped:
            raise StoppedError("stopped")
        with suppress(queue.Full):
            waiting.put(item, timeout=0.2)
            return


def _take(gate: Gate, waiting: queue.Queue[StoredObject | None]) -> StoredObject | None:
    while True:
        if gate.is_stopped:
            raise StoppedError("stopped")
        with suppress(queue.Empty):
            return waiting.get(timeout=0.2)


def _worker(
    job: Job,
    waiting: queue.Queue[StoredObject | None],
    finished: queue.Queue[Done | BaseException | None],
) -> None:
    connection: Connection | None = None
    try:
        while (found := _take(job.gate, waiting)) is not None:
            connection, done = _apply_patiently(job, connection, found)
            finished.put(done)
    except BaseException as exc:  # noqa: BLE001 - whatever it is, it goes to the caller's thread
        finished.put(exc)
    finally:
        if connection is not None:
            connection.close()
        finished.put(None)


def _apply_patiently(
    job: Job, connection: Connection | None, found: StoredObject
) -> tuple[Connection, Done]:
    """Applies an object; a database or an archive that is away for a moment is waited for."""
    attempt = 0
    while True:
        try:
            if connection is None or connection.closed:
                connection = job.connect()
            return connection, _apply(job, connection, found)
        except (psycopg.OperationalError, TransientError) as exc:
            if connection is not None:
                connection.close()
            attempt += 1
            if isinstance(exc, HeldError) or attempt >= _ATTEMPTS:
                raise
            time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))
        except BaseException:
            if connection is not None:
                connection.close()
            raise


def _apply(job: Job, connection: Connection, found: StoredObject) -> Done:
    source = Source(found.key, replay=True, partial=not job.selection.is_everything)
    chunks = job.selection.chunks(
        read_chunks(
            job.store.read(found.key), max_commands=job.chunk_commands, max_bytes=CHUNK_BYTES
        )
    )
    log = DecisionLog(connection, job.store, job.resources, ownership="claim")
    try:
        if job.run_id is None:
            admitted = job.gate.chunks(chunks)
            outcome = rehearse(connection, admitted, source, resources=job.resources, log=log)
            return Done(found.key, found.size_bytes, outcome, outcome.held)
        outcome = apply(
            connection,
            chunks,
            source,
            resources=job.resources,
            log=log,
            # What can't be applied now may be when the other objects are.
            decides=False,
            # Not while the chunk is read: that is done ahead, while another one's locks are held.
            admit=job.gate.pass_through,
            habits=job.habits,
        )
        if outcome.undecided:
            outcome = settle_at_once(connection, log, job.resources, source, outcome)
    except (HeldError, PermanentError) as exc:
        if job.run_id is not None:
            note_failure(connection, job.run_id, found.key, str(exc))
        return Done(found.key, found.size_bytes, Outcome(), str(exc))
    if not outcome.undecided:
        note_object(connection, job.run_id, found.key, outcome)
    return Done(found.key, found.size_bytes, outcome)
