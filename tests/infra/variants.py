"""Environments without a file of their own, and single parts of the stacks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk.assertions import Template

import resources
from forebay.routes import Route, routes
from infra.components.api import RoutesApi
from infra.components.functions import Target
from infra.settings import ENVIRONMENTS, Settings
from tests.infra.definitions import get_definition, read_methods

ACCOUNT = "123456789012"
POOL_ARN = f"arn:aws:cognito-idp:eu-central-1:{ACCOUNT}:userpool/eu-central-1_Example"
#: The database of a region that follows production's.
STANDBY: Mapping[str, Any] = {
    "kind": "aurora",
    "instance_class": "r8g.large",
    "replicas": 1,
    "read_timeout_seconds": 10,
    "max_connections": 1000,
    "backup_days": 7,
    "deletion_protection": True,
    "network": {"cidr": "10.40.0.0/20"},
    "in_global": {"identifier": "forebay", "role": "secondary"},
}
JUDGE_ARN = f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:judge"


def settings_of(name: str, changes: Mapping[str, Any], *, named: str | None = None) -> Settings:
    """The named environment with another name, or changed keys such as `api.endpoint`."""
    values: dict[str, Any] = {"name": named or name}
    values |= tomllib.loads((ENVIRONMENTS / f"{name}.toml").read_text(encoding="utf-8"))
    for path, value in changes.items():
        *tables, key = path.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
        table[key] = value
    return Settings.model_validate(values)


def two_resources() -> Sequence[Route]:
    """The routes of two resources, and the routes about the API."""
    return routes(
        {name: spec for name, spec in resources.load().items() if name in {"cities", "countries"}}
    )


def api_template(
    changes: Mapping[str, Any],
    flags: Mapping[str, Any],
    *,
    known_by: Sequence[str] = (),
    served: Sequence[Route] | None = None,
) -> Template:
    """The REST API alone, for the development environment with changed keys.

    Args:
        changes: the changed keys of the environment.
        flags: the context of the CLI.
        known_by: the secrets by which it knows its edge.
        served: the routes; by default those of two resources.
    """
    settings = settings_of("dev", changes)
    stack = cdk.Stack(
        cdk.App(context=dict(flags)),
        "api",
        env=cdk.Environment(account=ACCOUNT, region=settings.region),
    )
    function = lambda_.Function.from_function_attributes(
        stack, "Function", function_arn=JUDGE_ARN.replace("judge", "any"), same_environment=True
    )
    RoutesApi(
        stack,
        "RestApi",
        name="forebay-dev",
        routes=served or two_resources(),
        functions=dict.fromkeys(("read", "status", "write", "about"), Target(function, "any")),
        settings=settings.api,
        read_timeout_seconds=10,
        log_retention=logs.RetentionDays.ONE_DAY,
        user_pool_arn=POOL_ARN if settings.api.authorization.kind == "cognito" else None,
        known_by=known_by,
    )
    return Template.from_stack(stack)


def properties(template: Template, resource_type: str) -> list[Mapping[str, Any]]:
    """The properties of all resources of a type."""
    resources = template.find_resources(resource_type)
    return [resource.get("Properties", {}) for resource in resources.values()]


def methods(template: Template) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The methods of an API, as API Gateway makes them, by HTTP method and path."""
    return read_methods(get_definition(template.to_json()))
