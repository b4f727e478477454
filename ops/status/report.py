"""Query every server once, all concurrently, and report what needs an operator."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from forebay.archive.layout import COMMANDS_PREFIX, StoredObject, format_hour
from forebay.attachments import UPLOADS_PREFIX
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.sweep import Sweep, survey_files
from ops.context import (
    ATTACHMENTS,
    DEAD_LETTERS,
    IMPORT_DEAD_LETTERS,
    QUEUE,
    REPLAY_DEAD_LETTERS,
    REPLICA,
    STREAMS,
    UPLOAD_DEAD_LETTERS,
    Context,
    Setting,
)
from ops.status import probes
from ops.status.asking import Answer, ask_all
from ops.status.limits import Limits, find_needs

#: A server that takes longer is reported as silent; the other answers have arrived before.
_ANSWER_SECONDS = 10.0
#: Time limit for a database; listing the archive may take longer.
_DATABASE_SECONDS = 5.0
_STATEMENT_TIMEOUT_MS = 4_000
_CONNECT_TIMEOUT_SECONDS = 2  # libpq's minimum
#: The replica is measured without the primary's position if that does not arrive in this time.
_POSITION_SECONDS = 1.0
#: Counting outdated rows reads whole tables, which is too expensive for every refresh.
_COUNT_EVERY_SECONDS = 60.0
_COUNT_TIMEOUT_MS = 8_000


class Reporter:
    """Queries all servers of an environment, once or repeatedly."""

    def __init__(
        self, context: Context, *, lookback: dt.timedelta, limits: Limits | None = None
    ) -> None:
        """Create a reporter.

        Args:
            context: the addresses of all servers.
            lookback: the age up to which archive objects are compared with the ledger.
            limits: the numbers above which something needs attention.
        """
        self._context = context
        self._lookback = lookback
        self._limits = limits or Limits()
        self._outdated: Answer | None = None
        self._counted_at = 0.0
        # Clients are created here, as several threads must not create them concurrently.
        self._clients = (context.sqs, context.firehose, context.client("cloudwatch"), context.s3)

    def report(self) -> dict[str, Any]:
        """Return the current state; `unanswered` has the silent servers, each with the reason."""
        return _Report(self._context, self._lookback, self._limits, self._count).made()

    def _count(self) -> dict[str, int]:
        """Count outdated rows, or return the result of a recent count."""
        now = time.monotonic()
        if self._outdated is None or now - self._counted_at > _COUNT_EVERY_SECONDS:
            with self._context.connect_for_reading(
                purpose="status",
                statement_timeout_ms=_COUNT_TIMEOUT_MS,
                connect_timeout_seconds=_CONNECT_TIMEOUT_SECONDS,
            ) as connection:
                counts = probes.count_outdated(connection, self._context.resources.values())
            self._outdated, self._counted_at = Answer(counts), now
        rows: dict[str, int] = self._outdated.value
        return rows


class _Report:
    def __init__(
        self,
        context: Context,
        lookback: dt.timedelta,
        limits: Limits,
        count: Callable[[], dict[str, int]],
    ) -> None:
        self._context = context
        self._now = dt.datetime.now(dt.UTC)
        self._lookback = lookback
        self._limits = limits
        self._count = count
        self._position: str | None = None
        self._position_asked = threading.Event()

    def made(self) -> dict[str, Any]:
        first = ask_all(
            {
                "queue": self._read_queue,
                **{
                    name: partial(self._read_dead_letters, setting)
                    for name, setting in _DEAD_LETTERS.items()
                },
                "uploads": self._count_uploads,
                "stream": self._read_streams,
                "archive": self._list_objects,
                "primary": self._ask_position,
                "replica": self._measure_replica,
                "outdated": self._count,
            },
            seconds=_ANSWER_SECONDS,
        )
        outdated = first.pop("outdated")
        source, ledger = self._read_any_ledger(first)
        streams = first["stream"].value
        report: dict[str, Any] = {
            "at": self._now,
            **{name: first[name].value for name in ("queue", *_DEAD_LETTERS, "uploads")},
            "stages": _build_stages(_find_oldest(streams), ledger, first["replica"].value),
            "rejections": ledger["rejections"] if ledger else None,
            "waiting": ledger["waiting"] if ledger else None,
            "unapplied": _summarize_unapplied(ledger) if ledger else None,
            "ledger_from": source,
            "firehose_oldest_undelivered_seconds": _find_oldest(streams),
            "streams": None if streams is None else list(map(dataclasses.asdict, streams)),
            "replica": _list_facts(first["replica"].value),
            "outdated": outdated.value,
            "runs": None if ledger is None else list(map(dataclasses.asdict, ledger["runs"])),
            "databases": [database.facts() for database in list(self._context.databases)],
            "unanswered": {
                name: answer.reason for name, answer in first.items() if answer.reason is not None
            },
        }
        return {**report, "needs_attention": find_needs(report, self._limits)}

    def _read_any_ledger(
        self, first: dict[str, Answer]
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Return the source of the ledger's facts (the primary, else the replica), and the facts.

        The reason of a primary or replica that fails now is added to its first answer.
        """
        objects = first["archive"].value
        questions = {}
        if first["primary"].reason is None:
            questions["primary"] = lambda: self._read_primary(objects)
        if first["replica"].reason is None and self._context.find(REPLICA):
            questions["replica"] = lambda: self._read_replica(objects)
        answers = ask_all(questions, seconds=_DATABASE_SECONDS)
        for name, answer in answers.items():
            first[name].reason = answer.reason
        source = next((name for name in questions if answers[name].reason is None), None)
        return source, answers[source].value if source else None

    def _read_queue(self) -> dict[str, Any]:
        queue = Queue(self._context.sqs, self._context.get(QUEUE))
        depth = queue.depth()
        cloudwatch = self._context.client("cloudwatch")
        return {
            **dataclasses.asdict(depth),
            "total": depth.total,
            "oldest_seconds": probes.measure_queue_age(cloudwatch, queue),
        }

    def _read_dead_letters(self, setting: Setting) -> dict[str, Any] | None:
        """Return the depth of a queue of dead letters; None if the queue is not configured."""
        url = self._context.find(setting)
        if url is None:
            return None
        depth = Queue(self._context.sqs, url).depth()
        return {**dataclasses.asdict(depth), "total": depth.total, "queue": url}

    def _count_uploads(self) -> dict[str, Any] | None:
        """Count the uploads that are not claimed; None if their bucket is not configured."""
        bucket = self._context.find(ATTACHMENTS)
        if bucket is None:
            return None
        survey = survey_files(Archive(self._context.s3, bucket).list(UPLOADS_PREFIX))
        oldest = survey.oldest
        return {
            "objects": len(survey.missed),
            "oldest_seconds": (self._now - oldest).total_seconds() if oldest else None,
        }

    def _read_streams(self) -> list[probes.Stream]:
        cloudwatch = self._context.client("cloudwatch")
        return [
            probes.stream(self._context.firehose, cloudwatch, name)
            for name in self._context.get(STREAMS).split(",")
        ]

    def _list_objects(self) -> list[StoredObject]:
        after = format_hour(self._now - self._lookback)
        return list(self._context.archive.list(COMMANDS_PREFIX, after=after))

    def _ask_position(self) -> None:
        """Query the primary's position, for which the measurement of the replica waits."""
        try:
            with self._context.connect(**_IMPATIENTLY) as connection:
                self._position = probes.read_position(connection)
        finally:
            self._position_asked.set()

    def _measure_replica(self) -> probes.Replica | None:
        """Measure the replica; None if it is not configured."""
        if self._context.find(REPLICA) is None:
            return None
        with self._context.connect_for_reading(**_IMPATIENTLY) as connection:
            return probes.measure_replica(connection, self._wait_for_position)

    def _wait_for_position(self) -> str | None:
        self._position_asked.wait(_POSITION_SECONDS)
        return self._position

    def _read_primary(self, objects: list[StoredObject] | None) -> dict[str, Any]:
        with self._context.connect(**_IMPATIENTLY) as connection:
            return self._read_ledger(connection, objects)

    def _read_replica(self, objects: list[StoredObject] | None) -> dict[str, Any]:
        with self._context.connect_for_reading(**_IMPATIENTLY) as connection:
            return self._read_ledger(connection, objects)

    def _read_ledger(
        self, connection: Connection, objects: list[StoredObject] | None
    ) -> dict[str, Any]:
        survey = Sweep(connection, now=self._now, grace=None).survey(objects or [])
        return {
            "way": probes.measure_delivery(connection, objects or []),
            "unapplied": None if objects is None else survey.missed,
            "oldest_unapplied": survey.oldest,
            "rejections": probes.count_rejections(connection),
            "waiting": probes.measure_waiting(connection, self._now),
            "runs": probes.list_runs(connection),
            "now": self._now,
        }


_DEAD_LETTERS: Final[Mapping[str, Setting]] = {
    "dead_letters": DEAD_LETTERS,
    "replay_dead_letters": REPLAY_DEAD_LETTERS,
    "import_dead_letters": IMPORT_DEAD_LETTERS,
    "upload_dead_letters": UPLOAD_DEAD_LETTERS,
}
_IMPATIENTLY: Final[Mapping[str, Any]] = {
    "purpose": "status",
    "statement_timeout_ms": _STATEMENT_TIMEOUT_MS,
    "connect_timeout_seconds": _CONNECT_TIMEOUT_SECONDS,
}


def _list_facts(replica: probes.Replica | None) -> dict[str, Any] | None:
    return dataclasses.asdict(replica) if replica else None


def _find_oldest(streams: Sequence[probes.Stream] | None) -> float | None:
    """Return the age of the oldest command that a stream has not stored."""
    ages = (stream.oldest_undelivered_seconds for stream in streams or ())
    return max((age for age in ages if age is not None), default=None)


def _summarize_unapplied(ledger: Mapping[str, Any]) -> dict[str, Any]:
    oldest = ledger["oldest_unapplied"]
    return {
        "objects": ledger["unapplied"],
        "oldest_seconds": (ledger["now"] - oldest).total_seconds() if oldest else None,
    }


def _build_stages(
    freshness: float | None, ledger: Mapping[str, Any] | None, replica: probes.Replica | None
) -> list[dict[str, Any]]:
    """Return the stages of a command's way: current backlogs, and the times of recent objects."""
    way = ledger["way"] if ledger else None
    oldest = ledger["oldest_unapplied"] if ledger else None
    waiting = (ledger["now"] - oldest).total_seconds() if ledger and oldest else None
    lag = replica.seconds_behind if replica else None
    return [
        _build_stage("accepted → archived", freshness, way and way.accepted_to_archived),
        _build_stage(
            "archived → applied",
            waiting,
            way and way.archived_to_applied,
            objects=ledger["unapplied"] if ledger else None,
        ),
        _build_stage("applied → visible on the replica", lag, None),
        _build_stage(
            "accepted → visible on the replica",
            None,
            _delay(way.accepted_to_applied, lag) if way else None,
        ),
    ]


def _build_stage(
    name: str, waiting: float | None, times: probes.Times | None, *, objects: int | None = None
) -> dict[str, Any]:
    return {
        "stage": name,
        "oldest_waiting_seconds": waiting,
        "objects_waiting": objects,
        "recent_p50_seconds": times.p50 if times else None,
        "recent_max_seconds": times.greatest if times else None,
    }


def _delay(times: probes.Times | None, seconds: float | None) -> probes.Times | None:
    if times is None or seconds is None:
        return None
    return probes.Times(times.p50 + seconds, times.greatest + seconds)
