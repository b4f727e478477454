"""One query to one server each; a failure is reported as such, and stops no other query."""

from __future__ import annotations

import dataclasses
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
from forebay.unmet import NOT_UNMET_SQL
from forebay.waiting import Waiting
from ops.status.limits import LONGEST_INTERVAL_SECONDS

#: The number of most recently applied objects with measured times.
RECENT_OBJECTS = 100
_METRIC_MINUTES = 15
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_HTTP_SECONDS = 5
#: The time that a replica gets to replay the WAL that existed when it was queried.
_REPLAY_SECONDS = 1.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that the most recently applied objects spent in one stage.

    Each object counts with its oldest command, so the greatest value is the worst that a client can
    have seen.
    """

    p50: float
    greatest: float


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """The times of the most recently applied objects, stage by stage."""

    objects: int
    accepted_to_archived: Times | None
    archived_to_applied: Times | None
    accepted_to_applied: Times | None


@dataclass(frozen=True, slots=True)
class Replica:
    """The lag of a replica."""

    bytes_behind: int
    #: Upper bound of the time since it lacks something; 0 if it lacks no change.
    seconds_behind: float
    #: True if it is receiving WAL.
    streaming: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A replay in the state `running`."""

    run: str
    via_queue: bool
    #: Seconds since its last recorded activity.
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Stream:
    """A delivery stream."""

    name: str
    #: The age of the oldest command that it has not stored; None if all are stored, or if unknown.
    oldest_undelivered_seconds: float | None
    #: The longest time for which it buffers commands.
    interval_seconds: float


def measure_delivery(connection: Connection, listed: Iterable[Stored]) -> DeliveryTimes:
    """Measure how long the most recently applied objects were on their way.

    Args:
        connection: a connection to a database with the ledger.
        listed: the archive's objects of the last hours, for their times of storage.
    """
    rows = connection.execute(_RECENT, [RECENT_OBJECTS]).fetchall()
    modified_by_key = {archive_object.key: archive_object.modified for archive_object in listed}
    archived, applied, total = [], [], []
    for key, first_id, completed in rows:
        accepted = dt.datetime.fromtimestamp(accepted_ms(first_id) / 1000, dt.UTC)
        total.append(_measure_seconds(accepted, completed))
        if key in modified_by_key:
            archived.append(_measure_seconds(accepted, modified_by_key[key]))
            applied.append(_measure_seconds(modified_by_key[key], completed))
    return DeliveryTimes(
        len(rows), _summarize_times(archived), _summarize_times(applied), _summarize_times(total)
    )


def count_rejections(connection: Connection) -> dict[str, int]:
    """Count the rejections that are not unmet: the `open` ones, and all of the `last_hour`."""
    row = connection.execute(_REJECTIONS).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    return {"open": int(row[0]), "last_hour": int(row[1])}


def measure_waiting(connection: Connection, now: dt.datetime) -> dict[str, Any]:
    """Return the number of commands that wait for their item, and the oldest."""
    waiting = Waiting.read(connection)
    return {**dataclasses.asdict(waiting), "oldest_seconds": waiting.measure_age(now)}


def read_position(primary: Connection) -> str:
    """Return the position up to which the primary has written its WAL."""
    row = primary.execute(_POSITION).fetchone()
    assert row is not None  # noqa: S101 - a function returns one row
    return str(row[0])


def measure_replica(following: Connection, position_of: Callable[[], str | None]) -> Replica:
    """Measure a replica's lag; this needs no privilege.

    A replica lags if it does not replay the existing WAL within a second. That is the WAL of the
    primary, or, if the primary does not answer, the WAL that the replica has received. The time of
    the last transaction is meaningful for a lagging replica only: WAL without commits makes that
    time old without any lag.

    Args:
        following: a connection to the replica.
        position_of: returns the primary's position; None if the primary does not answer.
    """
    state = following.execute(_REPLICATION).fetchone()
    assert state is not None  # noqa: S101
    in_recovery, streaming, received, replayed = state
    if not in_recovery or replayed is None:
        return Replica(0, 0.0, bool(streaming))
    primary_position = position_of()
    target = max(filter(None, (primary_position, received, replayed)), key=_parse_lsn)
    deadline = time.monotonic() + _REPLAY_SECONDS
    while True:
        row = following.execute(_BEHIND, [target]).fetchone()
        assert row is not None  # noqa: S101
        lag_bytes = max(0, int(row[0] or 0))
        if lag_bytes == 0 and (streaming or primary_position is not None):
            return Replica(0, 0.0, bool(streaming))
        # A replica that receives no WAL can't know what it lacks if the primary does not answer.
        if lag_bytes == 0 or time.monotonic() > deadline:
            return Replica(lag_bytes, max(0.0, float(row[1] or 0.0)), bool(streaming))
        time.sleep(_POLL_SECONDS)


def _parse_lsn(text: str) -> tuple[int, int]:
    high, _, low = text.partition("/")
    return int(high, 16), int(low, 16)


def count_outdated(connection: Connection, resources: Iterable[ResourceSpec]) -> dict[str, int]:
    """Count the rows of each resource that are marked as outdated and not replayed since."""
    counts = {}
    for spec in resources:
        query = sql.SQL(_OUTDATED).format(sql.Identifier("public", spec.table))
        row = connection.execute(query).fetchone()
        counts[spec.path] = int(row[0]) if row else 0
    return counts


def list_runs(connection: Connection) -> list[Run]:
    """Return the replays in the state `running`."""
    rows = connection.execute(_RUNS).fetchall()
    return [
        Run(run, via_queue, max(0.0, silent_seconds)) for run, via_queue, silent_seconds in rows
    ]


def measure_queue_age(cloudwatch: Any, queue: Queue) -> float | None:  # noqa: ANN401
    """Return the age of the queue's oldest message, measured a minute or two ago; None if unknown.

    SQS reports it to CloudWatch only.
    """
    return _read_latest(
        cloudwatch, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.name
    )


def stream(firehose: Any, cloudwatch: Any, name: str) -> Stream:  # noqa: ANN401
    """Query the state of one delivery stream.

    For Firehose, CloudWatch has the age (`DeliveryToS3.DataFreshness`); the one-machine stack's own
    server reports it itself.

    Raises:
        TransientError: the server does not answer.
    """
    endpoint = firehose.meta.endpoint_url
    host = urlsplit(endpoint).hostname or ""
    if host.endswith(_AWS_DOMAINS):
        age = _read_latest(
            cloudwatch, "AWS/Firehose", "DeliveryToS3.DataFreshness", "DeliveryStreamName", name
        )
        return Stream(name, age, _read_interval(firehose, name))
    state = _get(endpoint, "/_status")["streams"].get(name)
    if state is None:  # a stream is opened with its first record
        return Stream(name, None, LONGEST_INTERVAL_SECONDS)
    interval = float(state["configuration"]["interval_seconds"])
    return Stream(name, state["oldest_age_seconds"], interval)


def _read_interval(firehose: Any, name: str) -> float:  # noqa: ANN401
    """Return a stream's buffer interval; the longest possible interval if it can't be read."""
    try:
        description = firehose.describe_delivery_stream(DeliveryStreamName=name)
    except ClientError:  # the operator may read metrics only
        return LONGEST_INTERVAL_SECONDS
    (destination, *_) = description["DeliveryStreamDescription"]["Destinations"]
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


def _read_latest(
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


def _measure_seconds(start: dt.datetime, end: dt.datetime) -> float:
    # S3 reports whole seconds, and clocks differ a little.
    return max(0.0, (end - start).total_seconds())


def _summarize_times(seconds: Sequence[float]) -> Times | None:
    return Times(median(seconds), max(seconds)) if seconds else None


_RECENT = """
    SELECT object, first_id::text, completed_at FROM forebay.ledger
    WHERE completed_at IS NOT NULL AND first_id IS NOT NULL
      AND object !~ '/amend-[^/]*$'  -- their ids are of the time that they amend
    ORDER BY completed_at DESC LIMIT %s
"""
_REJECTIONS = f"""
    SELECT count(*) FILTER (WHERE d.rejection IS NULL),
           count(*) FILTER (WHERE r.rejected_at > now() - interval '1 hour')
    FROM forebay.rejections AS r LEFT JOIN forebay.decisions AS d ON d.rejection = r.id
    WHERE r.{NOT_UNMET_SQL}
"""  # noqa: S608 - a constant
_POSITION = "SELECT pg_current_wal_lsn()::text"
_REPLICATION = """
    SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_wal_receiver),
           pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text
"""
_BEHIND = """
    SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn()),
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
"""
# No command's id begins with `e` or `f`; a version that does is the mark of an outdated row.
_OUTDATED = """
    SELECT count(*) FROM {} WHERE _version >= 'e0000000-0000-0000-0000-000000000000'::uuid
"""
_RUNS = """
    SELECT r.id::text, r.via_queue,
           extract(epoch FROM clock_timestamp() - greatest(r.updated_at, max(o.done_at)))::float8
    FROM forebay.runs AS r LEFT JOIN forebay.run_objects AS o ON o.run = r.id
    WHERE r.state = 'running' GROUP BY r.id ORDER BY r.id
"""
