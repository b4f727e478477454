"""A replay by the consumer function: sends it the objects of a run, and follows its progress.

A run covers the objects that were stored when it started, and records how many objects were sent.
Objects that live traffic adds to the archive later are not part of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from forebay.archive.layout import StoredObject
from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.replay import runs
from forebay.replay.messages import ReplayMessage, list_keys_of_run
from forebay.replay.selection import Selection
from ops.archive.listing import count_objects
from ops.console import Console, Meter
from ops.context import REPLAY_DEAD_LETTERS, REPLAY_QUEUE, Context
from ops.errors import IncompleteError, RefusedError, StoppedError, UsageError
from ops.replay.replay import list_objects, list_unfinished, start_run

_BATCH = 10  # messages of one SendMessageBatch
_MAX_IDS = 1_000  # of a selection, because each message contains them and holds 256 KiB
_LOOK_SECONDS = 1.0
#: How long an empty queue without progress is observed, because SQS counts approximately.
QUIET_SECONDS = 60.0
_MAX_LETTERS = 10_000
_SHOWN_FAILURES = 10


def replay_via_queue(
    context: Context,
    console: Console,
    run: runs.Run | None,
    selection: Selection,
    *,
    watch: bool,
    yes: bool,
) -> None:
    """Send the objects of a run to the replay queue; of a resumed run, the unfinished objects.

    Args:
        context: the archive, the database and the queue.
        console: shows the progress and the result.
        run: the run to resume; None to start a new run.
        selection: the conditions of a new run.
        watch: whether to follow the run to its end. A resumed run is then only followed: no object
            is sent again.
        yes: whether the operator has confirmed in advance.

    Raises:
        UsageError: the archive is a folder, or there are too many ids.
        RefusedError: the run is done, or not all objects of the run to follow were sent.
        TransientError: the queue did not accept the messages.
        IncompleteError: with `watch`, objects could not be applied.
    """
    queue = Queue(context.sqs, context.get(REPLAY_QUEUE))
    _check_sendable(context, selection)
    if run is not None and watch:
        _Watch(context, console, run, queue).follow()
        return
    if run is not None and run.state == "done":
        raise RefusedError(f"run {run.id} is done; start a new run without --resume")
    if run is None:
        total, size = count_objects(list_objects(context.archive, selection))
        console.confirm(
            f"Send {total:,} objects ({size:,} bytes) of {context.archive.url} to {queue.url}?",
            yes=yes,
        )
        run = start_run(context, selection, via_queue=True)
    console.note(f"run {run.id}; follow it with: forebay replay --resume {run.id} --watch")
    total, sent = _send_all(context, console, run, queue)
    if watch:
        _Watch(context, console, run, queue).follow()
    else:
        console.facts({"run": run.id, "objects": total, "sent": sent, "queue": queue.url})


def _check_sendable(context: Context, selection: Selection) -> None:
    if not context.archive.url.startswith("s3://"):
        raise UsageError(
            "--via-queue needs the bucket that the consumer reads; replay a folder without it"
        )
    if len(selection.ids) > _MAX_IDS:
        raise UsageError(f"--via-queue accepts at most {_MAX_IDS:,} ids; replay without it")


def _list_run_objects(context: Context, run: runs.Run) -> Iterator[StoredObject]:
    """Return the run's objects by key, the same at each call unless an object is deleted."""
    selection = Selection.from_json(run.selection)
    return (
        archive_object
        for archive_object in list_objects(context.archive, selection)
        if archive_object.modified <= run.started_at
    )


def _send_all(context: Context, console: Console, run: runs.Run, queue: Queue) -> tuple[int, int]:
    """Send the unfinished objects; return the number of the run's objects, and of those sent."""
    total = sum(1 for _ in _list_run_objects(context, run))
    listed = sent = 0
    selection = Selection.from_json(run.selection)
    bucket = context.archive.url.removeprefix("s3://")

    def count_listed() -> Iterator[StoredObject]:
        nonlocal listed
        for archive_object in _list_run_objects(context, run):
            listed += 1
            yield archive_object

    with (
        context.connect(purpose="replay") as connection,
        console.progress("send", unit="objects", total=total) as meter,
    ):
        runs.begin_sending(connection, run.id)
        bodies = (
            ReplayMessage(
                run=run.id, bucket=bucket, key=archive_object.key, selection=selection
            ).to_body()
            for archive_object in list_unfinished(connection, run.id, count_listed())
        )
        while batch := list(islice(bodies, _BATCH)):
            queue.send(batch)
            sent += len(batch)
            meter.advance(len(batch))
        runs.end_sending(connection, run.id, listed)
    return listed, sent


@dataclass(slots=True)
class _RunState:
    """The state of a run and of its queues at one time."""

    run: runs.Run
    total: int
    done: runs.Progress
    #: The number of messages in the replay queue, of this and other runs.
    waiting: int
    #: Unfinished objects of the run that are dead letters.
    dead: frozenset[str]

    @property
    def missing(self) -> int:
        """The number of unfinished objects."""
        return max(0, self.total - self.done.objects)

    @property
    def is_over(self) -> bool:
        """True if each object is finished or a dead letter."""
        return self.missing <= len(self.dead)

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "run": self.run.id,
            "objects": self.done.objects,
            "objects_missing": self.missing,
            "commands": self.done.lines,
            **self.done.counts._asdict(),
            "dead_letters": len(self.dead),
        }


def _require_selected(state: _RunState) -> None:
    """Fail if no command of a complete run met its conditions, or fewer than the ids that it names.

    Raises:
        IncompleteError: with the number of the commands.
    """
    selection, lines = Selection.from_json(state.run.selection), state.done.lines
    if not lines and not selection.is_everything:
        raise IncompleteError(
            f"nothing was selected: no command of {state.total:,} objects fulfils the run's "
            "conditions"
        )
    # Another condition may leave out commands with these ids.
    if selection == Selection(ids=selection.ids) and lines < len(selection.ids):
        raise IncompleteError(
            f"only {lines:,} of the {len(selection.ids):,} ids of --id-file are in the archive; "
            "`forebay replay --plan` with the same conditions names the others"
        )


class _Watch:
    """Follows a run until each of its objects is finished or a dead letter."""

    def __init__(self, context: Context, console: Console, run: runs.Run, queue: Queue) -> None:
        self._context = context
        self._console = console
        self._id = run.id
        self._queue = queue
        url = context.find(REPLAY_DEAD_LETTERS)
        self._dead_letters = Queue(context.sqs, url) if url else None
        self._bucket = context.archive.url.removeprefix("s3://")
        #: The number of dead letters at the last read, and the run's objects among them.
        self._letters: tuple[int, frozenset[str]] = (0, frozenset())

    def follow(self) -> None:
        """Show the progress until the run is over or makes no progress, then the result.

        Raises:
            RefusedError: not all of the run's objects were sent.
            IncompleteError: objects could not be applied, or no command fulfils the conditions.
            StoppedError: the operator pressed Ctrl-C; the run continues.
        """
        with self._context.connect(purpose="replay-watch") as connection:
            state = self._read_state(connection)
            with self._console.progress("replay", unit="objects", total=state.total) as meter:
                try:
                    state = self._wait_until_over(connection, state, meter)
                except KeyboardInterrupt:
                    raise StoppedError(
                        "stopped watching; the replay continues. Watch it again with: "
                        f"forebay replay --resume {self._id} --watch"
                    ) from None
            if state.missing:
                runs.mark(connection, self._id, "stopped")
            self._console.facts(state.facts())
            self._explain(connection, state)

    def _wait_until_over(self, connection: Connection, state: _RunState, meter: Meter) -> _RunState:
        shown_objects = 0
        quiet_since = time.monotonic()
        while True:
            meter.advance(
                state.done.objects - shown_objects,
                note=f"{state.done.lines:,} commands; {state.waiting:,} waiting, "
                f"{len(state.dead):,} dead letters",
            )
            if state.waiting or state.done.objects > shown_objects:
                quiet_since = time.monotonic()
            shown_objects = state.done.objects
            if state.is_over or time.monotonic() - quiet_since >= QUIET_SECONDS:
                return state
            time.sleep(_LOOK_SECONDS)
            state = self._read_state(connection)

    def _read_state(self, connection: Connection) -> _RunState:
        run = runs.find_run(connection, self._id)
        if run is None:
            raise UsageError(f"the database has no run {self._id}")
        if run.objects is None:
            raise RefusedError(
                f"the objects of run {self._id} are still being sent, or were not all sent; send "
                f"the others with: forebay replay --resume {self._id}"
            )
        done = runs.progress(connection, self._id)
        waiting = self._queue.depth().total
        dead: frozenset[str] = frozenset()
        if done.objects < run.objects:
            keys = self._read_letters(always=not waiting)
            dead = keys - runs.select_done(connection, self._id, sorted(keys))
        return _RunState(run, run.objects, done, waiting, dead)

    def _read_letters(self, *, always: bool) -> frozenset[str]:
        """Return the run's objects among the dead letters.

        Args:
            always: whether to read the dead letters even if their number has not changed.
        """
        if self._dead_letters is None:
            return frozenset()
        count, keys = self._letters
        now = self._dead_letters.depth().total
        if now and (now != count or always):
            bodies = [message.body for message in self._dead_letters.peek(_MAX_LETTERS)]
            keys = frozenset(
                key
                for body in bodies
                for key in list_keys_of_run(body, run=self._id, bucket=self._bucket)
            )
            self._letters = now, keys
        return keys if now else frozenset()

    def _explain(self, connection: Connection, state: _RunState) -> None:
        if not state.missing:
            _require_selected(state)
            return
        reasons = dict(runs.failures(connection, self._id, limit=_MAX_LETTERS))
        for key in sorted({*state.dead, *reasons})[:_SHOWN_FAILURES]:
            texts = ["a dead letter of the replay queue"] if key in state.dead else []
            texts += [reasons[key]] if key in reasons else []
            self._console.note(f"{key}: {'; '.join(texts)}")
        others = state.missing - len(state.dead)
        message = f"{len(state.dead):,} objects are dead letters of the replay queue"
        if others:
            message += f", {others:,} others are unfinished although the queue is empty"
        raise IncompleteError(
            f"{message}; repair the cause (see the consumer's log), then: "
            f"forebay replay --resume {self._id}"
        )
