"""The dashboard, ordered along the data path: requests, archive, apply, reads."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from forebay import metrics
from infra.components.watched import Watched


class Dashboard(Construct):
    """A row for each step; a cause upstream is shown above its effects."""

    def __init__(self, scope: Construct, construct_id: str, *, watched: Watched) -> None:
        super().__init__(scope, construct_id)
        self._watched = watched
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=watched.prefix)
        for title, widgets in (
            ("1. Requests", self._graph_requests()),
            ("2. Acceptance and delivery of writes", self._graph_delivery()),
            ("3. Application of archived objects", self._graph_apply()),
            ("4. Reads", self._graph_reads()),
            ("5. Database", self._graph_database()),
        ):
            if widgets:
                heading = cloudwatch.TextWidget(markdown=f"## {title}", width=24, height=1)
                dashboard.add_widgets(heading)
                dashboard.add_widgets(*widgets)

    def _graph_requests(self) -> list[cloudwatch.GraphWidget]:
        api = self._watched.api_metric
        return [
            _graph("Requests", api("Count", "Sum")),
            _graph("Refused and failed requests", api("4XXError", "Sum"), api("5XXError", "Sum")),
            _graph("Latency, ms", api("Latency", "p50"), api("Latency", "p99")),
        ]

    def _graph_delivery(self) -> list[cloudwatch.GraphWidget]:
        streams, function = self._watched.stream_metrics, self._watched.function_metric
        own = self._watched.own_metric
        records = _graph(
            "Repeated requests",
            own(metrics.WRITES_REPLAYED, "Sum"),
            own(metrics.KEYS_REUSED, "Sum"),
            own(metrics.RECORDS_UNAVAILABLE, "Sum"),
        )
        uploads = _graph(
            "Uploads of attachments",
            own(metrics.UPLOADS_CLAIMED, "Sum"),
            own(metrics.UPLOADS_REFUSED, "Sum"),
        )
        return [
            _graph(
                "Commands",
                own(metrics.COMMANDS_ACCEPTED, "Sum"),
                own(metrics.COMMANDS_BY_FALLBACK, "Sum"),
                own(metrics.COMMANDS_NOT_ACCEPTED, "Sum"),
            ),
            _graph(
                "Refused requests, and items of batches",
                own(metrics.WRITES_REFUSED, "Sum"),
                own(metrics.ITEMS_REFUSED, "Sum"),
            ),
            *([records] if self._watched.has_records else []),
            *([uploads] if self._watched.has_attachments else []),
            _graph(
                "Write function",
                function("write", "Invocations", "Sum"),
                function("write", "Errors", "Sum"),
                function("write", "Throttles", "Sum"),
            ),
            _graph(
                "Firehose: incoming and refused records",
                *streams("IncomingRecords", "Sum"),
                *streams("ThrottledRecords", "Sum"),
            ),
            _graph(
                "Firehose: age of the oldest record, s",
                *streams("DeliveryToS3.DataFreshness", "Maximum"),
            ),
        ]

    def _graph_apply(self) -> list[cloudwatch.GraphWidget]:
        watched = self._watched
        own = watched.own_metric
        visible = "ApproximateNumberOfMessagesVisible"
        return [
            _graph(
                "Waiting objects and dead letters",
                *(watched.queue_metric(name, visible) for name in (watched.queue,)),
                *(watched.queue_metric(name, visible) for name in watched.dead_letters),
            ),
            _graph(
                "Commands",
                own(metrics.COMMANDS_APPLIED, "Sum"),
                own(metrics.COMMANDS_SUPERSEDED, "Sum"),
                own(metrics.COMMANDS_REJECTED, "Sum"),
                own(metrics.COMMANDS_UNMET, "Sum"),
            ),
            _graph(
                "Lag from acceptance to applied, ms",
                own(metrics.APPLY_LAG_OLDEST, "Maximum"),
                own(metrics.APPLY_LAG_NEWEST, "Maximum"),
            ),
            _graph("Waiting patches", own(metrics.COMMANDS_WAITING, "Maximum")),
            _graph("Age of the oldest waiting patch, ms", own(metrics.OLDEST_WAITING, "Maximum")),
        ]

    def _graph_reads(self) -> list[cloudwatch.GraphWidget]:
        api, function = self._watched.api_metric, self._watched.function_metric
        return [
            _graph("Stage cache", api("CacheHitCount", "Sum"), api("CacheMissCount", "Sum")),
            _graph(
                "Answers of the read function, by kind",
                *(
                    self._watched.own_metric(metrics.READS_ANSWERED, "Sum", value=kind)
                    for kind in metrics.READS_ANSWERED.values
                ),
                self._watched.own_metric(metrics.READS_REFUSED, "Sum"),
            ),
            *self._graph_cache(),
            _graph(
                "Read function, ms",
                function("read", "Duration", "p50"),
                function("read", "Duration", "p99"),
            ),
            _graph(
                "Read function",
                function("read", "ConcurrentExecutions", "Maximum"),
                function("read", "Errors", "Sum"),
                function("read", "Throttles", "Sum"),
            ),
        ]

    def _graph_cache(self) -> list[cloudwatch.GraphWidget]:
        if not self._watched.has_read_cache:
            return []
        own = self._watched.own_metric
        return [
            _graph(
                "Read cache",
                own(metrics.CACHE_HITS, "Sum"),
                own(metrics.CACHE_MISSES, "Sum"),
                own(metrics.CACHE_SKIPPED, "Sum"),
                own(metrics.CACHE_ANSWERS_REFUSED, "Sum"),
            ),
            _graph("Changes not announced", own(metrics.CACHE_CHANGES_MISSED, "Sum")),
        ]

    def _graph_database(self) -> list[cloudwatch.GraphWidget]:
        if self._watched.database is None:
            return []
        primary = self._watched.primary_metric
        widgets = [
            _graph("Primary: processor, %", primary("CPUUtilization", "Average")),
            _graph("Primary: connections", primary("DatabaseConnections", "Maximum")),
        ]
        lags = self._watched.replica_lags()
        return [*widgets, _graph("Replica lag, s", *lags)] if lags else widgets


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    lines: Sequence[cloudwatch.IMetric] = metrics
    return cloudwatch.GraphWidget(title=title, left=list(lines), width=8, height=6)
