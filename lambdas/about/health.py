"""`GET /status`: the state of the pipeline from acceptance to the replicas.

The answer is 200 for every status: while the database is away, writes are still accepted, and a
monitor that takes an instance out of service for it would turn a delay into an outage.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from forebay.aws.queue import Queue
from forebay.errors import TransientError
from forebay.http import Response, build_json_response
from forebay.lag import quantile
from forebay.log import Log
from lambdas.about.database import DatabaseAwayError, HealthDatabase, Replication
from lambdas.about.progress import ArchiveProgress, Progress
from lambdas.about.verdict import Thresholds, choose_status, judge

WINDOW_SECONDS = 300
#: How long an answer is reused: frequent requests must not load the database.
KEPT_SECONDS = 2.0
#: Each listing of the archive costs money, and so does each call to the queue.
PROGRESS_KEPT_SECONDS = 10.0

State = Literal["reachable", "unreachable"]


@dataclass(slots=True)
class _Kept:
    """A cached result, and its expiry on the monotonic clock."""

    document: dict[str, Any]
    until: float


class Health:
    """Answers with the pipeline's state, at most a few seconds old."""

    def __init__(
        self,
        database: HealthDatabase,
        progress: ArchiveProgress,
        dead_letters: Queue,
        tables: Sequence[tuple[str, str]],
        log: Log,
        *,
        thresholds: Thresholds,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Create the health check; no query runs yet.

        Args:
            database: a replica.
            progress: the archive's progress.
            dead_letters: the consumer's dead-letter queue.
            tables: the resources' paths and tables.
            log: gets the errors of unreachable parts.
            thresholds: limits above which a number makes the status other than `ok`.
            clock: seconds of a monotonic clock.
            now: the time of day.
        """
        self._database = database
        self._progress = progress
        self._dead_letters = dead_letters
        self._thresholds = thresholds
        self._tables = tables
        self._log = log
        self._clock = clock
        self._now = now
        self._answer: _Kept | None = None
        self._archive: _Kept | None = None
        self._letters: _Kept | None = None

    def read(self) -> Response:
        """Answer 200 with the known state."""
        if self._answer is None or self._clock() >= self._answer.until:
            document = self._build_document()
            self._answer = _Kept(document, self._clock() + KEPT_SECONDS)
        return build_json_response(200, self._answer.document, {"Cache-Control": "no-store"})

    def _build_document(self) -> dict[str, Any]:
        parts = self._report_database()
        parts["archive"] = self._report_archive(parts["database"]["state"])
        parts["dead_letters"] = self._report_dead_letters()
        reasons = judge(parts, self._thresholds)
        return {
            "status": choose_status(reasons),
            "reasons": [reason.to_json() for reason in reasons],
            "checked_at": _format_time(self._now()),
            **parts,
        }

    def _report_database(self) -> dict[str, Any]:
        try:
            replication = self._database.read_replication()
            lags = self._database.read_lags(WINDOW_SECONDS)
            estimates = self._database.estimate_rows([table for _, table in self._tables])
            open_rejections = self._database.count_open_rejections()
            waiting = self._database.read_waiting()
        except DatabaseAwayError as exc:
            self._log.event("health_database_away", error=str(exc))
            return {
                "database": _describe_database("unreachable", None),
                "applied": None,
                "resources": None,
                "rejections": None,
                "waiting": None,
            }
        return {
            "database": _describe_database("reachable", replication),
            "applied": {
                "window_seconds": WINDOW_SECONDS,
                "commands": sum(lags),
                "p50_seconds": _round(quantile(lags, 0.5)),
                "p99_seconds": _round(quantile(lags, 0.99)),
            },
            "resources": {
                path: {"estimated_rows": estimates[table]} for path, table in self._tables
            },
            "rejections": {"open": open_rejections},
            "waiting": {
                "commands": waiting.commands,
                "oldest_seconds": _round(waiting.measure_age(self._now())),
            },
        }

    def _report_archive(self, database: State) -> dict[str, Any]:
        """The archive's state; unknown without the database, because the ledger is there."""
        if database == "unreachable":
            return _describe_archive("unknown", None, self._now())
        if self._archive is None or self._clock() >= self._archive.until:
            try:
                document = _describe_archive("reachable", self._progress.look(), self._now())
            except TransientError as exc:
                self._log.event("health_archive_away", error=str(exc))
                return _describe_archive("unreachable", None, self._now())
            self._archive = _Kept(document, self._clock() + PROGRESS_KEPT_SECONDS)
        return self._archive.document

    def _report_dead_letters(self) -> dict[str, Any] | None:
        if self._letters is None or self._clock() >= self._letters.until:
            try:
                document = {"messages": self._dead_letters.depth().total}
            except TransientError as exc:
                self._log.event("health_dead_letters_away", error=str(exc))
                return None
            self._letters = _Kept(document, self._clock() + PROGRESS_KEPT_SECONDS)
        return self._letters.document


def _describe_database(state: State, replication: Replication | None) -> dict[str, Any]:
    return {
        "state": state,
        "role": None if replication is None else "replica" if replication.replica else "primary",
        "streaming": replication and replication.replica and replication.streaming,
        "replica_lag_seconds": _round(replication.lag_seconds) if replication else None,
    }


def _describe_archive(
    state: Literal["reachable", "unreachable", "unknown"],
    progress: Progress | None,
    now: dt.datetime,
) -> dict[str, Any]:
    oldest = progress.oldest if progress else None
    return {
        "state": state,
        "since": _format_time(progress.since) if progress else None,
        "complete": progress.complete if progress else False,
        "unapplied_objects": progress.unapplied if progress else None,
        "oldest_unapplied": oldest
        and {
            "object": oldest.key,
            "stored_at": _format_time(oldest.modified),
            "age_seconds": _round(max(0.0, (now - oldest.modified).total_seconds())),
        },
    }


def _format_time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
