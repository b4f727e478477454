"""Asks everything once, and says what needs an operator."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.aws.queue import Queue
from forebay.errors import ForebayError
from forebay.sweep import Sweep, start_of_listing
from ops.archive.store import StoredObject
from ops.context import DEAD_LETTERS, QUEUE, STREAMS, Context
from ops.status import probes

Found = TypeVar("Found")

#: What a probe may fail with, without stopping the others.
_FAILURES = (ForebayError, psycopg.Error, BotoCoreError, ClientError)
_STATEMENT_TIMEOUT_MS = 10_000


class Reporter:
    """Asks everything of one environment, again and again if wanted."""

    def __init__(self, context: Context, *, lookback: dt.timedelta) -> None:
        """A reporter.

        Args:
            context: says where everything is.
            lookback: how much of the archive is compared with the ledger.
        """
        self._context = context
        self._lookback = lookback

    def report(self) -> dict[str, Any]:
        """Everything as it is now; `unanswered` says which servers did not tell, and why."""
        return _Report(self._context, self._lookback).made()


class _Report:
    def __init__(self, context: Context, lookback: dt.timedelta) -> None:
        self._context = context
        self._now = dt.datetime.now(dt.UTC)
        self._lookback = lookback
        self._unanswered: dict[str, str] = {}

    def made(self) -> dict[str, Any]:
        queue = self._ask("queue", self._queue)
        dead = self._ask("dead_letters", self._dead_letters)
        freshness = self._ask("stream", self._freshness)
        objects = self._ask("archive", self._objects)
        ledger = self._ask("primary", lambda: self._ledger(objects or []))
        replica = self._ask("replica", self._replica)
        report: dict[str, Any] = {
            "at": self._now,
            "queue": queue,
            "dead_letters": dead,
            "stages": _stages(freshness, ledger, replica),
            "rejections": ledger["rejections"] if ledger else None,
            "firehose_oldest_undelivered_seconds": freshness,
            "replica": dataclasses.asdict(replica) if replica else None,
            "unanswered": self._unanswered,
        }
        return {**report, "needs_attention": list(_needs(report))}

    def _ask(self, name: str, question: Callable[[], Found]) -> Found | None:
        try:
            return question()
        except _FAILURES as exc:
            self._unanswered[name] = " ".join(str(exc).split())
            return None

    def _queue(self) -> dict[str, Any]:
        queue = Queue(self._context.sqs, self._context.get(QUEUE))
        depth = queue.depth()
        cloudwatch = self._context.client("cloudwatch")
        return {
            **dataclasses.asdict(depth),
            "total": depth.total,
            "oldest_seconds": probes.queue_age_seconds(cloudwatch, queue),
        }

    def _dead_letters(self) -> dict[str, Any]:
        depth = Queue(self._context.sqs, self._context.get(DEAD_LETTERS)).depth()
        return {**dataclasses.asdict(depth), "total": depth.total}

    def _freshness(self) -> float | None:
        """Of all streams the age of the oldest command that is not stored."""
        cloudwatch = self._context.client("cloudwatch")
        ages = [
            probes.stream_freshness_seconds(
                self._context.firehose.meta.endpoint_url, cloudwatch, stream
            )
            for stream in self._context.get(STREAMS).split(",")
        ]
        return max((age for age in ages if age is not None), default=None)

    def _objects(self) -> list[StoredObject]:
        after = start_of_listing(self._now - self._lookback)
        return list(self._context.archive.list(COMMANDS_PREFIX, after=after))

    def _ledger(self, objects: list[StoredObject]) -> dict[str, Any]:
        with self._context.connect(
            purpose="status", statement_timeout_ms=_STATEMENT_TIMEOUT_MS
        ) as connection:
            survey = Sweep(connection, now=self._now, grace=None).survey(objects)
            return {
                "way": probes.way(connection, objects),
                "unapplied": survey.missed,
                "oldest_unapplied": survey.oldest,
                "rejections": probes.rejections(connection),
                "now": self._now,
            }

    def _replica(self) -> probes.Replica | None:
        with (
            self._context.connect(
                purpose="status", statement_timeout_ms=_STATEMENT_TIMEOUT_MS
            ) as primary,
            self._context.connect_for_reading(
                purpose="status", statement_timeout_ms=_STATEMENT_TIMEOUT_MS
            ) as replica,
        ):
            return probes.replica(primary, replica)


def _stages(
    freshness: float | None, ledger: Mapping[str, Any] | None, replica: probes.Replica | None
) -> list[dict[str, Any]]:
    """The parts of a command's way: what waits now, and how long the last objects took."""
    way = ledger["way"] if ledger else None
    oldest = ledger["oldest_unapplied"] if ledger else None
    waiting = (ledger["now"] - oldest).total_seconds() if ledger and oldest else None
    behind = replica.seconds_behind if replica else None
    return [
        _stage("accepted → archived", freshness, way and way.accepted_to_archived),
        _stage(
            "archived → applied",
            waiting,
            way and way.archived_to_applied,
            objects=ledger["unapplied"] if ledger else None,
        ),
        _stage("applied → visible on the replica", behind, None),
        _stage(
            "accepted → visible on the replica",
            None,
            _later(way.accepted_to_applied, behind) if way else None,
        ),
    ]


def _stage(
    name: str, waiting: float | None, times: probes.Times | None, *, objects: int | None = None
) -> dict[str, Any]:
    return {
        "stage": name,
        "oldest_waiting_seconds": waiting,
        "objects_waiting": objects,
        "recent_p50_seconds": times.p50 if times else None,
        "recent_max_seconds": times.greatest if times else None,
    }


def _later(times: probes.Times | None, seconds: float | None) -> probes.Times | None:
    if times is None or seconds is None:
        return None
    return probes.Times(times.p50 + seconds, times.greatest + seconds)


def _needs(report: Mapping[str, Any]) -> list[str]:
    """What an operator should look at, each with the next step."""
    found = [f"{name} does not answer: {reason}" for name, reason in report["unanswered"].items()]
    dead = report["dead_letters"]
    if dead and dead["total"]:
        found.append(f"{dead['total']:,} dead letters: `forebay dlq list`")
    rejected = report["rejections"]
    if rejected and rejected["open"]:
        found.append(f"{rejected['open']:,} open rejections: `forebay rejections list`")
    return found
