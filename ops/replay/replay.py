"""A replay in this process: applies the objects of a run, records them, and can be resumed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from forebay.apply import Counts, DecisionLog, Outcome
from forebay.db.connect import Connection
from forebay.ids import accepted_ms
from forebay.replay import runs
from forebay.replay.selection import Selection
from ops.archive.listing import list_commands
from ops.archive.missing import Missing, find_missing
from ops.archive.store import ObjectStore, StoredObject
from ops.console import Console, Meter
from ops.context import REPLICA, Context
from ops.errors import RefusedError, StoppedError, UsageError
from ops.rejections import audit
from ops.replay.gate import Gate
from ops.replay.lag import ReplicaLag
from ops.replay.leftovers import Leftovers, Settled
from ops.replay.signals import steered
from ops.replay.worker import Done, Job, work

_SHOWN_FAILURES = 10
_LOOKUP = 1_000  # objects per query of the run's finished objects; a page of a listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The limits on the speed of a replay."""

    workers: int
    rate_per_second: float | None = None
    max_replica_lag_seconds: float | None = None


@dataclass(slots=True)
class Tally:
    """The counts of one call of `replay`."""

    objects: int = 0
    failed: int = 0
    lines: int = 0
    counts: Counts = field(default_factory=Counts)

    def add(self, done: Done) -> None:
        """Add an object."""
        self.objects += done.error is None
        self.failed += done.error is not None
        self.lines += done.outcome.lines
        self.counts += done.outcome.counts

    def add_waiting(self, outcome: Outcome) -> None:
        """Add an object with leftovers, which `Leftovers.settle` completes."""
        self.lines += outcome.lines
        self.counts += outcome.counts

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "objects": self.objects,
            "objects_failed": self.failed,
            "commands": self.lines,
            "applied": self.counts.applied,
            "superseded": self.counts.superseded,
            "duplicates": self.counts.duplicates,
            "rejected": self.counts.rejected,
            "skipped": self.counts.skipped,
        }


def objects_of(store: ObjectStore, selection: Selection) -> Iterator[StoredObject]:
    """Return the objects that may contain selected commands, in the order of keys."""
    return list_commands(store, since=_get_since(selection), until=_get_until(selection))


def count_objects(store: ObjectStore, selection: Selection) -> tuple[int, int]:
    """Return the number of objects that a replay has to read, and their size in bytes."""
    objects = size = 0
    for stored in objects_of(store, selection):
        objects += 1
        size += stored.size_bytes
    return objects, size


def missing_objects(context: Context, selection: Selection) -> Missing:
    """Find objects of the selected time that the ledger has and the archive lacks."""
    with context.connect(purpose="replay") as connection:
        return find_missing(
            connection, context.archive, since=_get_since(selection), until=_get_until(selection)
        )


def begin(context: Context, selection: Selection, *, via_queue: bool = False) -> runs.Run:
    """Insert a new run into the database, and return it."""
    with context.connect(purpose="replay") as connection:
        return runs.start_run(
            connection,
            source=context.archive.url,
            selection=selection.to_json(),
            via_queue=via_queue,
        )


def resumed(context: Context, run_id: str) -> runs.Run:
    """Return the run to resume.

    Raises:
        UsageError: the database does not have the run, or the run replays another archive.
        RefusedError: the run is done, and is not a run by the queue.
    """
    with context.connect(purpose="replay") as connection:
        run = runs.find_run(connection, run_id)
    if run is None:
        raise UsageError(f"the database has no run {run_id}; the table forebay.runs lists all runs")
    if (
        run.state == "done" and not run.via_queue
    ):  # --watch shows a run by the queue also after its end
        raise RefusedError(f"run {run_id} is done; start a new run without --resume")
    if context.archive.url != run.source:
        raise UsageError(
            f"run {run_id} replays {run.source}, not {context.archive.url}; "
            f"give --source {run.source}"
        )
    return run


def replay(
    context: Context,
    console: Console,
    run: runs.Run | None,
    selection: Selection,
    pace: Pace,
    *,
    rejects_all: bool = False,
    decides_conflicts: bool = True,
) -> Tally:
    """Apply the selected commands, and return the counts of this call.

    Args:
        context: the archive and the databases.
        console: shows the progress and the first failures.
        run: records every finished object; None for a rehearsal.
        selection: the conditions of the replay.
        pace: the limits on the speed.
        rejects_all: whether to reject all commands that can't be applied, even if another release
            could apply them.
        decides_conflicts: False if the archive is incomplete, because a missing object could
            resolve a conflict.

    Raises:
        StoppedError: the operator stopped the replay; the message explains how to resume.
    """
    total, _ = count_objects(context.archive, selection)
    with ExitStack() as stack:
        connect = partial(context.connect, purpose="replay")
        objects: Iterable[StoredObject] = objects_of(context.archive, selection)
        if run is not None:
            recording = stack.enter_context(connect())
            runs.mark(recording, run.id, "running", objects=total)
            done = runs.progress(recording, run.id).objects
            log = _follow_log(recording, context, selection, is_new=not done)
            total = max(total - done, 0)
            lookup = stack.enter_context(connect())
            objects = undone(lookup, run.id, objects)
        gate = stack.enter_context(_open_gate(context, console, pace))
        stack.enter_context(steered(gate, console.note, resume=_format_resume(run)))
        meter = stack.enter_context(console.progress("replay", unit="objects", total=total))
        job = Job(
            store=context.archive,
            resources=context.resources,
            selection=selection,
            gate=gate,
            connect=connect,
            run_id=run.id if run else None,
            rate_per_second=pace.rate_per_second,
        )
        tally, leftovers = Tally(), Leftovers()
        try:
            for finished in work(job, objects, workers=pace.workers):
                if finished.outcome.undecided:
                    finished = _keep(leftovers, finished)  # noqa: PLW2901 - without its leftovers
                    tally.add_waiting(finished.outcome)
                    tally.failed += finished.error is not None
                else:
                    tally.add(finished)
                _show_progress(console, meter, gate, finished, tally)
            if run is not None and leftovers:
                settled = leftovers.settle(
                    recording,
                    log,
                    context.resources,
                    is_everything=selection.is_everything,
                    decides_conflicts=decides_conflicts,
                    rejects_all=rejects_all,
                )
                _record_settled(recording, run.id, settled, tally, console)
        except StoppedError:
            if run is not None:
                runs.mark(recording, run.id, "stopped")
            raise StoppedError(
                f"stopped after {tally.objects:,} objects and {tally.lines:,} commands; "
                f"resume with: {_format_resume(run)}"
            ) from None
        if run is not None and not tally.failed:
            runs.mark(recording, run.id, "done")
        elif run is not None:
            runs.mark(recording, run.id, "stopped")
    return tally


def _follow_log(
    connection: Connection, context: Context, selection: Selection, *, is_new: bool
) -> DecisionLog:
    """Read the decision log, and for a replay without conditions the operators' decisions."""
    log = DecisionLog(connection, context.archive, context.resources, ownership="claim")
    log.follow()
    if selection.is_everything:
        audit.restore(connection, context.archive)
        if is_new:
            log.forget_own()
    return log


def _keep(leftovers: Leftovers, done: Done) -> Done:
    """Keep an object's leftovers for the end; return its result, an error if there are too many."""
    outcome = replace(done.outcome, undecided=())
    if leftovers.add(done.key, done.size_bytes, done.outcome):
        return Done(done.key, done.size_bytes, outcome)
    error = "too many commands of the replay can't be applied at their turn; resume the run"
    return Done(done.key, done.size_bytes, outcome, error)


def _record_settled(
    connection: Connection,
    run_id: str,
    settled: Iterable[Settled],
    tally: Tally,
    console: Console,
) -> None:
    """Record the results of objects with leftovers in the run."""
    for item in settled:
        tally.counts += item.added
        if item.error is None:
            tally.objects += 1
            runs.note_object(connection, run_id, item.key, item.outcome)
            continue
        tally.failed += 1
        runs.note_failure(connection, run_id, item.key, item.error)
        if tally.failed <= _SHOWN_FAILURES:
            console.note(f"{item.key}: {item.error}")


@contextmanager
def _open_gate(context: Context, console: Console, pace: Pace) -> Iterator[Gate]:
    """Yield the gate of a replay, which measures the replica's lag if the lag is limited."""
    limit = pace.max_replica_lag_seconds
    if limit is None:
        yield Gate(rate_per_second=pace.rate_per_second)
        return
    context.get(REPLICA)  # raises UsageError without a replica
    primary = partial(context.connect, purpose="replica-lag")
    replica = partial(context.connect_for_reading, purpose="replica-lag")
    with ReplicaLag(primary, replica, limit_seconds=limit) as lag:
        yield Gate(rate_per_second=pace.rate_per_second, hold=lag.hold, notify=console.note)


def undone(
    connection: Connection, run_id: str, objects: Iterable[StoredObject]
) -> Iterator[StoredObject]:
    """Yield the objects that the run has not finished."""
    while page := list(islice(objects := iter(objects), _LOOKUP)):
        done = runs.done_among(connection, run_id, [stored.key for stored in page])
        yield from (stored for stored in page if stored.key not in done)


def _show_progress(console: Console, meter: Meter, gate: Gate, done: Done, tally: Tally) -> None:
    if done.error is not None and tally.failed <= _SHOWN_FAILURES:
        console.note(f"{done.key}: {done.error}")
    note = f"{tally.lines:,} commands"
    if gate.waiting_for:
        note += f"; waiting: {gate.waiting_for}"
    meter.advance(1, note=note)


def _format_resume(run: runs.Run | None) -> str:
    return f"forebay replay --resume {run.id}" if run else "the same command"


def _get_since(selection: Selection) -> dt.datetime | None:
    """Return the earliest time of acceptance, from the condition or the smallest selected id."""
    if selection.since is None and selection.ids:
        return _get_acceptance_time(min(selection.ids))
    return selection.since


def _get_until(selection: Selection) -> dt.datetime | None:
    if selection.until is None and selection.ids:
        return _get_acceptance_time(max(selection.ids)) + dt.timedelta(milliseconds=1)
    return selection.until


def _get_acceptance_time(command_id: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(accepted_ms(command_id) / 1000, dt.UTC)
