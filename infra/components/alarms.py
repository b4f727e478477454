"""The alarms: ten at most, each with a runbook.

AWS charges for the metrics that alarms use. Ten metrics are free of charge; each further one costs
ten cents a month.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.components.watched import Watched
from infra.operations import OperationsSettings

#: Alarm -> its page below docs/runbooks/alarms.
RUNBOOKS: Final[Mapping[str, str]] = {
    "delivery-stalled": "delivery-stalled.md",
    "delivery-throttled": "delivery-throttled.md",
    "apply-behind": "apply-behind.md",
    "dead-letters": "not-applied.md",
    "consumer-failing": "apply-behind.md",
    "commands-rejected": "not-applied.md",
    "api-failing": "api-failing.md",
    "reads-slow": "reads-slow.md",
    "replicas-behind": "reads-slow.md",
    "database-strained": "database-strained.md",
}

_FULL: Final = 0.9  # of the available processor, connections or storage
_LAST_STORAGE: Final = 0.05  # of the initial storage
_FAILED_SHARE: Final = 0.01  # of all requests
#: Metrics arrive up to this many minutes late, and FILL returns 0 until then: an alarm that
#: requires each of the newest minutes would never fire (Amazon CloudWatch user guide, "Using math
#: expressions with CloudWatch metrics", which advises M out of N).
LATE_MINUTES: Final = 3


class Alarms(Construct):
    """The alarms; each notifies the topic when it starts and when it ends."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        watched: Watched,
        settings: OperationsSettings,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self._watched = watched
        self._settings = settings
        self._topic = topic
        self._delivery()
        self._applying()
        self._answering()
        if watched.database is not None:
            self._database()

    def _delivery(self) -> None:
        freshness = self._watched.stream_metrics("DeliveryToS3.DataFreshness", "Maximum")
        self._alarm(
            "delivery-stalled",
            "Accepted commands don't reach the archive; Firehose drops them after 24 hours.",
            _greatest(freshness),
            above=self._settings.freshness_seconds,
        )
        self._alarm(
            "delivery-throttled",
            "Firehose refuses records: its quota is met. Writes go to the archive one by one.",
            _sum(self._watched.stream_metrics("ThrottledRecords", "Sum")),
            above=0,
            minutes=3,
        )

    def _applying(self) -> None:
        watched = self._watched
        if not watched.standby:
            self._alarm(
                "apply-behind",
                "Archived commands wait for too long to be applied.",
                watched.queue_metric(watched.queue, "ApproximateAgeOfOldestMessage"),
                above=self._settings.apply_lag_seconds,
            )
        visible = "ApproximateNumberOfMessagesVisible"
        dead = [watched.queue_metric(queue, visible) for queue in watched.dead_letters]
        # The sweep runs rarely, so its first failure counts.
        failed = watched.function_metric("sweep", "Errors", "Sum")
        self._alarm(
            "dead-letters",
            "Objects failed too often, or the sweep for missed ones failed.",
            _sum([*dead, failed]),
            above=0,
        )
        # Lambda does not count a failed message of a batch as a function error.
        failures = [
            watched.function_metric("firehose_consumer", "Errors", "Sum"),
            watched.consumer_metric("MessagesFailed", "Sum"),
        ]
        self._alarm(
            "consumer-failing",
            "The consumer fails again and again.",
            _sum(failures),
            above=0,
            minutes=10,
        )
        self._alarm(
            "commands-rejected",
            "Commands that were accepted can't be applied.",
            watched.consumer_metric("CommandsRejected", "Sum"),
            above=0,
        )

    def _answering(self) -> None:
        failed = self._watched.api_metric("5XXError", "Sum")
        asked = self._watched.api_metric("Count", "Sum")
        share = cloudwatch.MathExpression(
            # Few failures are ignored: without many requests, their share means little.
            expression="IF(failed > 5, failed / asked, 0)",
            using_metrics={"failed": failed, "asked": asked},
            label="share of answers that are 5xx",
            period=cdk.Duration.minutes(1),
        )
        self._alarm(
            "api-failing", "Requests are answered 5xx.", share, above=_FAILED_SHARE, minutes=5
        )
        self._alarm(
            "reads-slow",
            "Reads take long.",
            self._watched.function_metric("read", "Duration", "p99"),
            above=self._settings.read_p99_milliseconds,
            minutes=10,
        )

    def _database(self) -> None:
        lags = self._watched.replica_lags()
        if lags:
            self._alarm(
                "replicas-behind",
                "Reads are answered from the past.",
                _greatest(lags),
                above=self._settings.replica_lag_seconds,
                minutes=5,
            )
        self._alarm(
            "database-strained",
            "The primary is near the end of its processor, connections or storage.",
            self._strain(),
            above=_FULL,
            minutes=10,
        )

    def _strain(self) -> cloudwatch.IMetric:
        """The highest utilisation of processor, connections and storage, as a share."""
        watched, database = self._watched, self._watched.database
        assert database is not None  # noqa: S101 - checked by the caller
        metrics = {
            "cpu": watched.primary_metric("CPUUtilization", "Average"),
            "connections": watched.primary_metric("DatabaseConnections", "Maximum"),
        }
        shares = ["cpu / 100", f"connections / {database.max_connections}"]
        if database.storage_gibibytes is not None:
            metrics["free"] = watched.primary_metric("FreeStorageSpace", "Minimum")
            # RDS grows the storage when a tenth is free: less means that it can't grow any more.
            floor = round(database.storage_gibibytes * 2**30 * _LAST_STORAGE)
            shares.append(f"IF(free < {floor}, 1, 0)")
        return cloudwatch.MathExpression(
            expression=f"MAX([{', '.join(shares)}])",
            using_metrics=dict(metrics),
            label="the fullest of processor, connections and storage",
            period=cdk.Duration.minutes(1),
        )

    def _alarm(
        self,
        name: str,
        what: str,
        metric: cloudwatch.IMetric,
        *,
        above: float,
        minutes: int = 1,
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._watched.prefix}-{name}",
            alarm_description=f"{what} Runbook: {self._settings.runbooks_url}/{RUNBOOKS[name]}",
            metric=metric,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            threshold=above,
            datapoints_to_alarm=minutes,
            evaluation_periods=minutes + LATE_MINUTES,
            # A system without traffic has no data.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        tell = actions.SnsAction(self._topic)
        alarm.add_alarm_action(tell)
        alarm.add_ok_action(tell)


def _greatest(metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    return metrics[0] if len(metrics) == 1 else _combined("MAX", metrics)


def _sum(metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    return metrics[0] if len(metrics) == 1 else _combined("SUM", metrics)


def _combined(function: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    named = {f"m{number}": metric for number, metric in enumerate(metrics, 1)}
    return cloudwatch.MathExpression(
        # A missing metric must not hide the others.
        expression=f"{function}([{', '.join(f'FILL({name}, 0)' for name in named)}])",
        using_metrics=named,
        period=cdk.Duration.minutes(1),
    )
