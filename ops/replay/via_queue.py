"""A replay by the consumer function: sends it the objects, and follows what becomes of them.

A run's objects are those that were stored when it started. How many were sent is noted with the
run, and it is followed by that number: what live traffic adds to the archive meanwhile is not its
business.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.replay import runs
from forebay.replay.messages import ReplayMessage, keys_of_run
from forebay.replay.selection import Selection
from ops.archive.store import StoredObject
from ops.console import Console, Meter
from ops.context import REPLAY_DEAD_LETTERS, REPLAY_QUEUE, Context
from ops.errors import IncompleteError, RefusedError, StoppedError, UsageError
from ops.replay.replay import begin, count_objects, objects_of, undone

_BATCH = 10  # messages of one SendMessageBatch
_MAX_IDS = 1_000  # of an id file: a message holds 256 KiB
_LOOK_SECONDS = 1.0
#: For so long an empty queue without any progress is waited for: SQS counts approximately.
QUIET_SECONDS = 60.0
_MAX_LETTERS = 10_000
_SHOWN_FAILURES = 10


def replay(
    context: Context,
    console: Console,
    run: runs.Run | None,
    selection: Selection,
    *,
    watch: bool,
    yes: bool,
) -> None:
    """Sends a run's objects to the replay queue, those of a resumed one that are not done yet.

    A resumed one is only followed where `watch` is wanted.

    Raises:
        UsageError: the archive is a folder, or there are too many ids.
        RefusedError: the run is done, or one to be followed was not sent wholly.
        TransientError: the queue did not take the messages.
        IncompleteError: with `watch`, some objects could not be applied.
    """
    queue = Queue(context.sqs, context.get(REPLAY_QUEUE))
    if not context.archive.url.startswith("s3://"):
        raise UsageError("--via-queue replays the archive's bucket, which the consumer reads")
    if len(selection.ids) > _MAX_IDS:
        raise UsageError(f"--via-queue takes {_MAX_IDS:,} ids at most; replay without it")
    if run is not None and watch:
        _Watch(context, console, run, queue).follow()
        return
    if run is not None and run.state == "done":
        raise RefusedError(f"run {run.id} is done; start another one without --resume")
    if run is None:
        total, size = count_objects(context.archive, selection)
        console.confirm(
            f"Send {total:,} objects ({size:,} bytes) of {context.archive.url} to {queue.url}?",
            yes=yes,
        )
        run = begin(context, selection, via_queue=True)
    console.note(f"run {run.id}; follow it with: forebay replay --resume {run.id} --watch")
    total, sent = _send_all(context, console, run, queue)
    if watch:
        _Watch(context, console, run, queue).follow()
    else:
        console.facts({"run": run.id, "objects": total, "sent": sent, "queue": queue.url})


def _objects_of_run(context: Context, run: runs.Run) -> Iterator[StoredObject]:
    """The run's objects, by key: the same at each call, unless somebody deletes one."""
    selection = Selection.from_json(run.selection)
    return (
        found
        for found in objects_of(context.archive, selection)
        if found.modified <= run.started_at
    )


def _send_all(context: Context, console: Console, run: runs.Run, queue: Queue) -> tuple[int, int]:
    """Sends the objects that are not done; how many objects the run has, and how many it sent."""
    total = sum(1 for _ in _objects_of_run(context, run))
    listed = sent = 0
    selection = Selection.from_json(run.selection)
    bucket = context.archive.url.removeprefix("s3://")

    def counted() -> Iterator[StoredObject]:
        nonlocal listed
        for found in _objects_of_run(context, run):
            listed += 1
            yield found

    with (
        context.connect(purpose="replay") as connection,
        console.progress("send", unit="objects", total=total) as meter,
    ):
        runs.begin_sending(connection, run.id)
        bodies = (
            ReplayMessage(run=run.id, bucket=bucket, key=found.key, selection=selection).to_body()
            for found in undone(connection, run.id, counted())
        )
        while batch := list(islice(bodies, _BATCH)):
            queue.send(batch)
            sent += len(batch)
            meter.advance(len(batch))
        runs.end_sending(connection, run.id, listed)
    return listed, sent


@dataclass(slots=True)
class _Look:
    """What a look at a run found."""

    run: runs.Run
    total: int
    done: runs.Progress
    #: Messages in the replay queue, of this and other runs.
    waiting: int
    #: Objects that are not done, and of which the dead-letter queue holds a message of the run.
    dead: frozenset[str]

    @property
    def missing(self) -> int:
        """Objects that are not done."""
        return max(0, self.total - self.done.objects)

    @property
    def is_settled(self) -> bool:
        """Whether every object is done, or a dead letter."""
        return self.missing <= len(self.dead)

    def facts(self) -> dict[str, Any]:
        """For the operator."""
        return {
            "run": self.run.id,
            "objects": self.done.objects,
            "objects_missing": self.missing,
            "commands": self.done.lines,
            "applied": self.done.counts.applied,
            "superseded": self.done.counts.superseded,
            "duplicates": self.done.counts.duplicates,
            "rejected": self.done.counts.rejected,
            "skipped": self.done.counts.skipped,
            "dead_letters": len(self.dead),
        }


class _Watch:
    """Follows a run to its end: until every object is done, or a dead letter."""

    def __init__(self, context: Context, console: Console, run: runs.Run, queue: Queue) -> None:
        self._context = context
        self._console = console
        self._id = run.id
        self._queue = queue
        found = context.find(REPLAY_DEAD_LETTERS)
        self._dead_letters = Queue(context.sqs, found) if found else None
        self._bucket = context.archive.url.removeprefix("s3://")
        #: Objects of the run that dead letters are about, and how many letters there were then.
        self._letters: tuple[int, frozenset[str]] = (0, frozenset())

    def follow(self) -> None:
        """Returns when the run is done.

        Raises:
            RefusedError: not all of its objects have been sent.
            IncompleteError: some objects could not be applied.
            StoppedError: the operator no longer watches.
        """
        with self._context.connect(purpose="replay-watch") as connection:
            look = self._look(connection)
            with self._console.progress("replay", unit="objects", total=look.total) as meter:
                try:
                    look = self._until_settled(connection, look, meter)
                except KeyboardInterrupt:
                    raise StoppedError(
                        "no longer watching; the replay goes on without. Look again with: "
                        f"forebay replay --resume {self._id} --watch"
                    ) from None
            if look.missing:
                runs.mark(connection, self._id, "stopped")
            self._console.facts(look.facts())
            self._explain(connection, look)

    def _until_settled(self, connection: Connection, look: _Look, meter: Meter) -> _Look:
        shown = 0
        quiet_since = time.monotonic()
        while True:
            meter.advance(
                look.done.objects - shown,
                note=f"{look.done.lines:,} commands; {look.waiting:,} waiting, "
                f"{len(look.dead):,} dead letters",
            )
            if look.waiting or look.done.objects > shown:
                quiet_since = time.monotonic()
            shown = look.done.objects
            if look.is_settled or time.monotonic() - quiet_since >= QUIET_SECONDS:
                return look
            time.sleep(_LOOK_SECONDS)
            look = self._look(connection)

    def _look(self, connection: Connection) -> _Look:
        run = runs.find_run(connection, self._id)
        if run is None:
            raise UsageError(f"the database knows no run {self._id}")
        if run.objects is None:
            raise RefusedError(
                f"the objects of run {self._id} are still being sent, or were not all sent; send "
                f"the others with: forebay replay --resume {self._id}"
            )
        done = runs.progress(connection, self._id)
        waiting = self._queue.depth().total
        dead: frozenset[str] = frozenset()
        if done.objects < run.objects:
            letters = self._keys_in_letters(look_closely=not waiting)
            dead = letters - runs.done_among(connection, self._id, sorted(letters))
        return _Look(run, run.objects, done, waiting, dead)

    def _keys_in_letters(self, *, look_closely: bool) -> frozenset[str]:
        """The run's objects among the dead letters; read again when their number has changed."""
        if self._dead_letters is None:
            return frozenset()
        count, keys = self._letters
        now = self._dead_letters.depth().total
        if now and (now != count or look_closely):
            bodies = [message.body for message in self._dead_letters.peek(_MAX_LETTERS)]
            keys = frozenset(
                key
                for body in bodies
                for key in keys_of_run(body, run=self._id, bucket=self._bucket)
            )
            self._letters = now, keys
        return keys if now else frozenset()

    def _explain(self, connection: Connection, look: _Look) -> None:
        if not look.missing:
            if not look.done.lines and not Selection.from_json(look.run.selection).is_everything:
                raise IncompleteError(
                    f"nothing was selected: no command of {look.total:,} objects fulfils the run's "
                    "conditions"
                )
            return
        reasons = dict(runs.failures(connection, self._id, limit=_MAX_LETTERS))
        for key in sorted({*look.dead, *reasons})[:_SHOWN_FAILURES]:
            known = ["a dead letter of the replay queue"] if key in look.dead else []
            known += [reasons[key]] if key in reasons else []
            self._console.note(f"{key}: {'; '.join(known)}")
        unknown = look.missing - len(look.dead)
        said = f"{len(look.dead):,} objects are dead letters of the replay queue"
        if unknown:
            said += f", {unknown:,} others are not done although the queue is empty"
        raise IncompleteError(
            f"{said}; mend the cause (the consumer's log has it), then: "
            f"forebay replay --resume {self._id}"
        )
