"""The runner: its network, its permissions, and the code that it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from pydantic import ValidationError

from infra.app import build_app
from infra.bundling import CERTIFICATES, TOOL, list_sources
from infra.components.watched import Watched
from infra.stacks.operations import OperationsStack
from ops.context import _OUTPUTS
from tests.fixtures.api_calls import find_actions
from tests.infra.templates import Synthesised, readable
from tests.infra.test_operators import as_list
from tests.infra.variants import properties, settings_of

Templates = Mapping[str, Template]


@pytest.fixture(scope="module")
def stacks(flags: Mapping[str, Any], package: Path) -> Mapping[str, cdk.Stack]:
    """The stacks of production with a runner, by their roles."""
    app = cdk.App(context=dict(flags))
    build_app(settings_of("prod", {"operations.runner": True}), app=app, packages=lambda _: package)
    return {
        stack.stack_name.rpartition("-")[2]: stack
        for stack in app.node.children
        if isinstance(stack, cdk.Stack)
    }


@pytest.fixture(scope="module")
def templates(stacks: Mapping[str, cdk.Stack]) -> Templates:
    """Their templates."""
    return {role: Template.from_stack(stacks[role]) for role in ("database", "operations")}


@pytest.fixture(scope="module")
def project(templates: Templates) -> Mapping[str, Any]:
    """The properties of the project."""
    (only,) = properties(templates["operations"], "AWS::CodeBuild::Project")
    return only


def list_permissions(template: Template, **names: str) -> set[tuple[str, str]]:
    """The pairs of action and resource of the managed policy of a name."""
    (policy,) = (
        policy
        for policy in properties(template, "AWS::IAM::ManagedPolicy")
        if policy["ManagedPolicyName"] == names["policy"]
    )
    return {
        (action, readable(resource))
        for statement in policy["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def list_services(templates: Templates) -> set[str]:
    """The services that the network reaches."""
    return {
        readable(endpoint["ServiceName"]).rpartition(".")[2]
        for endpoint in properties(templates["database"], "AWS::EC2::VPCEndpoint")
    }


def test_there_is_no_runner_unless_the_settings_request_one(
    flags: Mapping[str, Any], dev: Synthesised
) -> None:
    settings = settings_of("dev", {})
    watched = Watched.of(settings)
    operations = OperationsStack(cdk.App(context=dict(flags)), settings=settings, watched=watched)

    Template.from_stack(operations).resource_count_is("AWS::CodeBuild::Project", 0)
    endpoints = dev.properties("database", "AWS::EC2::VPCEndpoint")
    names = {readable(endpoint["ServiceName"]).rpartition(".")[2] for endpoint in endpoints}
    assert names == {"s3", "sqs"}


def test_the_runner_is_in_the_network_of_the_database(
    templates: Templates, project: Mapping[str, Any]
) -> None:
    place = project["VpcConfig"]

    assert len(place["Subnets"]) == 3
    assert all("NetworkSubnet" in readable(subnet) for subnet in place["Subnets"])
    (group,) = place["SecurityGroupIds"]
    assert "Clients" in readable(group)
    templates["database"].resource_count_is("AWS::EC2::NatGateway", 0)


def test_every_service_that_a_command_calls_there_has_an_endpoint(templates: Templates) -> None:
    """All but CloudFormation: the project has the addresses as variables. The log needs one too."""
    called = {
        action.partition(":")[0]
        for command, actions in find_actions().items()
        if command != "remote"
        for action in actions
    }
    by_action = {"cloudwatch": "monitoring", "firehose": "kinesis-firehose"}
    needed = {by_action.get(service, service) for service in called - {"cloudformation"}}

    assert list_services(templates) == needed | {"logs"}


def test_every_call_of_a_command_passes_the_endpoints(templates: Templates) -> None:
    passing = {
        action
        for endpoint in properties(templates["database"], "AWS::EC2::VPCEndpoint")
        for statement in endpoint["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
    }
    calls = {
        action
        for command, actions in find_actions().items()
        if command != "remote"
        for action in actions
    }

    assert calls - passing == {"cloudformation:DescribeStacks"}
    assert {"logs:CreateLogStream", "logs:PutLogEvents"} <= passing


def test_commands_have_every_address_without_cloudformation(project: Mapping[str, Any]) -> None:
    variables = {
        variable["Name"]: readable(variable["Value"])
        for variable in project["Environment"]["EnvironmentVariables"]
    }

    known = {setting.variable for setting in _OUTPUTS} - {
        *("FOREBAY_READ_CACHE", "FOREBAY_ATTACHMENTS_BUCKET"),
        *("FOREBAY_UPLOAD_QUEUE_URL", "FOREBAY_UPLOAD_DEAD_LETTER_QUEUE_URL"),
    }
    assert known == set(variables) - {"PYTHONUNBUFFERED"}
    assert all(variables.values())
    assert "sslrootcert" not in variables["FOREBAY_DATABASE_URL"]


def test_the_role_has_the_policies_of_operators_and_of_a_build(
    templates: Templates,
) -> None:
    operations = templates["operations"]
    (role,) = (
        role
        for role in properties(operations, "AWS::IAM::Role")
        if "codebuild" in json.dumps(role["AssumeRolePolicyDocument"])
    )

    attached = {readable(arn).rpartition("/")[2] for arn in role["ManagedPolicyArns"]}
    assert attached == {"forebay-prod-operator", "forebay-prod-rebuild"}
    (own,) = role["Policies"]
    granted = {
        (action, readable(resource))
        for statement in own["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    services = {action.partition(":")[0] for action, _ in granted}
    assert services == {"logs", "s3", "ec2", "rds-db"}
    # Only interfaces have no names in advance.
    assert all(action.startswith("ec2:") for action, resource in granted if "*" in resource)


def test_the_runner_logs_in_to_a_second_database_before_the_functions_use_it(
    flags: Mapping[str, Any], package: Path
) -> None:
    """Only the stacks of the database and of the runner are deployed before it is filled."""
    app = cdk.App(context=dict(flags))
    settings = settings_of("prod", {"operations.runner": True, "database.number": 2})
    build_app(settings, app=app, packages=lambda _: package)
    operations = next(
        Template.from_stack(stack)
        for stack in app.node.children
        if isinstance(stack, cdk.Stack) and stack.stack_name == "forebay-prod-operations"
    )
    (own,) = (
        policy
        for role in properties(operations, "AWS::IAM::Role")
        for policy in role.get("Policies", ())
    )
    logins = [
        json.dumps(resource)
        for statement in own["PolicyDocument"]["Statement"]
        if statement["Action"] == "rds-db:connect"
        for resource in as_list(statement["Resource"])
    ]
    assert all(any(user in login for login in logins) for user in ("_owner", "_write", "_read"))
    assert all("forebay-prod-database-2" in login for login in logins)
    # Nothing that the stack reads is in the service stack, which still has the first database.
    assert '"forebay-prod-service"' not in json.dumps(operations.to_json())


def test_the_policies_exist_before_the_role(stacks: Mapping[str, cdk.Stack]) -> None:
    assert stacks["service"] in stacks["operations"].dependencies


def test_remote_needs_its_own_policy_and_nothing_else(templates: Templates) -> None:
    allowed = list_permissions(templates["operations"], policy="forebay-prod-remote")

    # Names such as `get` lead the search to actions of other commands too.
    own = {name for name in find_actions()["remote"] if name.startswith(("codebuild:", "logs:"))}
    assert {action for action, _ in allowed} == own
    assert all(resource != "*" for _, resource in allowed)


def test_the_build_runs_a_module_of_the_package(project: Mapping[str, Any]) -> None:
    phases = json.loads(project["Source"]["BuildSpec"])["phases"]

    (command,) = phases["build"]["commands"]
    assert command == "python -m ops.remote.entry"
    assert find_spec("ops.remote.entry") is not None
    assert phases["install"]["runtime-versions"] == {"python": "3.13"}


def test_the_package_contains_the_tool_and_all_that_it_reads() -> None:
    sources = set(list_sources(TOOL))

    assert {
        "ops/remote/entry.py",
        "ops/cli.py",
        "forebay/aws/queue.py",
        "lambdas/migrate/app.py",
        "migrations/chains.py",
        "alembic.ini",
        CERTIFICATES,
    } <= sources
    assert any(name.startswith("infra/environments/") for name in sources)
    assert not any(name.startswith(("local/", "tests/", "infra/stacks/")) for name in sources)


def test_a_runner_needs_a_network_of_the_environment() -> None:
    external = {
        "kind": "external",
        "url": "postgresql://a@h/d",
        "replica_url": "postgresql://a@h/d",
        "read_timeout_seconds": 10,
    }

    with pytest.raises(ValidationError, match=r"operations\.runner requires a database"):
        settings_of("dev", {"database": external, "operations.runner": True})
