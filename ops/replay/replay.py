"""A replay in this process: applies the objects of a run, records them, and can be resumed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from forebay.apply import Counts
from forebay.archive.layout import StoredObject
from forebay.db.connect import Connection
from forebay.decisions.decision_log import DecisionLog
from forebay.ids import accepted_ms
from forebay.replay import runs
from forebay.replay.selection import Selection
from ops.archive.listing import count_objects, list_commands
from ops.archive.missing import Missing, find_missing
from ops.archive.store import ObjectStore
from ops.console import Console, Meter
from ops.context import REPLICA, Context
from ops.errors import RefusedError, StoppedError, UsageError
from ops.rejections import audit
from ops.replay.gate import Gate
from ops.replay.lag import ReplicaLag
from ops.replay.leftovers import Leftovers, LeftoversResult
from ops.replay.signals import steer
from ops.replay.worker import Job, ObjectResult, work

_SHOWN_FAILURES = 10
_LOOKUP = 1_000  # objects per query of the run's finished objects; a page of a listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The limits on the speed of a replay."""

    workers: int
    rate_per_second: float | None = None
    max_replica_lag_seconds: float | None = None


@dataclass(slots=True)
class Totals:
    """The counts of one call of `replay`."""

    objects: int = 0
    failed: int = 0
    lines: int = 0
    counts: Counts = field(default_factory=Counts)
    #: The ids of the commands that were selected by their ids.
    found_ids: set[str] = field(default_factory=set)

    def add(self, result: ObjectResult) -> None:
        """Add an object."""
        self.objects += result.error is None
        self.add_unfinished(result)

    def add_unfinished(self, result: ObjectResult) -> None:
        """Add an object with leftovers, which `Leftovers.try_again` completes."""
        self.failed += result.error is not None
        self.lines += result.outcome.lines
        self.counts += result.outcome.counts

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "objects": self.objects,
            "objects_failed": self.failed,
            "commands": self.lines,
            **self.counts._asdict(),
        }


def list_objects(store: ObjectStore, selection: Selection) -> Iterator[StoredObject]:
    """Return the objects that may contain selected commands, in the order of keys."""
    return list_commands(store, since=_get_since(selection), until=_get_until(selection))


def find_missing_objects(context: Context, selection: Selection) -> Missing:
    """Find objects of the selected time that the ledger has and the archive lacks."""
    with context.connect(purpose="replay") as connection:
        return find_missing(
            connection, context.archive, since=_get_since(selection), until=_get_until(selection)
        )


def start_run(context: Context, selection: Selection, *, via_queue: bool = False) -> runs.Run:
    """Insert a new run into the database, and return it."""
    with context.connect(purpose="replay") as connection:
        return runs.start_run(
            connection,
            source=context.archive.url,
            selection=selection.to_json(),
            via_queue=via_queue,
        )


def find_resumable(context: Context, run_id: str) -> runs.Run:
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
) -> Totals:
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
    total, _ = count_objects(list_objects(context.archive, selection))
    objects: Iterable[StoredObject] = list_objects(context.archive, selection)
    with ExitStack() as stack:
        if run is not None:
            recording = stack.enter_context(context.connect(purpose="replay"))
            runs.mark(recording, run.id, "running", objects=total)
            finished = runs.progress(recording, run.id).objects
            decision_log = _follow_decision_log(recording, context, selection, is_new=not finished)
            total = max(total - finished, 0)
            lookup = stack.enter_context(context.connect(purpose="replay"))
            objects = list_unfinished(lookup, run.id, objects)
        opening = _open_job(context, console, run, selection, pace, total=total)
        job, results = stack.enter_context(opening)
        try:
            for result in work(job, objects, workers=pace.workers):
                results.add(result)
            if run is not None and results.leftovers:
                leftovers = results.leftovers.try_again(
                    recording,
                    decision_log,
                    context.resources,
                    is_everything=selection.is_everything,
                    decides_conflicts=decides_conflicts,
                    rejects_all=rejects_all,
                )
                results.record_leftovers(recording, run.id, leftovers)
        except StoppedError:
            if run is not None:
                runs.mark(recording, run.id, "stopped")
            raise StoppedError(results.describe_stop(_format_resume(run))) from None
        if run is not None:
            runs.mark(recording, run.id, "stopped" if results.totals.failed else "done")
    return results.totals


@contextmanager
def _open_job(
    context: Context,
    console: Console,
    run: runs.Run | None,
    selection: Selection,
    pace: Pace,
    *,
    total: int,
) -> Iterator[tuple[Job, _Results]]:
    """Yield the workers' job and its results, with a progress bar and handlers of signals."""
    with (
        _open_gate(context, console, pace) as gate,
        steer(gate, console.note, resume=_format_resume(run)),
        console.progress("replay", unit="objects", total=total) as meter,
    ):
        job = Job(
            store=context.archive,
            resources=context.resources,
            selection=selection,
            gate=gate,
            connect=partial(context.connect, purpose="replay"),
            run_id=run.id if run else None,
            rate_per_second=pace.rate_per_second,
        )
        yield job, _Results(console, meter, gate, Totals(found_ids=job.found_ids))


def _follow_decision_log(
    connection: Connection, context: Context, selection: Selection, *, is_new: bool
) -> DecisionLog:
    """Read the decision log, and for a replay without conditions the operators' decisions."""
    decision_log = DecisionLog(connection, context.archive, context.resources, ownership="claim")
    decision_log.follow()
    if selection.is_everything:
        audit.restore(connection, context.archive)
        if is_new:
            decision_log.forget_private()
    return decision_log


@dataclass(slots=True)
class _Results:
    """Counts the results of a replay, and shows the progress and the first failures."""

    console: Console
    meter: Meter
    gate: Gate
    totals: Totals = field(default_factory=Totals)
    leftovers: Leftovers = field(default_factory=Leftovers)

    def add(self, result: ObjectResult) -> None:
        """Count an object, and keep its leftovers for the end."""
        if result.outcome.undecided:
            result = self._keep_leftovers(result)
            self.totals.add_unfinished(result)
        else:
            self.totals.add(result)
        if result.error is not None:
            self._show_failure(result.key, result.error)
        note = f"{self.totals.lines:,} commands"
        if self.gate.waiting_for:
            note += f"; waiting: {self.gate.waiting_for}"
        self.meter.advance(1, note=note)

    def _keep_leftovers(self, result: ObjectResult) -> ObjectResult:
        """Keep an object's leftovers; return its result without them."""
        is_kept = self.leftovers.add(result.key, result.outcome)
        error = "too many commands of the replay can't be applied at their turn; resume the run"
        outcome = replace(result.outcome, undecided=())
        return replace(result, outcome=outcome, error=None if is_kept else error)

    def record_leftovers(
        self, connection: Connection, run_id: str, results: Iterable[LeftoversResult]
    ) -> None:
        """Count the objects with leftovers, and record them in the run."""
        for result in results:
            self.totals.counts += result.added
            if result.error is None:
                self.totals.objects += 1
                runs.record_object(connection, run_id, result.key, result.outcome)
                continue
            self.totals.failed += 1
            runs.record_failure(connection, run_id, result.key, result.error)
            self._show_failure(result.key, result.error)

    def _show_failure(self, key: str, error: str) -> None:
        if self.totals.failed <= _SHOWN_FAILURES:
            self.console.note(f"{key}: {error}")

    def describe_stop(self, resume: str) -> str:
        """Return the message for an operator that has stopped the replay."""
        return (
            f"stopped after {self.totals.objects:,} objects and {self.totals.lines:,} commands; "
            f"resume with: {resume}"
        )


@contextmanager
def _open_gate(context: Context, console: Console, pace: Pace) -> Iterator[Gate]:
    """Yield the gate of a replay, which measures the replica's lag if the lag is limited."""
    limit, rate = pace.max_replica_lag_seconds, pace.rate_per_second
    if limit is None:
        yield Gate(rate_per_second=rate)
        return
    context.get(REPLICA)  # raises UsageError without a replica
    primary = partial(context.connect, purpose="replica-lag")
    replica = partial(context.connect_for_reading, purpose="replica-lag")
    with ReplicaLag(primary, replica, limit_seconds=limit) as lag:
        yield Gate(
            rate_per_second=pace.rate_per_second, find_delay=lag.find_delay, notify=console.note
        )


def list_unfinished(
    connection: Connection, run_id: str, objects: Iterable[StoredObject]
) -> Iterator[StoredObject]:
    """Yield the objects that the run has not finished."""
    while page := list(islice(objects := iter(objects), _LOOKUP)):
        finished_keys = runs.select_done(
            connection, run_id, [archive_object.key for archive_object in page]
        )
        yield from (
            archive_object for archive_object in page if archive_object.key not in finished_keys
        )


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
