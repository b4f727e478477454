"""The metrics of the functions; CloudWatch extracts them from log lines.

The format of such a line: CloudWatch user guide, "Specification: Embedded metric format".
docs/metrics.md lists the metrics; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

NAMESPACE: Final = "Forebay"
Service = Literal["write", "read", "imports", "consumer", "sweep"]


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric that one function emits."""

    name: str
    #: The emitting function's name in its log.
    service: Service
    meaning: str
    unit: Literal["Count", "Milliseconds"] = "Count"
    #: The field of the log line that is a dimension, besides the service and the environment; and
    #: its values. AWS charges for each value as for a metric of its own.
    split_by: str | None = None
    values: tuple[str, ...] = ()
    #: True if only an environment with a read cache has it.
    needs_read_cache: bool = False


COMMANDS_ACCEPTED: Final = Metric(
    "CommandsAccepted", "write", "commands that a store has acknowledged"
)
COMMANDS_BY_FALLBACK: Final = Metric(
    "CommandsByFallback",
    "write",
    "accepted commands that were stored in the archive because the stream did not acknowledge them",
)
COMMANDS_NOT_ACCEPTED: Final = Metric(
    "CommandsNotAccepted", "write", "commands that no store has acknowledged (503)"
)
WRITES_REFUSED: Final = Metric(
    "WritesRefused",
    "write",
    "requests answered with a 4xx status; items of a batch are not counted",
)
ITEMS_REFUSED: Final = Metric(
    "ItemsRefused", "write", "items of batches that are answered with a 4xx status"
)

WRITES_REPLAYED: Final = Metric(
    "WritesReplayed", "write", "repetitions of a request that were answered from its record"
)
KEYS_REUSED: Final = Metric(
    "KeysReused", "write", "requests refused because another request has had their Idempotency-Key"
)
RECORDS_UNAVAILABLE: Final = Metric(
    "RecordsUnavailable",
    "write",
    "requests for which the table of idempotency records was not available, refused or accepted",
)

#: Metrics of environments with idempotency records only.
RECORDS_METRICS: Final = (WRITES_REPLAYED, KEYS_REUSED, RECORDS_UNAVAILABLE)

UPLOADS_CLAIMED: Final = Metric(
    "UploadsClaimed", "imports", "uploads of attachments for which a command was accepted"
)
UPLOADS_REFUSED: Final = Metric(
    "UploadsRefused",
    "imports",
    "uploads, and events without one, that became no command: another type, a missing object",
)

#: Metrics of environments with attachments only.
ATTACHMENT_METRICS: Final = (UPLOADS_CLAIMED, UPLOADS_REFUSED)

READS_ANSWERED: Final = Metric(
    "ReadsAnswered",
    "read",
    "requests answered with a 2xx or 3xx status",
    split_by="kind",
    values=("item", "list", "query", "status"),
)
READS_REFUSED: Final = Metric("ReadsRefused", "read", "requests answered with a 4xx status")
CACHE_HITS: Final = Metric(
    "CacheHits", "read", "reads answered by the read cache", needs_read_cache=True
)
CACHE_MISSES: Final = Metric(
    "CacheMisses",
    "read",
    "reads for which the read cache had no valid answer",
    needs_read_cache=True,
)
CACHE_SKIPPED: Final = Metric(
    "CacheSkipped",
    "read",
    "times that the read cache did not answer in time, was full, or was skipped after a failure",
    needs_read_cache=True,
)
CACHE_ANSWERS_REFUSED: Final = Metric(
    "CacheAnswersRefused",
    "read",
    "answers that were not stored, because the replica did not show the newest change yet",
    needs_read_cache=True,
)

OBJECTS_APPLIED: Final = Metric("ObjectsApplied", "consumer", "archive objects applied completely")
OBJECTS_ALREADY_APPLIED: Final = Metric(
    "ObjectsAlreadyApplied", "consumer", "messages for objects that were complete before"
)
COMMANDS_APPLIED: Final = Metric(
    "CommandsApplied", "consumer", "commands that have changed a table"
)
COMMANDS_SUPERSEDED: Final = Metric(
    "CommandsSuperseded", "consumer", "commands that another command of the key beats"
)
COMMANDS_DUPLICATE: Final = Metric(
    "CommandsDuplicate", "consumer", "lines with a command that was applied or rejected before"
)
COMMANDS_REJECTED: Final = Metric(
    "CommandsRejected",
    "consumer",
    "commands, and invalid lines, that can never apply; not unmet ones",
)
COMMANDS_UNMET: Final = Metric(
    "CommandsUnmet",
    "consumer",
    "commands rejected because their condition or increment did not fit the item",
)
COMMANDS_REPLAYED: Final = Metric(
    "CommandsReplayed", "consumer", "lines of objects that a replay applied through the queue"
)
APPLY_LAG_OLDEST: Final = Metric(
    "ApplyLagOldest",
    "consumer",
    "the time from acceptance to applied, of the oldest command of an object",
    unit="Milliseconds",
)
APPLY_LAG_NEWEST: Final = Metric(
    "ApplyLagNewest", "consumer", "the same, of the object's newest command", unit="Milliseconds"
)
MESSAGES_FAILED: Final = Metric(
    "MessagesFailed", "consumer", "deliveries of messages that failed; SQS delivers them again"
)
CACHE_CHANGES_MISSED: Final = Metric(
    "CacheChangesMissed",
    "consumer",
    "changes that could not be announced to the read cache; its answers may then be a minute old",
    needs_read_cache=True,
)

OBJECTS_MISSED: Final = Metric(
    "ObjectsMissed", "sweep", "archive objects, imports and uploads that the sweep has enqueued"
)
OBJECTS_DEAD: Final = Metric(
    "ObjectsDead",
    "sweep",
    "archive objects, imports and uploads of dead letters, which wait for an operator",
)

COMMANDS_WAITING: Final = Metric(
    "CommandsWaiting", "sweep", "patches that wait for their item, at the time of a sweep"
)
OLDEST_WAITING: Final = Metric(
    "OldestWaiting", "sweep", "the age of the oldest of them; 0 without any", unit="Milliseconds"
)

METRICS: Final = tuple(value for value in globals().values() if isinstance(value, Metric))


def build_dimensions(service: str, environment: str) -> Mapping[str, str]:
    """Return the dimensions of every metric of a function in an environment."""
    return {"service": service, "environment": environment}


def describe(metrics: Iterable[Metric], milliseconds: int) -> dict[str, Any]:
    """Return the member `_aws` of a log line that contains the metrics' values and dimensions.

    Args:
        metrics: the metrics; the line has their values as members of the same names.
        milliseconds: the line's time, since the Unix epoch.
    """
    return {"Timestamp": milliseconds, "CloudWatchMetrics": _list_directives(tuple(metrics))}


@cache
def _list_directives(metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
    names_by_split: dict[str | None, list[dict[str, str]]] = {}
    for metric in metrics:
        name = {"Name": metric.name, "Unit": metric.unit}
        names_by_split.setdefault(metric.split_by, []).append(name)
    return [
        {
            "Namespace": NAMESPACE,
            "Dimensions": [["service", "environment", *([split_by] if split_by else [])]],
            "Metrics": names,
        }
        for split_by, names in names_by_split.items()
    ]
