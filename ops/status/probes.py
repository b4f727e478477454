"""One question to one server each; what does not answer is told as such, and stops nothing else."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from psycopg import sql

from forebay.aws.queue import Queue
from forebay.db.connect import Connection
from forebay.errors import TransientError
from forebay.ids import accepted_ms
from forebay.resource.spec import ResourceSpec
from forebay.sweep import Stored
from ops.status.limits import LONGEST_INTERVAL_SECONDS

#: Objects applied last, of which the times on the way are told.
RECENT_OBJECTS = 100
_METRIC_MINUTES = 15
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_HTTP_SECONDS = 5
#: For so long a replica is given to replay the WAL that there was when it was asked.
_REPLAY_SECONDS = 1.0
_POLL_SECONDS = 0.05


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
    #: Since when it lacks something, at most; 0 when it has everything.
    seconds_behind: float
    #: Whether it receives WAL at the moment.
    streaming: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A replay that is called running."""

    run: str
    via_queue: bool
    #: Since it was last noted to have done something.
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Stream:
    """A delivery stream."""

    name: str
    #: The age of the oldest command that it has not stored; None if it has all, or is not known.
    oldest_undelivered_seconds: float | None
    #: How long it buffers by itself.
    interval_seconds: float


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


def position(primary: Connection) -> str:
    """Return how far the primary has written its WAL."""
    row = primary.execute(_POSITION).fetchone()
    assert row is not None  # noqa: S101 - a function gives one row
    return str(row[0])


def replica(following: Connection, position_of: Callable[[], str | None]) -> Replica:
    """Measure how far a replica is behind; needs no privilege.

    The replica is behind if it does not replay within a moment the WAL that there was: that of the
    primary where it answers, else that which the replica has received. Only then does the time of
    the last transaction mean something: WAL without commits makes that time old, and no lag.

    Args:
        following: to the replica.
        position_of: returns the primary's position, None where it does not answer.
    """
    state = following.execute(_REPLICATION).fetchone()
    assert state is not None  # noqa: S101
    in_recovery, streaming, received, replayed = state
    if not in_recovery or replayed is None:
        return Replica(0, 0.0, bool(streaming))
    written = position_of()
    target = max(filter(None, (written, received, replayed)), key=_lsn)
    deadline = time.monotonic() + _REPLAY_SECONDS
    while True:
        row = following.execute(_BEHIND, [target]).fetchone()
        assert row is not None  # noqa: S101
        behind = max(0, int(row[0] or 0))
        if behind == 0 and (streaming or written is not None):
            return Replica(0, 0.0, bool(streaming))
        # One that receives nothing, beside a silent primary, can't know what it lacks.
        if behind == 0 or time.monotonic() > deadline:
            return Replica(behind, max(0.0, float(row[1] or 0.0)), bool(streaming))
        time.sleep(_POLL_SECONDS)


def _lsn(text: str) -> tuple[int, int]:
    high, _, low = text.partition("/")
    return int(high, 16), int(low, 16)


def outdated(connection: Connection, resources: Iterable[ResourceSpec]) -> dict[str, int]:
    """Count the rows of each resource that are marked as outdated and not replayed since."""
    counts = {}
    for spec in resources:
        query = sql.SQL(_OUTDATED).format(sql.Identifier("public", spec.table))
        row = connection.execute(query).fetchone()
        counts[spec.path] = int(row[0]) if row else 0
    return counts


def runs(connection: Connection) -> list[Run]:
    """Return the replays that are called running."""
    rows = connection.execute(_RUNS).fetchall()
    return [Run(run, via_queue, max(0.0, silent)) for run, via_queue, silent in rows]


def queue_age_seconds(cloudwatch: Any, queue: Queue) -> float | None:  # noqa: ANN401
    """The age of the queue's oldest message, a minute or two ago; None where nobody measures it.

    SQS tells it to CloudWatch only.
    """
    return _latest(cloudwatch, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.name)


def stream(firehose: Any, cloudwatch: Any, name: str) -> Stream:  # noqa: ANN401
    """Ask about one delivery stream.

    Of Firehose, CloudWatch has the age (`DeliveryToS3.DataFreshness`); the one-machine stack's own
    server is asked itself.

    Raises:
        TransientError: it does not answer.
    """
    endpoint = firehose.meta.endpoint_url
    host = urlsplit(endpoint).hostname or ""
    if host.endswith(_AWS_DOMAINS):
        age = _latest(
            cloudwatch, "AWS/Firehose", "DeliveryToS3.DataFreshness", "DeliveryStreamName", name
        )
        return Stream(name, age, _interval_seconds(firehose, name))
    told = _get(endpoint, "/_status")["streams"].get(name)
    if told is None:  # before its first record a stream is not opened
        return Stream(name, None, LONGEST_INTERVAL_SECONDS)
    interval = float(told["configuration"]["interval_seconds"])
    return Stream(name, told["oldest_age_seconds"], interval)


def _interval_seconds(firehose: Any, name: str) -> float:  # noqa: ANN401
    """Return a stream's buffer interval; the longest that there is where it can't be read."""
    try:
        described = firehose.describe_delivery_stream(DeliveryStreamName=name)
    except ClientError:  # the operator may read metrics only
        return LONGEST_INTERVAL_SECONDS
    (destination, *_) = described["DeliveryStreamDescription"]["Destinations"]
    hints = destination.get("ExtendedS3DestinationDescription", {}).get("BufferingHints", {})
    return float(hints.get("IntervalInSeconds", LONGEST_INTERVAL_SECONDS))


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
_POSITION = "SELECT pg_current_wal_lsn()::text"
_REPLICATION = """
    SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_wal_receiver),
           pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text
"""
_BEHIND = """
    SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn()),
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
"""
# No command's id begins with `f`; a version that does is the mark of an outdated row.
_OUTDATED = """
    SELECT count(*) FROM {} WHERE _version >= 'f0000000-0000-0000-0000-000000000000'::uuid
"""
_RUNS = """
    SELECT r.id::text, r.via_queue,
           extract(epoch FROM clock_timestamp() - greatest(r.updated_at, max(o.done_at)))::float8
    FROM forebay.runs AS r LEFT JOIN forebay.run_objects AS o ON o.run = r.id
    WHERE r.state = 'running' GROUP BY r.id ORDER BY r.id
"""
