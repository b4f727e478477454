"""Each limit of the status: no message up to it, a sentence with the next step above it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ops.errors import UsageError
from ops.status import probes
from ops.status.asking import ask_all
from ops.status.limits import LONGEST_INTERVAL_SECONDS, Limits, find_needs

WELL: dict[str, Any] = {
    "unanswered": {},
    "dead_letters": {"total": 0, "queue": "q"},
    "replay_dead_letters": {"total": 0, "queue": "q"},
    "import_dead_letters": None,
    "upload_dead_letters": None,
    "uploads": {"objects": 2, "oldest_seconds": 60.0},
    "rejections": {"open": 0, "last_hour": 3},
    "waiting": {"commands": 2, "oldest_seconds": 900.0, "resource": "r", "key": "k"},
    "unapplied": {"objects": 2, "oldest_seconds": 60.0},
    "replica": {"bytes_behind": 9, "seconds_behind": 10.0, "streaming": True},
    "streams": [{"name": "s", "oldest_undelivered_seconds": 180.0, "interval_seconds": 60.0}],
    "outdated": {"cities": 0},
    "runs": [{"run": "r", "via_queue": False, "silent_seconds": 120.0}],
}


def test_up_to_the_limits_nothing_needs_attention() -> None:
    assert find_needs(WELL, Limits()) == []
    unknown = dict.fromkeys(WELL, None) | {"unanswered": {}}
    assert find_needs(unknown, Limits()) == []


@pytest.mark.parametrize(
    ("change", "limit", "said"),
    [
        (
            {"unapplied": {"objects": 87, "oldest_seconds": 102.0}},
            Limits(unapplied_seconds=102),
            "87 objects are not applied, the oldest for 1 min 42 s: `forebay sweep --dry-run`",
        ),
        (
            {"uploads": {"objects": 12, "oldest_seconds": 102.0}},
            Limits(unapplied_seconds=102),
            "12 uploads are not claimed, the oldest for 1 min 42 s: `forebay sweep --dry-run`",
        ),
        (
            {"replica": {"bytes_behind": 9, "seconds_behind": 47.0, "streaming": True}},
            Limits(replica_lag_seconds=47),
            "the replica is 47 s behind",
        ),
        (
            {"replica": {"bytes_behind": 9, "seconds_behind": 47.0, "streaming": False}},
            Limits(replica_lag_seconds=47),
            "the replica is 47 s behind and receives no WAL",
        ),
        (
            {"outdated": {"cities": 3, "countries": 0}},
            Limits(outdated_rows=3),
            "3 outdated rows (3 of cities): `forebay replay` writes them again",
        ),
        (
            {"replay_dead_letters": {"total": 1, "queue": "u"}},
            Limits(dead_letters=1),
            "1 dead letters of replays: `forebay dlq list --dead-letter-queue-url u`",
        ),
        (
            {"import_dead_letters": {"total": 1, "queue": "u"}},
            Limits(dead_letters=1),
            "1 dead letters of imports: `forebay dlq list --dead-letter-queue-url u`",
        ),
        (
            {"dead_letters": {"total": 1, "queue": "u"}},
            Limits(dead_letters=1),
            "1 dead letters: `forebay dlq list`",
        ),
        (
            {"rejections": {"open": 4290, "last_hour": 0}},
            Limits(open_rejections=4290),
            "4,290 open rejections: `forebay rejections list`",
        ),
        (
            {
                "waiting": {
                    "commands": 3,
                    "oldest_seconds": 7200.0,
                    "resource": "cities",
                    "key": "a b",
                }
            },
            Limits(waiting_seconds=7200),
            (
                "3 patches wait for an item, the oldest for 2 h 00 min: "
                "`forebay history cities 'a b'`, docs/runbooks/alarms/commands-waiting.md"
            ),
        ),
        (
            {"runs": [{"run": "r", "via_queue": False, "silent_seconds": 240.0}]},
            Limits(silent_run_seconds=240),
            (
                "the replay r is running and has made no progress for 4 min 00 s: "
                "`forebay replay --resume r`"
            ),
        ),
        (
            {
                "streams": [
                    {"name": "s", "oldest_undelivered_seconds": 181.0, "interval_seconds": 60.0}
                ]
            },
            Limits(undelivered_seconds=181),
            (
                "the stream s has not delivered for 3 min 01 s: "
                "docs/runbooks/alarms/delivery-stalled.md"
            ),
        ),
    ],
)
def test_above_a_limit_the_message_names_it_and_the_limit_can_be_raised(
    change: dict[str, Any], limit: Limits, said: str
) -> None:
    assert find_needs(WELL | change, Limits()) == [said]
    assert find_needs(WELL | change, limit) == []


class CloudWatch:
    """A CloudWatch client with one value for every metric, which records the requested metrics."""

    def __init__(self, value: float) -> None:
        self.asked: list[tuple[str, str]] = []
        self._value = value

    def get_metric_data(self, *, MetricDataQueries: Any, **_: Any) -> Any:  # noqa: N803
        metric = MetricDataQueries[0]["MetricStat"]["Metric"]
        self.asked.append((metric["MetricName"], metric["Dimensions"][0]["Value"]))
        return {"MetricDataResults": [{"Values": [self._value]}]}


class Firehose:
    """A Firehose client that describes every stream alike."""

    class meta:  # noqa: N801
        endpoint_url = "https://firehose.eu-west-1.amazonaws.com"

    def __init__(self, destination: dict[str, Any]) -> None:
        self._destination = destination

    def describe_delivery_stream(self, *, DeliveryStreamName: str) -> Any:  # noqa: N803
        assert DeliveryStreamName == "s"
        return {
            "DeliveryStreamDescription": {
                "Destinations": [{"ExtendedS3DestinationDescription": self._destination}]
            }
        }


@pytest.mark.parametrize(
    ("destination", "interval"),
    [({"BufferingHints": {"IntervalInSeconds": 60}}, 60.0), ({}, LONGEST_INTERVAL_SECONDS)],
)
def test_on_aws_a_streams_age_is_cloudwatchs_and_its_interval_its_own(
    destination: dict[str, Any], interval: float
) -> None:
    cloudwatch = CloudWatch(300.0)

    stream = probes.stream(Firehose(destination), cloudwatch, "s")

    assert stream == probes.Stream("s", 300.0, interval)
    assert cloudwatch.asked == [("DeliveryToS3.DataFreshness", "s")]


def test_a_silent_server_is_named_and_the_others_answer() -> None:
    for_ever = threading.Event()
    answers = ask_all({"silent": for_ever.wait, "prompt": lambda: 1}, seconds=0.2)
    for_ever.set()

    assert answers["prompt"].value == 1
    assert answers["silent"].reason == "no answer within 0.2 s"


def test_wrong_usage_and_defects_are_reported() -> None:
    def misuse() -> None:
        raise UsageError("a")

    def divide() -> float:
        return 1 / 0

    with pytest.raises(UsageError):
        ask_all({"any": misuse}, seconds=5)
    with pytest.raises(ZeroDivisionError):
        ask_all({"any": divide}, seconds=5)
