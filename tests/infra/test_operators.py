"""The permissions of operators are those that the commands of `forebay` need.

The calls of each command are derived from its sources (tests/fixtures/api_calls.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.components.database_servers import OWNER, READER, WRITER
from ops.context import _OUTPUTS, DATABASE, REPLICA
from tests.fixtures.api_calls import SERVICES, find_actions, find_clients
from tests.infra.templates import Synthesised, readable

#: The functions that are in the network, and so need its endpoints.
IN_NETWORK = ("read", "status", "about", "firehose_consumer", "migrate", "sweep")
#: Actions of runbooks that no command has (lost-bucket-notification).
RUNBOOKS = {"s3:GetBucketNotification"}
#: Services without an endpoint in the network, unless it has a runner (test_runner.py).
OUTSIDE = ("cloudformation", "cloudwatch", "codebuild", "firehose", "logs")


@pytest.fixture(scope="module")
def actions() -> Mapping[str, frozenset[str]]:
    """The IAM actions of each command."""
    return find_actions()


def list_statements(prod: Synthesised, name: str) -> Iterator[tuple[str, str]]:
    """The pairs of action and readable resource that an operators' policy allows."""
    (policy,) = (
        policy
        for policy in prod.properties("service", "AWS::IAM::ManagedPolicy")
        if policy["ManagedPolicyName"] == f"forebay-prod-{name}"
    )
    for statement in policy["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                yield action, readable(resource)


def list_endpoint_actions(prod: Synthesised) -> set[str]:
    """The actions that the endpoints of the network allow."""
    return {
        action
        for endpoint in prod.properties("database", "AWS::EC2::VPCEndpoint")
        for statement in endpoint["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_calls_of_commands_are_found(actions: Mapping[str, frozenset[str]]) -> None:
    assert find_clients() == set(SERVICES)
    assert actions["cost"] == set()
    assert not any(action.startswith("sqs:") for action in actions["history"])
    assert actions["archive"] == {"cloudformation:DescribeStacks", "s3:ListBucket"}
    assert actions["dlq redrive"] >= {
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
    }
    assert actions["status"] >= {"cloudwatch:GetMetricData", "firehose:DescribeDeliveryStream"}
    assert "s3:PutObject" in actions["rejections retry"]


def test_an_operator_may_run_every_command(
    actions: Mapping[str, frozenset[str]], prod: Synthesised
) -> None:
    allowed = {action for action, _ in list_statements(prod, "operator")}

    # `remote` has a policy of its own (test_runner.py).
    refused = {command: calls - allowed for command, calls in actions.items() if calls - allowed}
    assert set(refused) == {"remote"}


def test_an_operator_may_do_nothing_that_no_command_does(
    actions: Mapping[str, frozenset[str]], prod: Synthesised
) -> None:
    allowed = {action for action, _ in list_statements(prod, "operator")}

    others = {"rds-db:connect", *RUNBOOKS}
    assert allowed - frozenset().union(*actions.values()) == others


def test_an_operator_drains_dead_letters_only_and_creates_objects_only_where_commands_do(
    prod: Synthesised,
) -> None:
    statements = set(list_statements(prod, "operator"))

    drained = {resource for action, resource in statements if action == "sqs:DeleteMessage"}
    assert len(drained) == 3
    assert all("Dead" in resource for resource in drained)
    created = {
        resource.rpartition("archive-")[2].partition("/")[2]
        for action, resource in statements
        if action == "s3:PutObject"
    }
    assert created == {"commands/*", "decisions/*", "audit/*"}
    assert {action for action, resource in statements if resource == "*"} == {
        "cloudwatch:GetMetricData"
    }


def test_only_a_rebuild_logs_in_as_the_owner(prod: Synthesised) -> None:
    logins = {
        name: {
            resource.rpartition("/")[2]
            for action, resource in list_statements(prod, name)
            if action == "rds-db:connect"
        }
        for name in ("operator", "rebuild")
    }

    assert logins == {"operator": {WRITER, READER}, "rebuild": {OWNER}}
    assert {action for action, _ in list_statements(prod, "rebuild")} == {"rds-db:connect"}


def test_every_call_of_a_command_passes_the_endpoints_of_the_network(
    actions: Mapping[str, frozenset[str]], prod: Synthesised
) -> None:
    """Without `sqs:DeleteMessage`, `dlq redrive` sends copies and keeps the dead letters."""
    passing = list_endpoint_actions(prod)

    refused = {
        command: {action for action in calls - passing if action.partition(":")[0] not in OUTSIDE}
        for command, calls in actions.items()
    }
    assert {command: calls for command, calls in refused.items() if calls} == {}


def test_the_endpoints_let_nothing_pass_that_neither_command_nor_function_calls(
    actions: Mapping[str, frozenset[str]], prod: Synthesised
) -> None:
    calls = {*RUNBOOKS, *frozenset().union(*actions.values())}
    for name in IN_NETWORK:
        calls |= {action for action, _ in prod.granted(name)}  # type: ignore[arg-type]

    assert list_endpoint_actions(prod) <= calls


@pytest.mark.parametrize("setting", [DATABASE, REPLICA])
def test_the_addresses_for_operators_have_no_path_of_a_function(
    prod: Synthesised, setting: Any
) -> None:
    url = readable(prod.database["Outputs"][_OUTPUTS[setting]]["Value"])

    assert url.endswith("/forebay?sslmode=verify-full")
