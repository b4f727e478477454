"""The CloudWatch metrics of an environment's parts, which the alarms and the dashboard use.

A metric contains the name of its part, not a reference to the resource of another stack. So the
stack of alarms can be deployed, changed and deleted by itself, and does not block changes of the
other stacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from forebay.metrics import NAMESPACE, Metric, build_dimensions
from forebay.routes import API_PREFIX
from infra.components.functions import LIVE
from infra.database import AuroraDatabase, ExternalDatabase
from infra.settings import FunctionName, Settings

Statistic = Literal["Sum", "Maximum", "Minimum", "Average", "p50", "p99"]

_MINUTE: Final = cdk.Duration.minutes(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedDatabase:
    """A database that the environment creates."""

    kind: Literal["rds", "aurora"]
    #: The instance for RDS, the cluster for Aurora.
    primary: str
    replicas: Sequence[str]
    max_connections: int
    #: The initial storage of RDS; Aurora's storage has no limit to monitor.
    storage_gibibytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An environment's parts."""

    environment: str
    prefix: str
    streams: Sequence[str]
    queue: str
    dead_letters: Sequence[str]
    #: True if no consumer runs here: events of objects copied to the archive wait in the queue.
    standby: bool = False
    #: Minutes between two sweeps, which emit metrics too.
    sweep_minutes: int = 60
    #: True if requests with an Idempotency-Key are recorded.
    has_records: bool = False
    database: WatchedDatabase | None = None
    has_read_cache: bool = False
    #: True if items may have attachments.
    has_attachments: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The parts, by the names that the other stacks give them."""
        first, queue = f"{settings.prefix}-commands", f"{settings.prefix}-archive-events"
        numbers = range(2, settings.stream.count + 1)
        return cls(
            environment=settings.name,
            prefix=settings.prefix,
            streams=[first, *(f"{first}-{number}" for number in numbers)],
            queue=queue,
            dead_letters=[f"{settings.prefix}-{name}-dead" for name in _list_queues(settings)],
            standby=settings.standby,
            sweep_minutes=settings.sweep.every_minutes,
            has_records=settings.idempotency is not None,
            database=_describe_database(settings),
            has_read_cache=settings.read_cache is not None,
            has_attachments=settings.attachments is not None,
        )

    def stream_metrics(self, name: str, statistic: Statistic) -> list[cloudwatch.Metric]:
        """A metric of every delivery stream."""
        return [
            _build_metric("AWS/Firehose", name, {"DeliveryStreamName": stream}, statistic)
            for stream in self.streams
        ]

    def queue_metric(self, queue: str, name: str) -> cloudwatch.Metric:
        """The maximum of a queue's metric."""
        return _build_metric("AWS/SQS", name, {"QueueName": queue}, "Maximum")

    def name_function(self, function: str) -> str:
        """A function's name on AWS, by its name in this project."""
        return f"{self.prefix}-{function.replace('_', '-')}"

    def function_metric(self, function: str, name: str, statistic: Statistic) -> cloudwatch.Metric:
        """A metric of a function, by the function's name in this project."""
        dimensions = {"FunctionName": self.name_function(function)}
        return _build_metric("AWS/Lambda", name, dimensions, statistic)

    def version_metric(self, function: FunctionName, version: str, name: str) -> cloudwatch.Metric:
        """The sum of a metric of one version, while the alias has two.

        Lambda developer guide, "Viewing metrics for Lambda functions": the dimension
        `ExecutedVersion` separates the versions of an alias with weights.
        """
        function_name = self.name_function(function)
        dimensions = {
            "FunctionName": function_name,
            "Resource": f"{function_name}:{LIVE}",
            "ExecutedVersion": version,
        }
        return _build_metric("AWS/Lambda", name, dimensions, "Sum")

    def own_metric(
        self,
        metric: Metric,
        statistic: Statistic,
        *,
        value: str | None = None,
        minutes: int = 1,
    ) -> cloudwatch.Metric:
        """A metric that a function itself emits; with the value of the field that splits it."""
        own_dimensions = {**build_dimensions(metric.service, self.environment)}
        if metric.split_by is not None:
            assert value is not None  # noqa: S101 - without it, no such metric exists
            own_dimensions[metric.split_by] = value
        period = cdk.Duration.minutes(minutes)
        return _build_metric(NAMESPACE, metric.name, own_dimensions, statistic, period)

    def api_metric(self, name: str, statistic: Statistic) -> cloudwatch.Metric:
        """A metric of the API's one stage."""
        stage = API_PREFIX.removeprefix("/")
        return _build_metric(
            "AWS/ApiGateway", name, {"ApiName": self.prefix, "Stage": stage}, statistic
        )

    def primary_metric(self, name: str, statistic: Statistic) -> cloudwatch.Metric:
        """A metric of the primary."""
        database = self._needed
        if database.kind == "aurora":
            dimensions = {"DBClusterIdentifier": database.primary, "Role": "WRITER"}
        else:
            dimensions = {"DBInstanceIdentifier": database.primary}
        return _build_metric("AWS/RDS", name, dimensions, statistic)

    def replica_lags(self) -> list[cloudwatch.IMetric]:
        """The lag of the replicas, in seconds."""
        database = self._needed
        if database.kind == "rds":
            return [
                _build_metric("AWS/RDS", "ReplicaLag", {"DBInstanceIdentifier": replica}, "Maximum")
                for replica in database.replicas
            ]
        if not database.replicas:
            return []
        milliseconds = _build_metric(
            "AWS/RDS",
            "AuroraReplicaLagMaximum",
            {"DBClusterIdentifier": database.primary},
            "Maximum",
        )
        return [
            cloudwatch.MathExpression(
                expression="lag / 1000",
                using_metrics={"lag": milliseconds},
                label="replica lag, s",
                period=_MINUTE,
            )
        ]

    @property
    def _needed(self) -> WatchedDatabase:
        assert self.database is not None  # noqa: S101 - used only with a database
        return self.database


def _list_queues(settings: Settings) -> list[str]:
    uploads = [] if settings.attachments is None else ["upload-events"]
    return ["archive-events", "replay", "import-events", *uploads]


def _describe_database(settings: Settings) -> WatchedDatabase | None:
    """The database to watch; None for an external one."""
    database, name = settings.database, settings.server_name
    if isinstance(database, ExternalDatabase):
        return None
    if isinstance(database, AuroraDatabase):
        return WatchedDatabase(
            kind="aurora",
            primary=name,
            replicas=[name] * database.replicas,
            max_connections=database.max_connections,
        )
    return WatchedDatabase(
        kind="rds",
        primary=name,
        replicas=[f"{name}-replica-{number}" for number in range(1, database.replicas + 1)],
        max_connections=database.max_connections,
        storage_gibibytes=database.storage_gibibytes,
    )


def _build_metric(
    namespace: str,
    name: str,
    dimensions: Mapping[str, str],
    statistic: Statistic,
    period: cdk.Duration = _MINUTE,
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        dimensions_map=dict(dimensions),
        statistic=statistic,
        period=period,
    )
