"""The consumer without Lambda: applies a batch of messages and returns the failed ones."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg

from forebay import metrics
from forebay.apply import Chunk, Habits, Outcome, Source, apply, read_ahead
from forebay.archive.layout import COMMANDS_PREFIX, holds_amendments
from forebay.archive.lines import read_chunks
from forebay.archive.read_ahead import ReadAhead, read_one_ahead
from forebay.aws.archive import Archive
from forebay.aws.events import EventRefusedError, iterate_records
from forebay.aws.queue import Queue
from forebay.command import Command
from forebay.conditions import SETTLING_SECONDS
from forebay.db.connect import Connection
from forebay.db.faults import is_connection_lost
from forebay.db.session import Session
from forebay.decisions.decision_log import DecisionLog
from forebay.errors import ForebayError, TransientError, UnsettledError
from forebay.failures import record_failure
from forebay.ids import MAX_AHEAD_MS, accepted_ms
from forebay.log import Log
from forebay.read_cache.writer import Announcer, name_changes
from forebay.replay import runs
from forebay.replay.messages import Replaying
from forebay.replay.selection import Selection
from forebay.resource.spec import ResourceSpec
from forebay.retry import compute_backoff_seconds

# How long a call waits for an unreachable primary: enough for a restart, not for an outage. The
# last attempt begins within this time and takes CONNECT_TIMEOUT_SECONDS at most; the sum must be
# below the function's time-out.
PATIENCE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_GREATEST_PAUSE_SECONDS = 2.0
#: The pause before the next delivery of a message with commands that wait for others, by the number
#: of its deliveries. At the fourth delivery no command may wait any more; a queue permits five or
#: more.
WAITING_PAUSES_SECONDS = (15, 60, SETTLING_SECONDS - 75)


class UndecidedError(TransientError):
    """A replay met commands that can't apply yet; it makes no decision, and the message returns."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of the batch."""

    id: str
    receipt: str
    #: The number of its deliveries, this one included.
    deliveries: int
    #: The time of its first delivery, in ms; None if the event lacks it.
    delivered_ms: int | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Message:
        """Read a record of Lambda's event ("Using Lambda with Amazon SQS")."""
        attributes = record.get("attributes") or {}
        first = attributes.get("ApproximateFirstReceiveTimestamp")
        return cls(
            record["messageId"],
            record.get("receiptHandle", ""),
            int(attributes.get("ApproximateReceiveCount", 1)),
            None if first is None else int(first),
        )


@dataclass(frozen=True, slots=True)
class _ArchiveObject:
    """An archive object that a message names."""

    message: _Message
    key: str
    replaying: Replaying | None

    @property
    def selection(self) -> Selection:
        """The part of the object to apply."""
        return self.replaying.selection if self.replaying else Selection()


#: An object with commands that wait for others, and the error that says so.
_Waiting: TypeAlias = tuple[_ArchiveObject, Exception]


class Consumer:
    """Applies the archive objects that messages name."""

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        archive: Archive,
        session: Session,
        log: Log,
        open_queue: Callable[[], Queue] | None = None,
        announcer: Announcer | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._open_queue = open_queue
        self._announcer = announcer
        self._patience_seconds = patience_seconds
        self._resources = resources
        self._archive = archive
        self._session = session
        self._log = log
        self._habits = Habits()
        #: The connection that last read the decision log, and that decision log.
        self._followed_log: tuple[Connection, DecisionLog] | None = None

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Apply every message of an SQS batch; the answer names the failed messages.

        A failed message is delivered again, and finally goes to the dead-letter queue. The other
        messages of the batch are not affected.
        """
        errors: dict[str, Exception] = {}
        objects = list(self._read_objects(event["Records"], errors))
        failed_ids: set[str] = set()
        waiting: list[_Waiting] = []
        applied, is_primary_away = 0, False
        with closing(read_one_ahead(objects, self._start_reading)) as reading:
            for place, (archive_object, ahead) in enumerate(reading):
                message_id = archive_object.message.id
                if message_id in failed_ids:
                    continue
                error = self._try_to_apply(archive_object, ahead)
                if error is None:
                    applied += 1
                    continue
                if isinstance(error, UnsettledError):
                    waiting.append((archive_object, error))
                    continue
                errors[message_id] = error
                failed_ids.add(message_id)
                self._record_failure(archive_object, error)
                is_primary_away = _is_primary_away(error)
                if is_primary_away:
                    # The primary is away for the remaining objects too; don't wait for it per
                    # object.
                    errors |= {other.message.id: error for other in objects[place + 1 :]}
                    break
        if not is_primary_away:
            waiting = self._retry_waiting(waiting, errors, applied=applied)
        for archive_object, error in waiting:
            errors.setdefault(archive_object.message.id, error)
            self._record_failure(archive_object, error)
            self._hide_message(archive_object.message)
        for message_id, error in errors.items():
            self._report_failure(message_id, error)
        if self._announcer is not None:
            self._announcer.settle(self._session.connection)
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in errors]}

    def _retry_waiting(
        self, waiting: list[_Waiting], errors: dict[str, Exception], *, applied: int
    ) -> list[_Waiting]:
        """Apply waiting objects again, as long as one was applied that others may wait for.

        Args:
            waiting: the objects, with their errors.
            errors: of other objects, by message; another failure is added.
            applied: how many objects of the batch have been applied.

        Returns:
            The objects that still wait.
        """
        while waiting and applied:
            applied, remaining = 0, list[_Waiting]()
            for archive_object, _ in waiting:
                error = self._try_to_apply(archive_object, self._start_reading(archive_object))
                if error is None:
                    applied += 1
                elif isinstance(error, UnsettledError):
                    remaining.append((archive_object, error))
                else:
                    errors[archive_object.message.id] = error
                    self._record_failure(archive_object, error)
            waiting = remaining
        return waiting

    def _hide_message(self, message: _Message) -> None:
        """Have a message delivered again after a pause that grows with its deliveries."""
        if self._open_queue is None:
            return
        pauses = WAITING_PAUSES_SECONDS
        seconds = pauses[min(message.deliveries, len(pauses)) - 1]
        try:
            self._open_queue().hide(message.receipt, seconds)
        except TransientError as exc:
            self._log.event("message_not_hidden", level="WARNING", reason=str(exc))

    def _read_objects(
        self, messages: Iterable[Mapping[str, Any]], errors: dict[str, Exception]
    ) -> Iterator[_ArchiveObject]:
        """The objects that the messages name, up to an invalid part, which is added to `errors`."""
        bucket = self._archive.bucket
        for message in messages:
            read = _Message.of(message)
            try:
                records = iterate_records(message["body"], bucket=bucket, prefix=COMMANDS_PREFIX)
                for key, record in records:
                    yield _ArchiveObject(read, key, _read_replaying(record))
            except Exception as exc:  # noqa: BLE001 - it must not fail the batch's other messages
                errors[read.id] = self._strip_traceback(exc)

    def _start_reading(self, archive_object: _ArchiveObject) -> ReadAhead[Chunk]:
        chunks = read_chunks(self._archive.read(archive_object.key))
        return read_ahead(archive_object.selection.chunks(chunks), self._resources)

    def _try_to_apply(
        self, archive_object: _ArchiveObject, ahead: ReadAhead[Chunk]
    ) -> Exception | None:
        """Apply an object; return the error, or None."""
        try:
            self._apply_with_patience(archive_object, ahead)
        except Exception as exc:  # noqa: BLE001 - it must not fail the batch's other messages
            return self._strip_traceback(exc)
        return None

    def _strip_traceback(self, error: Exception) -> Exception:
        """The error without its traceback; a defect of this code is logged first."""
        if not isinstance(error, ForebayError | psycopg.Error):
            trace = "".join(traceback.format_exception(error))
            self._log.event("defect", level="ERROR", exception=trace)
        # Its frames hold chunks, and the error is kept until the end of the batch.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)

    def _apply_with_patience(self, archive_object: _ArchiveObject, ahead: ReadAhead[Chunk]) -> None:
        """Apply an object; while the primary is away, retry until the patience ends.

        After a restart of the primary, a warm function finds its connection dead, or meets a
        primary that is still starting. Leaving the retry to SQS would cost the message's whole
        visibility time-out.
        """
        deadline = time.monotonic() + self._patience_seconds
        failures = 0
        while True:
            try:
                self._apply_object(archive_object, ahead)
            except psycopg.OperationalError as exc:
                # The first retry is immediate and ignores the deadline: the primary may be healthy.
                pause = (
                    0.0
                    if not failures
                    else compute_backoff_seconds(
                        failures, first=_FIRST_PAUSE_SECONDS, greatest=_GREATEST_PAUSE_SECONDS
                    )
                )
                if not _is_primary_away(exc) or (failures and time.monotonic() + pause > deadline):
                    raise
            else:
                return
            failures += 1
            time.sleep(pause)
            ahead = self._start_reading(archive_object)

    def _apply_object(self, archive_object: _ArchiveObject, ahead: ReadAhead[Chunk]) -> None:
        started = time.monotonic()
        key, replaying = archive_object.key, archive_object.replaying
        is_partial = not archive_object.selection.is_everything
        with ahead, self._session.connection() as connection:
            outcome = apply(
                connection,
                ahead,
                Source(
                    key,
                    replay=replaying is not None,
                    partial=is_partial,
                    delivered_ms=archive_object.message.delivered_ms,
                ),
                resources=self._resources,
                decision_log=self._follow_decision_log(connection),
                decides=replaying is None,
                habits=self._habits,
                watch=self._announce,
            )
            if outcome.undecided:
                raise _describe_undecided(key, outcome)
            if replaying is not None:
                runs.record_object(connection, replaying.run, key, outcome)
        self._report_object(key, outcome, time.monotonic() - started, replaying)

    def _follow_decision_log(self, connection: Connection) -> DecisionLog:
        """The decision log; decisions that only the archive has are first applied.

        This is done once per connection: a database that was restored, or that has lost commits in
        a failover, is reached by a new connection.
        """
        if self._followed_log is not None and self._followed_log[0] is connection:
            return self._followed_log[1]
        # The deployed consumer's database is the owner of the archive.
        decision_log = DecisionLog(
            connection,
            self._archive,
            self._resources,
            ownership="adopt",
            on_undo=self._announce_undo,
        )
        decision_log.follow()
        if decision_log.undone_count:
            self._log.event("rows_undone", level="WARNING", rows=decision_log.undone_count)
        self._followed_log = (connection, decision_log)
        return decision_log

    def _announce(self, connection: Connection, commands: Sequence[Command]) -> None:
        """Announce the rows that a transaction has changed to the read cache."""
        if self._announcer is not None:
            self._announcer.announce(connection, name_changes(commands))

    def _announce_undo(self, connection: Connection) -> None:
        if self._announcer is not None:
            self._announcer.announce_everything(connection)

    def _report_object(
        self, key: str, outcome: Outcome, seconds: float, replaying: Replaying | None
    ) -> None:
        self._warn_of_future_ids(key, outcome)
        fields: dict[str, Any] = {
            "object": key,
            "lines": outcome.lines,
            **outcome.counts._asdict(),
            "seconds": round(seconds, 3),
        }
        if outcome.already_applied:
            already = {metrics.OBJECTS_ALREADY_APPLIED: 1}
            self._log.event("object_already_applied", metrics=already, **fields)
            return
        if outcome.unsettled_reason is not None:
            # Without its age: the lag of an object counts when it is complete.
            self._log.event("object_waits", metrics=_build_command_metrics(outcome), **fields)
            raise UnsettledError(f"{key}: {outcome.unsettled_reason}")
        if replaying is not None:
            # Its commands are old: counted as the lag of live traffic, they would raise alarms.
            replayed = {metrics.COMMANDS_REPLAYED: outcome.lines}
            self._log.event("object_replayed", metrics=replayed, **fields, run=replaying.run)
            return
        self._log.event("object_applied", metrics=_build_object_metrics(key, outcome), **fields)

    def _warn_of_future_ids(self, key: str, outcome: Outcome) -> None:
        """Warn of an object with ids from the future: its commands beat all others until then.

        The write function never creates such ids. The commands are applied nevertheless: the
        winner must not depend on when commands are applied.
        """
        if outcome.last_id and accepted_ms(outcome.last_id) > time.time() * 1000 + MAX_AHEAD_MS:
            self._log.event(
                "ids_from_the_future", level="WARNING", object=key, last_id=outcome.last_id
            )

    def _record_failure(self, archive_object: _ArchiveObject, error: Exception) -> None:
        """Store an object's failure in the database if it is reachable; the log has it anyway."""
        if _is_primary_away(error):
            return
        reason = f"{type(error).__name__}: {str(error).strip()}"
        try:
            with self._session.connection() as connection:
                record_failure(connection, archive_object.key, reason)
                if archive_object.replaying is not None:
                    run = archive_object.replaying.run
                    runs.record_failure(connection, run, archive_object.key, reason)
        except psycopg.Error as exc:
            self._log.event("failure_not_noted", level="WARNING", reason=str(exc))

    def _report_failure(self, message_id: str, error: Exception) -> None:
        if isinstance(error, UnsettledError):  # waits as the client asked for
            self._log.event("message_waits", message_id=message_id, reason=str(error))
            return
        self._log.event(
            "message_failed",
            level="WARNING",
            metrics={metrics.MESSAGES_FAILED: 1},
            message_id=message_id,
            error=type(error).__name__,
            reason=str(error).strip(),
        )


def _is_primary_away(error: Exception) -> bool:
    """Return True if Postgres did not answer, or only that it is stopping or starting."""
    return isinstance(error, psycopg.OperationalError) and is_connection_lost(error)


def _describe_undecided(key: str, outcome: Outcome) -> UndecidedError:
    first_refusal = outcome.undecided[0]
    return UndecidedError(
        f"{key}: {len(outcome.undecided):,} commands can't be applied now, and a replay rejects "
        f"none; the first one: {first_refusal.detail}"
    )


def _read_replaying(record: Mapping[str, Any]) -> Replaying | None:
    try:
        return Replaying.of(record)
    except ValueError as exc:
        raise EventRefusedError(str(exc)) from None


def _build_command_metrics(outcome: Outcome) -> dict[metrics.Metric, float]:
    """Return the metrics of the commands of a run."""
    counts = outcome.counts
    return {
        metrics.COMMANDS_APPLIED: counts.applied,
        metrics.COMMANDS_SUPERSEDED: counts.superseded,
        metrics.COMMANDS_DUPLICATE: counts.duplicates,
        metrics.COMMANDS_REJECTED: max(0, counts.rejected - outcome.unmet),
        metrics.COMMANDS_UNMET: outcome.unmet,
    }


def _build_object_metrics(key: str, outcome: Outcome) -> dict[metrics.Metric, float]:
    """Return the metrics of an applied object."""
    values = {metrics.OBJECTS_APPLIED: 1.0, **_build_command_metrics(outcome)}
    if outcome.first_id and outcome.last_id and not holds_amendments(key):
        now = time.time() * 1000
        values[metrics.APPLY_LAG_OLDEST] = max(0.0, now - accepted_ms(outcome.first_id))
        values[metrics.APPLY_LAG_NEWEST] = max(0.0, now - accepted_ms(outcome.last_id))
    return values
