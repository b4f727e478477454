"""Alarms, their runbook pages, and the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Annotations, Match, Template
from cdk_nag import AwsSolutionsChecks
from pydantic import ValidationError

from forebay.log import Log
from forebay.metrics import COMMANDS_REJECTED, METRICS, NAMESPACE, RECORDS_METRICS, build_dimensions
from infra.app import build_app
from infra.components.alarms import LATE_MINUTES, RUNBOOKS
from infra.components.watched import Watched, WatchedDatabase
from infra.settings import Settings
from infra.stacks.operations import OperationsStack
from lambdas.consumer.bootstrap import SERVICE
from tests.infra.templates import ROOT, readable
from tests.infra.variants import STANDBY, properties, settings_of

RDS = WatchedDatabase(
    kind="rds", primary="db", replicas=["db-1", "db-2"], max_connections=200, storage_gibibytes=100
)
AURORA = WatchedDatabase(kind="aurora", primary="cluster", replicas=["db-2"], max_connections=200)
MAILS = {
    "stream.count": 2,
    "operations.emails": ["someone@example.com"],
    "operations.monthly_budget_dollars": 50,
    "idempotency": {},
}


def synthesised(settings: Settings, flags: Mapping[str, Any], database: Any) -> Template:
    app = cdk.App(context=dict(flags))
    watched = replace(Watched.of(settings), database=database, has_read_cache=True)
    stack = OperationsStack(app, settings=settings, watched=watched)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return Template.from_stack(stack)


@pytest.fixture(scope="module", params=[RDS, AURORA, None], ids=["rds", "aurora", "external"])
def operations(request: pytest.FixtureRequest, flags: Mapping[str, Any]) -> Template:
    return synthesised(settings_of("dev", MAILS), flags, request.param)


def alarms(template: Template) -> Mapping[str, Mapping[str, Any]]:
    return {
        alarm["AlarmName"].removeprefix("forebay-dev-"): alarm
        for alarm in properties(template, "AWS::CloudWatch::Alarm")
    }


def test_the_number_of_alarms_is_limited(operations: Template) -> None:
    names = set(alarms(operations))

    assert len(names) <= 13
    assert names >= set(RUNBOOKS) - {"replicas-behind", "database-strained"}


def test_every_alarm_leads_to_a_page_that_is_there(operations: Template) -> None:
    for name, alarm in alarms(operations).items():
        page = alarm["AlarmDescription"].partition("Runbook: ")[2]
        assert page == f"docs/runbooks/alarms/{RUNBOOKS[name]}"
        assert (ROOT / page).is_file(), page


def test_every_alarm_notifies_of_its_begin_and_its_end(operations: Template) -> None:
    (topic,) = operations.find_resources("AWS::SNS::Topic")
    (mails,) = properties(operations, "AWS::SNS::Subscription")

    for alarm in alarms(operations).values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]
        assert alarm["TreatMissingData"] == "notBreaching"
    assert (mails["Protocol"], mails["Endpoint"]) == ("email", "someone@example.com")


def test_alarms_may_publish_to_their_topic(operations: Template) -> None:
    """A topic's own policy replaces SNS's default, so it must allow every publisher.

    See "Example cases for Amazon SNS access control" in the Amazon SNS developer guide.
    """
    (topic,) = operations.find_resources("AWS::SNS::Topic")
    (policy,) = properties(operations, "AWS::SNS::TopicPolicy")
    (allowed,) = (
        statement
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    )

    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert (allowed["Action"], allowed["Resource"]) == ("sns:Publish", {"Ref": topic})
    source = readable(allowed["Condition"]["ArnLike"]["aws:SourceArn"])
    assert source.endswith(":<AWS::AccountId>:alarm:forebay-dev-*")


def test_an_alarm_waits_for_no_minute_that_has_not_come_in_yet(operations: Template) -> None:
    """FILL gives late minutes good values; an alarm without spare minutes would never fire.

    See FILL in the Amazon CloudWatch user guide, "Using math expressions with CloudWatch metrics".
    """
    for name, alarm in alarms(operations).items():
        periods = alarm["EvaluationPeriods"] - alarm["DatapointsToAlarm"]
        minutes = periods * alarm.get("Period", 60) / 60
        assert minutes >= LATE_MINUTES >= 2, name


def test_a_patch_that_waits_rings_from_one_sweep_to_the_next(flags: Mapping[str, Any]) -> None:
    """A sweep gives one value; minutes without a value would end the alarm until the next sweep."""
    for minutes, periods in ((1, 4), (15, 2), (1440, 2)):
        settings = settings_of("prod", {"sweep.every_minutes": minutes})
        template = synthesised(settings, flags, RDS)
        (alarm,) = (
            alarm
            for alarm in properties(template, "AWS::CloudWatch::Alarm")
            if alarm["AlarmName"] == "forebay-prod-commands-waiting"
        )

        threshold = settings.operations.apply_lag_seconds * 1000
        assert (alarm["MetricName"], alarm["Threshold"]) == ("OldestWaiting", threshold)
        assert alarm["Period"] == minutes * 60
        assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (1, periods)
        # CloudWatch's limits: a day, or a week if the period is an hour or more.
        assert alarm["Period"] * periods <= (604_800 if minutes >= 60 else 86_400)


def test_data_that_does_not_reach_the_archive_is_noticed_long_before_it_is_dropped(
    operations: Template,
) -> None:
    """Firehose keeps data for 24 hours. A single stalled stream is enough for the alarm."""
    alarm = alarms(operations)["delivery-stalled"]
    text = json.dumps(alarm)

    assert alarm["Threshold"] == 900
    assert "DeliveryToS3.DataFreshness" in text
    assert '"forebay-dev-commands"' in text
    assert '"forebay-dev-commands-2"' in text
    assert "MAX(" in text


def test_writes_around_a_stream_that_fails_ring_as_throttled_records_do(
    operations: Template,
) -> None:
    """A stream that does not answer reports no throttled records."""
    alarm = alarms(operations)["delivery-throttled"]
    watched = [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]
    (expression,) = (query["Expression"] for query in alarm["Metrics"] if "Expression" in query)

    assert [metric["MetricName"] for metric in watched] == [
        "ThrottledRecords",
        "ThrottledRecords",
        "CommandsByFallback",
    ]
    assert expression == "SUM([FILL(m1, 0), FILL(m2, 0), FILL(m3, 0)])"
    assert (alarm["Threshold"], alarm["DatapointsToAlarm"]) == (0, 3)


def test_a_standby_has_no_alarms_for_work_that_waits_for_its_promotion(
    flags: Mapping[str, Any],
) -> None:
    """A standby's queue has no consumer, so its oldest message reaches the queue's retention."""
    settings = settings_of("prod", {"database": STANDBY})
    alarm_properties = properties(synthesised(settings, flags, AURORA), "AWS::CloudWatch::Alarm")
    names = {alarm["AlarmName"].removeprefix("forebay-prod-") for alarm in alarm_properties}

    assert settings.standby
    assert "apply-behind" not in names
    assert "replicas-behind" in names


def test_a_failed_message_rings_though_the_function_succeeds(operations: Template) -> None:
    text = json.dumps(alarms(operations)["consumer-failing"])

    assert "MessagesFailed" in text
    assert "Errors" in text


def test_every_queue_of_dead_letters_rings_and_so_does_a_sweep_that_fails(
    operations: Template,
) -> None:
    text = json.dumps(alarms(operations)["dead-letters"])

    for queue in ("archive-events", "replay", "import-events"):
        assert f"forebay-dev-{queue}-dead" in text
    assert "forebay-dev-sweep" in text


def test_alarms_look_at_the_metrics_that_the_consumer_writes(
    operations: Template, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log.of(SERVICE, {"FOREBAY_ENV": "dev"})
    log.event("object_applied", metrics={COMMANDS_REJECTED: 1})
    emitted = json.loads(capsys.readouterr().out)
    (text,) = emitted["_aws"]["CloudWatchMetrics"]
    alarm = alarms(operations)["commands-rejected"]

    assert (alarm["Namespace"], alarm["MetricName"]) == (text["Namespace"], "CommandsRejected")
    (names,) = text["Dimensions"]
    assert {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]} == {
        name: emitted[name] for name in names
    }


def test_the_database_rings_for_processor_connections_and_storage(
    flags: Mapping[str, Any],
) -> None:
    strained = alarms(synthesised(settings_of("dev", {}), flags, RDS))["database-strained"]
    text = json.dumps(strained)

    assert {"CPUUtilization", "DatabaseConnections", "FreeStorageSpace"} <= set(
        re.findall(r'"MetricName": "(\w+)"', text)
    )
    assert "connections / 200" in text
    assert f"free < {5 * 2**30}" in text  # of 100 GiB


def test_an_idle_replica_does_not_ring() -> None:
    """RDS reports a lag of up to 300 s while there are no writes."""
    with pytest.raises(ValidationError, match="replica_lag_seconds"):
        settings_of("dev", {"operations.replica_lag_seconds": 300})


def test_a_budget_without_a_recipient_is_refused() -> None:
    with pytest.raises(ValidationError, match="emails"):
        settings_of("dev", {"operations.monthly_budget_dollars": 50})


def test_a_budget_warns_before_it_is_used_up(operations: Template) -> None:
    (budget,) = properties(operations, "AWS::Budgets::Budget")
    thresholds = {
        one["Notification"]["NotificationType"]: one["Notification"]["Threshold"]
        for one in budget["NotificationsWithSubscribers"]
    }

    assert budget["Budget"]["BudgetLimit"]["Amount"] == 50
    assert thresholds == {"ACTUAL": 80, "FORECASTED": 100}


def test_the_dashboard_follows_the_data(operations: Template) -> None:
    (dashboard,) = properties(operations, "AWS::CloudWatch::Dashboard")
    body = json.dumps(dashboard["DashboardBody"])
    headings = re.findall(r"## (\d)\. ", body)

    assert headings == sorted(headings)
    assert headings[:4] == ["1", "2", "3", "4"]


#: The name and the dimensions of a metric.
Identity = tuple[str, frozenset[tuple[str, str]]]


def _declared() -> Iterator[Identity]:
    for metric in METRICS:
        common = build_dimensions(metric.service, "dev")
        for value in metric.values or ("",):
            split = {metric.split_by: value} if metric.split_by else {}
            yield metric.name, frozenset({**common, **split}.items())


def _alarmed(value: Any) -> Iterator[Identity]:
    """Find the functions' own metrics anywhere in a part of a template."""
    if isinstance(value, Mapping):
        if value.get("Namespace") == NAMESPACE:
            pairs = ((pair["Name"], pair["Value"]) for pair in value["Dimensions"])
            yield value["MetricName"], frozenset(pairs)
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _alarmed(child)


def _drawn(operations: Template) -> Iterator[Identity]:
    (dashboard,) = properties(operations, "AWS::CloudWatch::Dashboard")
    for widget in json.loads(readable(dashboard["DashboardBody"]))["widgets"]:
        for metric in widget["properties"].get("metrics", ()):
            texts = [part for part in metric if isinstance(part, str)]
            if texts[:1] == [NAMESPACE]:  # an expression has no texts
                yield texts[1], frozenset(zip(texts[2::2], texts[3::2], strict=True))


def test_alarms_and_dashboard_name_only_declared_metrics_of_the_functions(
    operations: Template,
) -> None:
    """CloudWatch has no data of an undeclared metric, so an alarm on it would never fire."""
    declared = set(_declared())
    alarmed = set(_alarmed(dict(alarms(operations))))
    drawn = set(_drawn(operations))

    assert alarmed <= declared
    assert drawn <= declared
    assert {name for name, _ in alarmed} == {
        "CacheChangesMissed",
        "CacheHits",
        "CacheSkipped",
        "CommandsByFallback",
        "CommandsRejected",
        "MessagesFailed",
        "OldestWaiting",
        "RecordsUnavailable",
    }
    assert {name for name, _ in drawn} >= {"CommandsAccepted", "ReadsAnswered", "CommandsApplied"}
    assert {name for name, _ in drawn} >= {metric.name for metric in RECORDS_METRICS}


def test_without_idempotency_records_nothing_watches_them(flags: Mapping[str, Any]) -> None:
    template = synthesised(settings_of("dev", {}), flags, None)

    names = {metric.name for metric in RECORDS_METRICS}
    assert "records-unavailable" not in alarms(template)
    assert names.isdisjoint(name for name, _ in _drawn(template))


def test_alarms_watch_the_resources_of_the_other_stacks(
    flags: Mapping[str, Any], package: Path
) -> None:
    """Metrics refer to resources by name; an alarm on a wrong name would never fire."""
    app = cdk.App(context=dict(flags))
    settings = Settings.load("prod", {})
    build_app(settings, app=app, packages=lambda _: package)
    names = {
        str(value)
        for child in app.node.children
        if isinstance(child, cdk.Stack)
        for resource in Template.from_stack(child).to_json()["Resources"].values()
        for key, value in resource.get("Properties", {}).items()
        if key in {"DeliveryStreamName", "QueueName", "FunctionName", "Name"}
        or key in {"DBInstanceIdentifier", "DBClusterIdentifier"}
    }
    watched = Watched.of(settings)
    database = watched.database
    functions = {f"{watched.prefix}-{name}" for name in ("read", "write", "firehose-consumer")}

    assert database is not None
    assert database.replicas
    assert names >= {
        *(*watched.streams, watched.queue, *watched.dead_letters, watched.prefix),
        *(database.primary, *database.replicas),
        *functions,
    }


@pytest.mark.parametrize(
    ("name", "changes", "is_warned"),
    [
        ("prod", {}, True),
        ("prod", {"operations.emails": ["someone@example.com"]}, False),
        ("dev", {}, False),
        ("dev", {"database.deletion_protection": True}, True),
    ],
)
def test_a_protected_environment_whose_alarms_send_no_mail_gets_a_warning(
    flags: Mapping[str, Any], name: str, changes: Mapping[str, Any], *, is_warned: bool
) -> None:
    settings = settings_of(name, changes)
    app = cdk.App(context=dict(flags))
    stack = OperationsStack(app, settings=settings, watched=Watched.of(settings))

    warnings, text = Annotations.from_stack(stack), "operations.emails is empty"
    if is_warned:
        warnings.has_warning("*", Match.string_like_regexp(text))
    else:
        warnings.has_no_warning("*", Match.string_like_regexp(text))
