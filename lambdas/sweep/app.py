"""The scheduled sweep without Lambda."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import psycopg

from forebay import metrics
from forebay.archive.layout import COMMANDS_PREFIX, IMPORTS_PREFIX, StoredObject, format_hour
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
    survey_imports,
)
from forebay.waiting import Waiting
from lambdas.sweep.settings import SweepSettings

Result = Literal["nothing_missed", "waiting_in_queue", "enqueued"]


class SweepApp:
    """Finds archive objects and imports that were missed, and enqueues them."""

    def __init__(
        self,
        settings: SweepSettings,
        *,
        archive: Archive,
        queue: Queue,
        dead_letters: Queue,
        imports: Queue,
        dead_imports: Queue,
        session: Session,
        log: Log,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._queue = queue
        self._dead_letters = dead_letters
        self._imports = imports
        self._dead_imports = dead_imports
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
        imports = self._sweep_imports()
        was_open = self._session.is_open
        try:
            return self._sweep_once(imports)
        except psycopg.OperationalError as exc:
            if not (was_open and is_connection_lost(exc)):
                raise
        return self._sweep_once(imports)

    def _sweep_imports(self) -> dict[str, Any]:
        """Enqueue the files that have no report yet; needs no database."""
        now, settings = self._now(), self._settings
        bucket = self._archive.bucket
        survey = survey_imports(
            self._archive.list(IMPORTS_PREFIX),
            since=now - dt.timedelta(seconds=settings.lookback_seconds),
            born_before=now - dt.timedelta(seconds=settings.grace_seconds),
            dead=find_dead_objects(self._dead_imports, bucket, IMPORTS_PREFIX),
        )
        waiting = self._imports.depth().total
        patience = dt.timedelta(seconds=settings.patience_seconds)
        result: Result = "nothing_missed"
        if survey.missed and is_explained_by_backlog(survey, waiting, now=now, patience=patience):
            result = "waiting_in_queue"
        elif survey.missed:
            enqueue(self._imports, bucket, [file.key for file in survey.missed])
            result = "enqueued"
        return {**survey.as_counts, "waiting": waiting, "result": result}

    def _sweep_once(self, imports: dict[str, Any]) -> dict[str, Any]:
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
        return self._report(survey, waiting, result, imports, values)

    def _list_objects(self, now: dt.datetime) -> Iterator[StoredObject]:
        since = now - dt.timedelta(seconds=self._settings.lookback_seconds)
        return self._archive.list(COMMANDS_PREFIX, after=format_hour(since))

    def _report(
        self,
        survey: Survey,
        waiting: int,
        result: Result,
        imports: dict[str, Any],
        values: Mapping[metrics.Metric, int],
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            **survey.as_counts,
            "waiting": waiting,
            "result": result,
            "imports": imports,
        }
        missed = survey.missed if result == "enqueued" else 0
        missed += imports["missed"] if imports["result"] == "enqueued" else 0
        dead = survey.dead + imports["dead"]
        values = {metrics.OBJECTS_MISSED: missed, metrics.OBJECTS_DEAD: dead, **values}
        self._log.event("swept", metrics=values, **fields)
        return fields
