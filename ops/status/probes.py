"""One question to one server each; what does not answer is told as such, and stops nothing else."""

from __future__ import annotations

import datetime as dt
import http.client
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.errors import TransientError
from forebay.ids import accepted_ms
from forebay.sweep import Stored

#: Objects applied last, of which the times on the way are told.
RECENT_OBJECTS = 100
_METRIC_MINUTES = 15
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_HTTP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that commands have taken for a part of their way, as the objects applied last tell.

    By an object's oldest command, so that the greatest is what a client can have met.
    """

    p50: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Way:
    """The parts of the way of the objects applied last."""

    objects: int
    accepted_to_archived: Times | None
    archived_to_applied: Times | None
    accepted_to_applied: Times | None


@dataclass(frozen=True, slots=True)
class Replica:
    """How far the replica is behind."""

    bytes_behind: int
    #: Since when it lacks something; 0 when it has everything.
    seconds_behind: float


def way(connection: Connection, listed: Iterable[Stored]) -> Way:
    """How long the objects applied last were on their way.

    Args:
        connection: to a database with the ledger.
        listed: the archive's objects of the last hours, whose times of storage are looked up.
    """
    rows = connection.execute(_RECENT, [RECENT_OBJECTS]).fetchall()
    stored = {found.key: found.modified for found in listed}
    archived, applied, whole = [], [], []
    for key, first_id, completed in rows:
        accepted = dt.datetime.fromtimestamp(accepted_ms(first_id) / 1000, dt.UTC)
        whole.append(_seconds(accepted, completed))
        if key in stored:
            archived.append(_seconds(accepted, stored[key]))
            applied.append(_seconds(stored[key], completed))
    return Way(len(rows), _times(archived), _times(applied), _times(whole))


def rejections(connection: Connection) -> dict[str, int]:
    """How many rejections there are: `open`, and `last_hour` of all."""
    row = connection.execute(_REJECTIONS).fetchone()
    assert row is not None  # noqa: S101 - an aggregate gives one row
    return {"open": int(row[0]), "last_hour": int(row[1])}


def replica(primary: Connection, following: Connection) -> Replica:
    """How far a replica is behind its primary; needs no privilege.

    The time is that of the last transaction that the replica has replayed, and so only means
    something while there is more to replay.
    """
    position = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert position is not None  # noqa: S101 - a function gives one row
    row = following.execute(_BEHIND, [position[0]]).fetchone()
    assert row is not None  # noqa: S101
    behind = max(0, int(row[0] or 0))
    return Replica(behind, max(0.0, float(row[1] or 0.0)) if behind else 0.0)


def queue_age_seconds(cloudwatch: Any, queue: Queue) -> float | None:  # noqa: ANN401
    """The age of the queue's oldest message, a minute or two ago; None where nobody measures it.

    SQS tells it to CloudWatch only.
    """
    return _latest(cloudwatch, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.name)


def stream_freshness_seconds(
    endpoint: str,
    cloudwatch: Any,  # noqa: ANN401
    stream: str,
) -> float | None:
    """The age of the oldest command that the delivery stream has not stored; None if it has all.

    Of Firehose, CloudWatch tells (`DeliveryToS3.DataFreshness`); the one-machine stack's own
    server is asked itself.

    Raises:
        TransientError: it does not answer.
    """
    host = urlsplit(endpoint).hostname or ""
    if host.endswith(_AWS_DOMAINS):
        return _latest(
            cloudwatch, "AWS/Firehose", "DeliveryToS3.DataFreshness", "DeliveryStreamName", stream
        )
    told = _get(endpoint, "/_status")["streams"].get(stream)
    # Before its first record a stream is not opened.
    return told["oldest_age_seconds"] if told else None


def _get(endpoint: str, path: str) -> Any:  # noqa: ANN401 - JSON
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_HTTP_SECONDS)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise TransientError(f"{endpoint}{path}: {exc}") from exc
    finally:
        connection.close()


def _latest(
    cloudwatch: Any,  # noqa: ANN401
    namespace: str,
    metric: str,
    dimension: str,
    value: str,
) -> float | None:
    now = dt.datetime.now(dt.UTC)
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": namespace,
                        "MetricName": metric,
                        "Dimensions": [{"Name": dimension, "Value": value}],
                    },
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
        ],
        StartTime=now - dt.timedelta(minutes=_METRIC_MINUTES),
        EndTime=now,
        ScanBy="TimestampDescending",
    )
    values = answer["MetricDataResults"][0]["Values"]
    return float(values[0]) if values else None


def _seconds(start: dt.datetime, end: dt.datetime) -> float:
    # S3 tells whole seconds, and clocks differ a little.
    return max(0.0, (end - start).total_seconds())


def _times(seconds: Sequence[float]) -> Times | None:
    return Times(median(seconds), max(seconds)) if seconds else None


_RECENT = """
    SELECT object, first_id::text, completed_at FROM forebay.ledger
    WHERE completed_at IS NOT NULL AND first_id IS NOT NULL
      AND object !~ '/amend-[^/]*$'  -- their ids are of the time that they amend
    ORDER BY completed_at DESC LIMIT %s
"""
_REJECTIONS = """
    SELECT count(*) FILTER (WHERE d.rejection IS NULL),
           count(*) FILTER (WHERE r.rejected_at > now() - interval '1 hour')
    FROM forebay.rejections AS r LEFT JOIN forebay.decisions AS d ON d.rejection = r.id
"""
_BEHIND = """
    SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn()),
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
"""
