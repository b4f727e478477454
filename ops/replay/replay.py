"""One replay from beginning to end: lists, applies, notes, and can be gone on with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from forebay.apply import Counts, Outcome
from forebay.db.connect import Connection
from forebay.decisions.log import DecisionLog
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
_LOOKUP = 1_000  # objects whose being done is asked in one query: a page of a listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a replay may go."""

    workers: int
    rate_per_second: float | None = None
    max_replica_lag_seconds: float | None = None


@dataclass(slots=True)
class Tally:
    """What one call of `replay` did."""

    objects: int = 0
    failed: int = 0
    lines: int = 0
    counts: Counts = field(default_factory=Counts)

    def add(self, done: Done) -> None:
        """One more object."""
        self.objects += done.error is None
        self.failed += done.error is not None
        self.lines += done.outcome.lines
        self.counts += done.outcome.counts

    def add_waiting(self, outcome: Outcome) -> None:
        """One more object with commands that could not be applied at their turn."""
        self.lines += outcome.lines
        self.counts += outcome.counts

    def facts(self) -> dict[str, Any]:
        """For the operator."""
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
    """The objects that may hold selected commands, by key."""
    return list_commands(store, since=_since(selection), until=_until(selection))


def count_objects(store: ObjectStore, selection: Selection) -> tuple[int, int]:
    """How many objects a replay has to read, and their bytes."""
    objects = size = 0
    for found in objects_of(store, selection):
        objects += 1
        size += found.size_bytes
    return objects, size


def missing_objects(context: Context, selection: Selection) -> Missing:
    """Find the objects of the selected time that the ledger has and the archive lacks."""
    with context.connect(purpose="replay") as connection:
        return find_missing(
            connection, context.archive, since=_since(selection), until=_until(selection)
        )


def begin(context: Context, selection: Selection, *, via_queue: bool = False) -> runs.Run:
    """A new run in the database that is replayed into."""
    with context.connect(purpose="replay") as connection:
        return runs.start_run(
            connection,
            source=context.archive.url,
            selection=selection.to_json(),
            via_queue=via_queue,
        )


def resumed(context: Context, run_id: str) -> runs.Run:
    """The run to go on with.

    Raises:
        UsageError: the database has no such run, or another archive was named.
        RefusedError: it is done, and not by the queue.
    """
    with context.connect(purpose="replay") as connection:
        run = runs.find_run(connection, run_id)
    if run is None:
        raise UsageError(f"the database knows no run {run_id}; forebay.runs lists them")
    if run.state == "done" and not run.via_queue:  # one by the queue may still be looked at
        raise RefusedError(f"run {run_id} is done; start another one without --resume")
    if context.archive.url != run.source:
        raise UsageError(
            f"run {run_id} replays {run.source}, not {context.archive.url}; give --source"
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
    """Applies what is selected; counts what this call did.

    Args:
        context: says where everything is.
        console: for the progress.
        run: where every object that is done is noted; None for a dry run.
        selection: which commands.
        pace: how fast.
        rejects_all: reject whatever can't be applied, also what another release could apply.
        decides_conflicts: False where objects are missing: what they held could remove a conflict.

    Raises:
        StoppedError: the operator stopped it; says how to go on.
    """
    total, _ = count_objects(context.archive, selection)
    with ExitStack() as opened:
        connect = partial(context.connect, purpose="replay")
        objects: Iterable[StoredObject] = objects_of(context.archive, selection)
        if run is not None:
            noting = opened.enter_context(connect())
            runs.mark(noting, run.id, "running", objects=total)
            done = runs.progress(noting, run.id).objects
            log = _follow_log(noting, context, selection, is_new=not done)
            total = max(total - done, 0)
            looking = opened.enter_context(connect())
            objects = undone(looking, run.id, objects)
        gate = opened.enter_context(_gate(context, console, pace))
        opened.enter_context(steered(gate, console.note, resume=_resume(run)))
        meter = opened.enter_context(console.progress("replay", unit="objects", total=total))
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
                    finished = _keep(leftovers, finished)  # noqa: PLW2901 - what is left of it
                    tally.add_waiting(finished.outcome)
                    tally.failed += finished.error is not None
                else:
                    tally.add(finished)
                _show(console, meter, gate, finished, tally)
            if run is not None and leftovers:
                settled = leftovers.settle(
                    noting,
                    log,
                    context.resources,
                    is_everything=selection.is_everything,
                    decides_conflicts=decides_conflicts,
                    rejects_all=rejects_all,
                )
                _note(noting, run.id, settled, tally, console)
        except StoppedError:
            if run is not None:
                runs.mark(noting, run.id, "stopped")
            raise StoppedError(
                f"stopped after {tally.objects:,} objects and {tally.lines:,} commands; "
                f"go on with: {_resume(run)}"
            ) from None
        if run is not None and not tally.failed:
            runs.mark(noting, run.id, "done")
        elif run is not None:
            runs.mark(noting, run.id, "stopped")
    return tally


def _follow_log(
    connection: Connection, context: Context, selection: Selection, *, is_new: bool
) -> DecisionLog:
    """Takes over what was decided, by the consumer and by operators."""
    log = DecisionLog(connection, context.archive, context.resources, ownership="claim")
    log.follow()
    if selection.is_everything:
        audit.restore(connection, context.archive)
        if is_new:
            log.forget_own()
    return log


def _keep(leftovers: Leftovers, done: Done) -> Done:
    """Keeps what an object has left for the end, if there is room."""
    outcome = replace(done.outcome, undecided=())
    if leftovers.add(done.key, done.size_bytes, done.outcome):
        return Done(done.key, done.size_bytes, outcome)
    error = "too many commands of the replay can't be applied at their turn; resume it"
    return Done(done.key, done.size_bytes, outcome, error)


def _note(
    connection: Connection,
    run_id: str,
    settled: Iterable[Settled],
    tally: Tally,
    console: Console,
) -> None:
    """Notes in the run what became of objects with leftovers."""
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
def _gate(context: Context, console: Console, pace: Pace) -> Iterator[Gate]:
    """The gate of a replay, with the watch on the replica where one is wanted."""
    limit = pace.max_replica_lag_seconds
    if limit is None:
        yield Gate(rate_per_second=pace.rate_per_second)
        return
    context.get(REPLICA)  # without one there is no lag to look at
    primary = partial(context.connect, purpose="replica-lag")
    replica = partial(context.connect_for_reading, purpose="replica-lag")
    with ReplicaLag(primary, replica, limit_seconds=limit) as lag:
        yield Gate(rate_per_second=pace.rate_per_second, hold=lag.hold, tell=console.note)


def undone(
    connection: Connection, run_id: str, objects: Iterable[StoredObject]
) -> Iterator[StoredObject]:
    """Those of the objects that the run is not done with."""
    while page := list(islice(objects := iter(objects), _LOOKUP)):
        done = runs.done_among(connection, run_id, [found.key for found in page])
        yield from (found for found in page if found.key not in done)


def _show(console: Console, meter: Meter, gate: Gate, done: Done, tally: Tally) -> None:
    if done.error is not None and tally.failed <= _SHOWN_FAILURES:
        console.note(f"{done.key}: {done.error}")
    note = f"{tally.lines:,} commands"
    if gate.waiting_for:
        note += f"; waiting: {gate.waiting_for}"
    meter.advance(1, note=note)


def _resume(run: runs.Run | None) -> str:
    return f"forebay replay --resume {run.id}" if run else "the same command"


def _since(selection: Selection) -> dt.datetime | None:
    """The earliest time of acceptance: given, or that of the ids that are wanted."""
    if selection.since is None and selection.ids:
        return _accepted(min(selection.ids))
    return selection.since


def _until(selection: Selection) -> dt.datetime | None:
    if selection.until is None and selection.ids:
        return _accepted(max(selection.ids)) + dt.timedelta(milliseconds=1)
    return selection.until


def _accepted(command_id: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(accepted_ms(command_id) / 1000, dt.UTC)
