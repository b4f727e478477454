"""The limits of `forebay status`, and the messages about values above them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ops.console import format_duration

#: Added to a delivery stream's buffer interval, for retries and the delay of the metric.
UNDELIVERED_BEYOND_INTERVAL_SECONDS = 120.0
#: Firehose's longest interval; assumed if a stream's own is unknown.
LONGEST_INTERVAL_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers above which something needs attention."""

    unapplied_seconds: float = 60.0
    replica_lag_seconds: float = 10.0
    #: None stands for the stream's buffer interval plus two minutes.
    undelivered_seconds: float | None = None
    silent_run_seconds: float = 120.0
    open_rejections: int = 0
    waiting_seconds: float = 900.0
    dead_letters: int = 0
    outdated_rows: int = 0


def find_needs(report: Mapping[str, Any], limits: Limits) -> list[str]:
    """Return a message, with the next step, for everything that needs an operator."""
    return [
        *(f"{name} does not answer: {reason}" for name, reason in report["unanswered"].items()),
        *_check_dead_letters(report, limits),
        *_check_rejections(report, limits),
        *_check_waiting(report, limits),
        *_check_unapplied(report, limits),
        *_check_uploads(report, limits),
        *_check_replica(report, limits),
        *_check_streams(report, limits),
        *_check_outdated(report, limits),
        *_check_runs(report, limits),
    ]


def _check_dead_letters(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    for name, title, option in (
        ("dead_letters", "dead letters", ""),
        ("replay_dead_letters", "dead letters of replays", " --dead-letter-queue-url {queue}"),
        ("import_dead_letters", "dead letters of imports", " --dead-letter-queue-url {queue}"),
        ("upload_dead_letters", "dead letters of uploads", " --dead-letter-queue-url {queue}"),
    ):
        queue = report[name]
        if queue and queue["total"] > limits.dead_letters:
            command = f"forebay dlq list{option.format(queue=queue['queue'])}"
            yield f"{queue['total']:,} {title}: `{command}`"


def _check_rejections(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    rejected = report["rejections"]
    if rejected and rejected["open"] > limits.open_rejections:
        yield f"{rejected['open']:,} open rejections: `forebay rejections list`"


def _check_waiting(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    waiting = report["waiting"]
    age = waiting and waiting["oldest_seconds"]
    if age is not None and age > limits.waiting_seconds:
        yield (
            f"{waiting['commands']:,} patches wait for an item, the oldest for "
            f"{format_duration(age)}: `forebay history {waiting['resource']} "
            f"{shlex.quote(waiting['key'])}`, docs/runbooks/alarms/commands-waiting.md"
        )


def _check_unapplied(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    unapplied = report["unapplied"]
    age = unapplied and unapplied["oldest_seconds"]
    if age is not None and age > limits.unapplied_seconds:
        yield (
            f"{unapplied['objects']:,} objects are not applied, the oldest for "
            f"{format_duration(age)}: `forebay sweep --dry-run`"
        )


def _check_uploads(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    uploads = report["uploads"]
    age = uploads and uploads["oldest_seconds"]
    if age is not None and age > limits.unapplied_seconds:
        yield (
            f"{uploads['objects']:,} uploads are not claimed, the oldest for "
            f"{format_duration(age)}: `forebay sweep --dry-run`"
        )


def _check_replica(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    replica = report["replica"]
    if replica and replica["seconds_behind"] > limits.replica_lag_seconds:
        receives = "" if replica["streaming"] else " and receives no WAL"
        yield f"the replica is {format_duration(replica['seconds_behind'])} behind{receives}"


def _check_streams(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    for stream in report["streams"] or ():
        limit = limits.undelivered_seconds
        if limit is None:
            limit = stream["interval_seconds"] + UNDELIVERED_BEYOND_INTERVAL_SECONDS
        age = stream["oldest_undelivered_seconds"]
        if age is not None and age > limit:
            yield (
                f"the stream {stream['name']} has not delivered for {format_duration(age)}: "
                "docs/runbooks/alarms/delivery-stalled.md"
            )


def _check_outdated(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    rows = report["outdated"] or {}
    total = sum(rows.values())
    if total > limits.outdated_rows:
        tables = ", ".join(f"{count:,} of {path}" for path, count in rows.items() if count)
        yield f"{total:,} outdated rows ({tables}): `forebay replay` writes them again"


def _check_runs(report: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    for run in report["runs"] or ():
        if run["silent_seconds"] > limits.silent_run_seconds:
            watch = " --watch" if run["via_queue"] else ""
            silence = format_duration(run["silent_seconds"])
            yield (
                f"the replay {run['run']} is running and has made no progress for {silence}: "
                f"`forebay replay --resume {run['run']}{watch}`"
            )
