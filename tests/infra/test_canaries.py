"""Calls move to new code in steps, after the migration, and back if it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aws_cdk import aws_codedeploy as codedeploy
from pydantic import ValidationError

from forebay.errors import SettingsError
from infra.changes.templates import find_references
from infra.components.canaries import RUNBOOK
from infra.deployment import CANARY_FUNCTIONS, DeploymentSettings
from infra.settings import Settings
from tests.infra.definitions import get_definition, read_methods
from tests.infra.templates import LOCAL_CONTEXT, ROOT, Synthesised, list_needed, readable
from tests.infra.variants import STANDBY, settings_of

_CANARY: Final = {"deployment.canary": "Canary10Percent5Minutes"}
_SHORTEST_CANARY_MINUTES: Final = 5


@pytest.fixture(scope="module")
def canary(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The development environment, without snapshots of functions, with canaries."""
    return Synthesised.of(settings_of("dev", _CANARY), flags, package)


@pytest.fixture(params=["canary", "prod"])
def moving(request: pytest.FixtureRequest) -> Synthesised:
    """Environments with canaries, without and with snapshots."""
    environment: Synthesised = request.getfixturevalue(request.param)
    return environment


def list_moving(synthesised: Synthesised) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Logical id and resource of each alias that CodeDeploy moves, by the function's name."""
    names = {
        resource["Properties"]["FunctionName"].removeprefix(f"{synthesised.settings.prefix}-"): key
        for key, resource in synthesised.service["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function" and "FunctionName" in resource["Properties"]
    }
    functions = {logical_id: name for name, logical_id in names.items()}
    return {
        functions[resource["Properties"]["FunctionName"]["Ref"]].replace("-", "_"): (key, resource)
        for key, resource in synthesised.service["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Alias" and "UpdatePolicy" in resource
    }


def get_resource(synthesised: Synthesised, reference: Mapping[str, str]) -> Mapping[str, Any]:
    resource: Mapping[str, Any] = synthesised.service["Resources"][reference["Ref"]]
    return resource


def get_group(synthesised: Synthesised, alias: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties of the deployment group that moves an alias."""
    policy = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    group: Mapping[str, Any] = get_resource(synthesised, policy["DeploymentGroupName"])
    assert group["Properties"]["ApplicationName"] == policy["ApplicationName"]
    properties: Mapping[str, Any] = group["Properties"]
    return properties


def list_alarms(synthesised: Synthesised, group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    configuration = group["AlarmConfiguration"]
    assert configuration["Enabled"]
    return [
        get_resource(synthesised, alarm["Name"])["Properties"] for alarm in configuration["Alarms"]
    ]


def list_stats(alarm: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The metrics of an alarm, by their terms in its expression."""
    return {
        query["Id"]: query["MetricStat"]["Metric"]
        for query in alarm["Metrics"]
        if "MetricStat" in query
    }


def get_dimensions(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}


def test_the_calls_of_the_api_and_of_the_consumer_move_in_steps(moving: Synthesised) -> None:
    aliases = list_moving(moving)

    assert set(aliases) == set(CANARY_FUNCTIONS)
    for _, alias in aliases.values():
        assert alias["Properties"]["Name"] == "live"
        group = get_group(moving, alias)
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
        assert group["DeploymentStyle"]["DeploymentOption"] == "WITH_TRAFFIC_CONTROL"


def test_no_calls_move_before_the_schema_is_migrated(moving: Synthesised) -> None:
    (migration,) = (
        name
        for name, resource in moving.service["Resources"].items()
        if resource["Type"] == "Custom::Trigger"
    )

    for name, _ in list_moving(moving).values():
        assert migration in list_needed(moving.service, name)


def test_all_calls_of_the_consumer_move_before_clients_can_send_it_something_new(
    moving: Synthesised,
) -> None:
    """The functions that send commands are updated after the consumer's canary has ended."""
    consumer, _ = list_moving(moving)["firehose_consumer"]
    senders = [
        name
        for name, resource in moving.service["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
        and resource["Properties"]["Handler"]
        in {f"lambdas.{sender}.handler.lambda_handler" for sender in ("write", "imports")}
    ]

    assert len(senders) == 2
    for sender in senders:
        assert consumer in list_needed(moving.service, sender)


def test_the_template_with_canaries_has_no_circle(moving: Synthesised) -> None:
    """CloudFormation refuses a circle of an alias, its group and an alarm on the alias."""
    for name in moving.service["Resources"]:
        assert name not in list_needed(moving.service, name), name


def test_clients_and_queues_call_the_aliases(moving: Synthesised) -> None:
    aliases = {name for name, _ in list_moving(moving).values()}
    consumer, _ = list_moving(moving)["firehose_consumer"]
    uris = {
        readable(method["Integration"]["Uri"])
        for (name, _), method in read_methods(get_definition(moving.service)).items()
        if name not in {"OPTIONS", "ANY"}
    }
    granted = [
        readable(permission["FunctionName"])
        for permission in moving.properties("service", "AWS::Lambda::Permission")
    ]
    mappings = moving.resources("service", "AWS::Lambda::EventSourceMapping")

    for alias in aliases - {consumer}:
        assert any(alias in function for function in granted), alias
    for function in ("write", "read", "status"):
        calls = [uri for uri in uris if f":function:{moving.settings.prefix}-{function}" in uri]
        assert calls, function
        assert all(call.endswith(":live/invocations") for call in calls), function
    fed = [consumer in find_references(mapping) for mapping in mappings]
    # The third queue is that of imports: their calls move at once.
    assert sorted(fed) == [False, True, True]


def test_each_group_stops_and_moves_back_on_alarms_of_its_new_version(moving: Synthesised) -> None:
    prefix = moving.settings.prefix

    for name, (_, alias) in list_moving(moving).items():
        group = get_group(moving, alias)
        assert {"DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_FAILURE"} <= set(
            group["AutoRollbackConfiguration"]["Events"]
        )
        alarm = list_alarms(moving, group)[0]
        stats = list_stats(alarm)
        function = f"{prefix}-{name.replace('_', '-')}"
        assert stats["failed"]["MetricName"] == "Errors"
        assert get_dimensions(stats["failed"]) == {
            "FunctionName": function,
            "Resource": f"{function}:live",
            "ExecutedVersion": alias["Properties"]["FunctionVersion"],
        }
        assert alarm["AlarmDescription"].endswith(RUNBOOK)


def test_failures_that_lambda_does_not_count_stop_a_deployment_too(moving: Synthesised) -> None:
    """A function answers 5xx itself, or a gateway answers for it; a consumer fails by message."""
    alarms = {
        name: list_alarms(moving, get_group(moving, alias))
        for name, (_, alias) in list_moving(moving).items()
    }
    metrics = {
        name: {metric["MetricName"] for alarm in found for metric in list_stats(alarm).values()}
        for name, found in alarms.items()
    }

    for name in ("write", "read", "status"):
        assert "5XXError" in metrics[name]
    assert "CommandsNotAccepted" in metrics["write"]
    assert ("RecordsUnavailable" in metrics["write"]) == (moving.settings.idempotency is not None)
    assert {"MessagesFailed", "CommandsRejected"} <= metrics["firehose_consumer"]


def test_an_alarm_can_begin_before_the_shortest_canary_ends(moving: Synthesised) -> None:
    """A minute without data, as of an idle function, does not count as a failure."""
    for _, alias in list_moving(moving).values():
        for alarm in list_alarms(moving, get_group(moving, alias)):
            assert 1 < alarm["DatapointsToAlarm"] < alarm["EvaluationPeriods"]
            assert alarm["EvaluationPeriods"] <= _SHORTEST_CANARY_MINUTES
            assert alarm["TreatMissingData"] == "notBreaching"


def test_codedeploy_may_move_these_aliases_only(moving: Synthesised) -> None:
    group = get_group(moving, list_moving(moving)["read"][1])
    role = moving.service["Resources"][group["ServiceRoleArn"]["Fn::GetAtt"][0]]["Properties"]
    assert "ManagedPolicyArns" not in role
    (policy,) = role["Policies"]
    allowed = {
        (action, readable(resource))
        for statement in policy["PolicyDocument"]["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
        for resource in (
            statement["Resource"]
            if isinstance(statement["Resource"], list)
            else [statement["Resource"]]
        )
    }

    assert {action for action, resource in allowed if resource == "*"} == {
        "cloudwatch:DescribeAlarms"
    }
    movable = {resource for action, resource in allowed if action == "lambda:UpdateAlias"}
    assert len(movable) == 2 * len(CANARY_FUNCTIONS)
    assert {resource.removesuffix(":*").rpartition(":")[2] for resource in movable} == {
        moving.function(name)["FunctionName"] for name in CANARY_FUNCTIONS
    }


def test_without_canaries_calls_move_at_once(dev: Synthesised) -> None:
    assert "CodeDeploy" not in json.dumps(dev.service)
    assert dev.resources("service", "AWS::Lambda::Alias") == []
    assert dev.resources("service", "AWS::CloudWatch::Alarm") == []


def test_a_standby_has_canaries_too(flags: Mapping[str, Any], package: Path) -> None:
    """It has no migration, and its reads are those of clients."""
    changes = {"database": STANDBY, "edge": None, **_CANARY}
    standby = Synthesised.of(settings_of("prod", changes), flags, package)

    assert set(list_moving(standby)) == set(CANARY_FUNCTIONS)


def test_every_name_is_one_of_codedeploy_s() -> None:
    names = DeploymentSettings.model_json_schema()["properties"]["canary"]["enum"]
    config = codedeploy.LambdaDeploymentConfig
    known = {
        value.deployment_config_name.removeprefix("CodeDeployDefault.Lambda")
        for name in dir(config)
        if name.startswith(("CANARY_", "LINEAR_")) and (value := getattr(config, name)) is not None
    }

    assert set(names) - {"off"} == known


def test_instances_kept_ready_exclude_canaries() -> None:
    with pytest.raises(ValidationError, match=r"functions\.read\.provisioned_concurrency excludes"):
        settings_of("dev", {**_CANARY, "functions.read.provisioned_concurrency": 2})


def test_the_emulator_has_no_canaries() -> None:
    context = {**LOCAL_CONTEXT}
    local = Settings.load("local", context)
    values = local.model_dump(exclude_unset=True)

    with pytest.raises(ValidationError, match=r"deployment\.canary must be 'off'"):
        Settings.model_validate({**values, "deployment": {"canary": "Canary10Percent5Minutes"}})


def test_a_fix_can_be_deployed_at_once() -> None:
    """CodeDeploy starts no deployment while an alarm is on."""
    assert Settings.load("prod", {}).deployment.has_canaries
    assert not Settings.load("prod", {"canary": "off"}).deployment.has_canaries
    with pytest.raises(SettingsError, match=r"deployment\.canary"):
        Settings.load("prod", {"canary": "fast"})


def test_the_page_of_the_alarms_exists() -> None:
    assert (ROOT / "docs/runbooks/alarms" / RUNBOOK).is_file()
