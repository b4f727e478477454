"""A replay by the consumer function: sends it the objects, and follows what becomes of them."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from forebay.errors import TransientError
from forebay.replay import runs
from forebay.replay.messages import ReplayMessage
from forebay.replay.selection import Selection
from ops.console import Console
from ops.context import REPLAY_DEAD_LETTERS, REPLAY_QUEUE, Context
from ops.errors import IncompleteError, RefusedError, StoppedError, UnavailableError, UsageError
from ops.replay.replay import begin, count_objects, objects_of, undone

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_BATCH = 10  # messages of one SendMessageBatch
_ATTEMPTS = 5
_MAX_IDS = 1_000  # of an id file: a message holds 256 KiB
_LOOK_SECONDS = 1.0
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
        UnavailableError: the queue did not take the messages.
        IncompleteError: with `watch`, some objects could not be applied.
    """
    queue_url = context.get(REPLAY_QUEUE)
    if not context.archive.url.startswith("s3://"):
        raise UsageError("--via-queue replays the archive's bucket, which the consumer reads")
    if len(selection.ids) > _MAX_IDS:
        raise UsageError(f"--via-queue takes {_MAX_IDS:,} ids at most; replay without it")
    if run is not None and watch:
        total, _ = count_objects(context.archive, Selection.from_json(run.selection))
        _watch(context, console, run, total)
        return
    if run is None:
        total, size = count_objects(context.archive, selection)
        console.confirm(
            f"Send {total:,} objects ({size:,} bytes) of {context.archive.url} to {queue_url}?",
            yes=yes,
        )
        run = begin(context, selection, via_queue=True)
    selection = Selection.from_json(run.selection)
    total, _ = count_objects(context.archive, selection)
    console.note(f"run {run.id}; follow it with: forebay replay --resume {run.id} --watch")
    sent = _send_all(context, console, run, selection, total)
    if watch:
        _watch(context, console, run, total)
    else:
        console.facts({"run": run.id, "objects": total, "sent": sent, "queue": queue_url})


def _send_all(
    context: Context, console: Console, run: runs.Run, selection: Selection, total: int
) -> int:
    sent = 0
    bucket = context.archive.url.removeprefix("s3://")
    with (
        context.connect(purpose="replay") as connection,
        console.progress("send", unit="objects", total=total) as meter,
    ):
        runs.mark(connection, run.id, "running", objects=total)
        objects = undone(connection, run.id, objects_of(context.archive, selection))
        bodies = (
            ReplayMessage(run=run.id, bucket=bucket, key=found.key, selection=selection).to_body()
            for found in objects
        )
        while batch := list(islice(bodies, _BATCH)):
            _send(context, batch)
            sent += len(batch)
            meter.advance(len(batch))
    return sent


def _send(context: Context, bodies: list[str]) -> None:
    """Sends messages, those that SQS refuses for now again."""
    pending: list[SendMessageBatchRequestEntryTypeDef] = [
        {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)
    ]
    queue_url = context.get(REPLAY_QUEUE)
    for attempt in range(_ATTEMPTS):
        try:
            answer = context.sqs.send_message_batch(QueueUrl=queue_url, Entries=pending)
        except (BotoCoreError, ClientError) as exc:
            raise TransientError(f"the queue {queue_url} took no messages: {exc}") from exc
        failed = {entry["Id"] for entry in answer.get("Failed", [])}
        pending = [entry for entry in pending if entry["Id"] in failed]
        if not pending:
            return
        time.sleep(0.2 * 2**attempt)
    raise UnavailableError(f"the queue {queue_url} refused {len(pending)} messages; try again")


def _watch(context: Context, console: Console, run: runs.Run, total: int) -> None:
    """Follows a run to its end: until every object is done, or in the dead-letter queue."""
    dead_letters = context.find(REPLAY_DEAD_LETTERS)
    with (
        context.connect(purpose="replay-watch") as connection,
        console.progress("replay", unit="objects", total=total) as meter,
    ):
        shown = 0
        try:
            while True:
                done = runs.progress(connection, run.id)
                dead = _depth(context, dead_letters) if dead_letters else 0
                waiting = _depth(context, context.get(REPLAY_QUEUE))
                meter.advance(
                    done.objects - shown,
                    note=f"{done.lines:,} commands; {waiting:,} waiting, {dead:,} dead letters",
                )
                shown = done.objects
                if done.objects >= total or (not waiting and dead):
                    break
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            raise StoppedError(
                "no longer watching; the replay goes on without. Look again with: "
                f"forebay replay --resume {run.id} --watch"
            ) from None
        complete = done.objects >= total
        runs.mark(connection, run.id, "done" if complete else "stopped")
        console.facts(
            {
                "run": run.id,
                "objects": done.objects,
                "objects_missing": total - done.objects,
                "commands": done.lines,
                "applied": done.counts.applied,
                "superseded": done.counts.superseded,
                "duplicates": done.counts.duplicates,
                "rejected": done.counts.rejected,
                "dead_letters": dead,
            }
        )
    if not complete:
        raise IncompleteError(
            f"{total - done.objects:,} objects are not done and the replay queue is empty; its "
            f"dead-letter queue holds {dead:,} messages. Look at them, then: "
            f"forebay replay --resume {run.id}"
        )
    if not done.lines and not Selection.from_json(run.selection).is_everything:
        raise IncompleteError(
            f"nothing was selected: no command of {total:,} objects fulfils the run's conditions"
        )


def _depth(context: Context, queue_url: str) -> int:
    """Messages that wait or are being worked on."""
    names: list[str] = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    try:
        found = context.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)  # type: ignore[arg-type]
    except (BotoCoreError, ClientError) as exc:
        raise RefusedError(f"the queue {queue_url} can't be looked at: {exc}") from exc
    return sum(int(value) for value in found["Attributes"].values())
