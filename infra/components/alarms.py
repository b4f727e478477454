"""The alarms: thirteen at most, each with a runbook.

AWS charges for the metrics that alarms use. Ten metrics are free of charge; each further one costs
ten cents a month.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from forebay import metrics
from infra.components.watched import Watched
from infra.operations import OperationsSettings

#: Alarm -> its page below docs/runbooks/alarms.
RUNBOOKS: Final[Mapping[str, str]] = {
    "delivery-stalled": "delivery-stalled.md",
    "delivery-throttled": "delivery-throttled.md",
    "records-unavailable": "records-unavailable.md",
    "apply-behind": "apply-behind.md",
    "dead-letters": "not-applied.md",
    "consumer-failing": "apply-behind.md",
    "commands-rejected": "not-applied.md",
    "commands-waiting": "commands-waiting.md",
    "api-failing": "api-failing.md",
    "reads-slow": "reads-slow.md",
    "replicas-behind": "reads-slow.md",
    "database-strained": "database-strained.md",
    "read-cache-away": "read-cache-away.md",
}

_FULL: Final = 0.9  # of the available processor, connections or storage
_LAST_STORAGE: Final = 0.05  # of the initial storage
FAILED_SHARE: Final = 0.01  # of all requests
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
        self._add_delivery_alarms()
        self._add_apply_alarms()
        self._add_answer_alarms()
        if watched.database is not None:
            self._add_database_alarms()
        if watched.has_read_cache:
            self._add_cache_alarm()

    def _add_delivery_alarms(self) -> None:
        freshness = self._watched.stream_metrics("DeliveryToS3.DataFreshness", "Maximum")
        self._add_alarm(
            "delivery-stalled",
            "Accepted commands do not reach the archive; Firehose drops them after 24 hours.",
            _take_greatest(freshness),
            threshold=self._settings.freshness_seconds,
        )
        # A stream that fails throttles no request, so the fallback of the write function counts
        # too.
        fallbacks = self._watched.own_metric(metrics.COMMANDS_BY_FALLBACK, "Sum")
        self._add_alarm(
            "delivery-throttled",
            "Firehose refuses records, or fails. Writes are archived one by one.",
            _sum([*self._watched.stream_metrics("ThrottledRecords", "Sum"), fallbacks]),
            threshold=0,
            minutes=3,
        )

        if self._watched.has_records:
            self._add_alarm(
                "records-unavailable",
                "Requests with an Idempotency-Key can't be recorded, and are refused or unsafe.",
                self._watched.own_metric(metrics.RECORDS_UNAVAILABLE, "Sum"),
                threshold=0,
                minutes=3,
            )

    def _add_apply_alarms(self) -> None:
        watched = self._watched
        if not watched.standby:
            self._add_alarm(
                "apply-behind",
                "Archived commands have waited too long to be applied.",
                watched.queue_metric(watched.queue, "ApproximateAgeOfOldestMessage"),
                threshold=self._settings.apply_lag_seconds,
            )
        visible = "ApproximateNumberOfMessagesVisible"
        dead_letters = [watched.queue_metric(queue, visible) for queue in watched.dead_letters]
        # The sweep runs rarely, so its first failure counts.
        sweep_failures = watched.function_metric("sweep", "Errors", "Sum")
        self._add_alarm(
            "dead-letters",
            "Objects failed at every delivery, or the sweep for missed objects failed.",
            _sum([*dead_letters, sweep_failures]),
            threshold=0,
        )
        # Lambda does not count a failed message of a batch as a function error.
        failures = [
            watched.function_metric("firehose_consumer", "Errors", "Sum"),
            watched.own_metric(metrics.MESSAGES_FAILED, "Sum"),
        ]
        self._add_alarm(
            "consumer-failing",
            "The consumer fails repeatedly.",
            _sum(failures),
            threshold=0,
            minutes=10,
        )
        self._add_alarm(
            "commands-rejected",
            "Accepted commands can't be applied.",
            watched.own_metric(metrics.COMMANDS_REJECTED, "Sum"),
            threshold=0,
        )
        self._add_alarm(
            "commands-waiting",
            "Patches have waited for their item for too long.",
            watched.own_metric(metrics.OLDEST_WAITING, "Maximum", minutes=watched.sweep_minutes),
            threshold=self._settings.apply_lag_seconds * 1000,
            period_minutes=watched.sweep_minutes,
        )

    def _add_answer_alarms(self) -> None:
        self._add_alarm(
            "api-failing",
            "Requests fail with 5xx.",
            measure_failed_share(self._watched),
            threshold=FAILED_SHARE,
            minutes=5,
        )
        self._add_alarm(
            "reads-slow",
            "Reads are slow.",
            self._watched.function_metric("read", "Duration", "p99"),
            threshold=self._settings.read_p99_milliseconds,
            minutes=10,
        )

    def _add_database_alarms(self) -> None:
        lags = self._watched.replica_lags()
        if lags:
            self._add_alarm(
                "replicas-behind",
                "Reads return old rows.",
                _take_greatest(lags),
                threshold=self._settings.replica_lag_seconds,
                minutes=5,
            )
        self._add_alarm(
            "database-strained",
            "The primary is close to the limit of its processor, connections or storage.",
            self._combine_strain(),
            threshold=_FULL,
            minutes=10,
        )

    def _add_cache_alarm(self) -> None:
        # A single change that was not announced counts; reads only do if the cache stays away.
        skipped = cloudwatch.MathExpression(
            expression="FILL(missed, 0) + IF(FILL(skipped, 0) > FILL(hits, 0) + 5, 1, 0)",
            using_metrics={
                "missed": self._watched.own_metric(metrics.CACHE_CHANGES_MISSED, "Sum"),
                "skipped": self._watched.own_metric(metrics.CACHE_SKIPPED, "Sum"),
                "hits": self._watched.own_metric(metrics.CACHE_HITS, "Sum"),
            },
            label="changes not announced, or mostly skipped",
            period=cdk.Duration.minutes(1),
        )
        self._add_alarm(
            "read-cache-away",
            "The read cache does not answer; reads burden the replicas, and may be a minute older.",
            skipped,
            threshold=0,
            minutes=5,
        )

    def _combine_strain(self) -> cloudwatch.IMetric:
        """The highest utilisation of processor, connections and storage, as a share."""
        watched, database = self._watched, self._watched.database
        assert database is not None  # noqa: S101 - checked by the caller
        terms = {
            "cpu": watched.primary_metric("CPUUtilization", "Average"),
            "connections": watched.primary_metric("DatabaseConnections", "Maximum"),
        }
        shares = ["cpu / 100", f"connections / {database.max_connections}"]
        if database.storage_gibibytes is not None:
            terms["free"] = watched.primary_metric("FreeStorageSpace", "Minimum")
            # RDS grows the storage when a tenth is free: less means that it can't grow any more.
            least_bytes = round(database.storage_gibibytes * 2**30 * _LAST_STORAGE)
            shares.append(f"IF(free < {least_bytes}, 1, 0)")
        return cloudwatch.MathExpression(
            expression=f"MAX([{', '.join(shares)}])",
            using_metrics=dict(terms),
            label="greatest use of processor, connections or storage",
            period=cdk.Duration.minutes(1),
        )

    def _add_alarm(
        self,
        name: str,
        text: str,
        metric: cloudwatch.IMetric,
        *,
        threshold: float,
        minutes: int = 1,
        period_minutes: int = 1,
    ) -> None:
        """Add an alarm for a threshold that is exceeded in so many periods.

        Args:
            name: a key of `RUNBOOKS`.
            text: the description.
            metric: its period is `period_minutes`.
            threshold: the greatest good value.
            minutes: the number of periods.
            period_minutes: a multiple is needed for a metric without data in most minutes: its
                alarm would end after each value, and start again.
        """
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._watched.prefix}-{name}",
            alarm_description=f"{text} Runbook: {self._settings.runbooks_url}/{RUNBOOKS[name]}",
            metric=metric,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            threshold=threshold,
            datapoints_to_alarm=minutes,
            evaluation_periods=minutes + math.ceil(LATE_MINUTES / period_minutes),
            # A system without traffic has no data.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        action = actions.SnsAction(self._topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)


def measure_failed_share(watched: Watched) -> cloudwatch.IMetric:
    """The share of requests that are answered with 5xx, by a function or by the gateway."""
    return cloudwatch.MathExpression(
        # Few failures are ignored: without many requests, their share means little.
        expression="IF(failed > 5, failed / asked, 0)",
        using_metrics={
            "failed": watched.api_metric("5XXError", "Sum"),
            "asked": watched.api_metric("Count", "Sum"),
        },
        label="share of 5xx answers",
        period=cdk.Duration.minutes(1),
    )


def _take_greatest(metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    return metrics[0] if len(metrics) == 1 else _combine("MAX", metrics)


def _sum(metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    return metrics[0] if len(metrics) == 1 else _combine("SUM", metrics)


def _combine(function: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.IMetric:
    by_name = {f"m{number}": metric for number, metric in enumerate(metrics, 1)}
    return cloudwatch.MathExpression(
        # A missing metric must not hide the others.
        expression=f"{function}([{', '.join(f'FILL({name}, 0)' for name in by_name)}])",
        using_metrics=by_name,
        period=cdk.Duration.minutes(1),
    )
