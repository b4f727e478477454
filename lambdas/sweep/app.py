"""The scheduled sweep without Lambda."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from forebay import metrics
from forebay.archive.layout import COMMANDS_PREFIX, StoredObject, format_hour
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.faults import is_connection_lost
from forebay.db.session import Session
from forebay.log import Log
from forebay.sweep import (
    Survey,
    Sweep,
    enqueue,
    find_dead_objects,
    is_explained_by_backlog,
    survey_files,
)
from forebay.waiting import Waiting
from lambdas.sweep.settings import SweepSettings

Result = Literal["nothing_missed", "waiting_in_queue", "enqueued"]


@dataclass(frozen=True, slots=True)
class Inbox:
    """Files that a function reads and leaves marked as read: imports, or uploads of attachments."""

    bucket: Archive
    #: Of the files.
    prefix: str
    #: Of the function's events.
    queue: Queue
    dead_letters: Queue


class SweepApp:
    """Finds archive objects, imports and uploads that were missed, and enqueues them."""

    def __init__(
        self,
        settings: SweepSettings,
        *,
        archive: Archive,
        queue: Queue,
        dead_letters: Queue,
        imports: Inbox,
        uploads: Inbox | None,
        session: Session,
        log: Log,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._queue = queue
        self._dead_letters = dead_letters
        self._imports = imports
        self._uploads = uploads
        self._session = session
        self._log = log
        self._now = now

    def sweep(self) -> dict[str, Any]:
        """Sweep once; return the counts and the result.

        After a restart or a failover of the primary, a warm function finds its connection broken
        by the error of its first query. The sweep is then repeated once immediately, because the
        next scheduled one may be an hour away.

        Raises:
            TransientError: S3 or SQS did not answer; the next sweep tries again.
            psycopg.Error: the primary did not answer.
        """
        files = {"imports": self._sweep_files(self._imports)}
        if self._uploads is not None:
            files["uploads"] = self._sweep_files(self._uploads)
        was_open = self._session.is_open
        try:
            return self._sweep_once(files)
        except psycopg.OperationalError as exc:
            if not (was_open and is_connection_lost(exc)):
                raise
        return self._sweep_once(files)

    def _sweep_files(self, inbox: Inbox) -> dict[str, Any]:
        """Enqueue the files that were not read yet; needs no database."""
        now, settings = self._now(), self._settings
        bucket = inbox.bucket.bucket
        survey = survey_files(
            inbox.bucket.list(inbox.prefix),
            since=now - dt.timedelta(seconds=settings.lookback_seconds),
            born_before=now - dt.timedelta(seconds=settings.grace_seconds),
            dead=find_dead_objects(inbox.dead_letters, bucket, inbox.prefix),
        )
        waiting = inbox.queue.depth().total
        patience = dt.timedelta(seconds=settings.patience_seconds)
        result: Result = "nothing_missed"
        keys: list[str] = []
        if survey.missed and is_explained_by_backlog(survey, waiting, now=now, patience=patience):
            result = "waiting_in_queue"
        elif survey.missed:
            keys = survey.select_oldest()
            enqueue(inbox.queue, bucket, keys)
            result = "enqueued"
        return {**survey.as_counts, "waiting": waiting, "enqueued": len(keys), "result": result}

    def _sweep_once(self, files: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        now = self._now()
        patience = dt.timedelta(seconds=self._settings.patience_seconds)
        dead = find_dead_objects(self._dead_letters, self._archive.bucket)
        with self._session.connection() as connection:
            sweep = Sweep(
                connection,
                now=now,
                grace=dt.timedelta(seconds=self._settings.grace_seconds),
                dead=dead,
            )
            survey = sweep.survey(self._list_objects(now))
            patches = Waiting.read(connection)
            waiting = self._queue.depth().total
            result: Result = "nothing_missed"
            if survey.missed and is_explained_by_backlog(
                survey, waiting, now=now, patience=patience
            ):
                result = "waiting_in_queue"
            elif survey.missed:
                for keys in sweep.missed(self._list_objects(now)):
                    enqueue(self._queue, self._archive.bucket, keys)
                result = "enqueued"
        values = {
            metrics.COMMANDS_WAITING: patches.commands,
            metrics.OLDEST_WAITING: round((patches.measure_age(now) or 0) * 1000),
        }
        return self._report(survey, waiting, result, files, values)

    def _list_objects(self, now: dt.datetime) -> Iterator[StoredObject]:
        since = now - dt.timedelta(seconds=self._settings.lookback_seconds)
        return self._archive.list(COMMANDS_PREFIX, after=format_hour(since))

    def _report(
        self,
        survey: Survey,
        waiting: int,
        result: Result,
        files: Mapping[str, dict[str, Any]],
        values: Mapping[metrics.Metric, int],
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            **survey.as_counts,
            "waiting": waiting,
            "result": result,
            **files,
        }
        missed = survey.missed if result == "enqueued" else 0
        missed += sum(part["enqueued"] for part in files.values())
        dead = survey.dead + sum(part["dead"] for part in files.values())
        values = {metrics.OBJECTS_MISSED: missed, metrics.OBJECTS_DEAD: dead, **values}
        self._log.event("swept", metrics=values, **fields)
        return fields
