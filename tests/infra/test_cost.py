"""The bill that `forebay cost` estimates is that of the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from pydantic import BaseModel

from infra.components.watched import Watched
from infra.components.web_acl import WebAcl
from infra.settings import Settings
from infra.stacks.operations import OperationsStack
from ops.cost import prices
from ops.cost import settings as priced
from ops.cost.estimate import count_alarm_metrics
from tests.infra.templates import Synthesised
from tests.infra.variants import STANDBY, properties, settings_of

#: Environments with every kind of database, and with settings that differ from the defaults.
VARIANTS = [
    pytest.param("dev", {}, id="dev"),
    pytest.param("staging", {}, id="staging"),
    pytest.param("prod", {}, id="prod"),
    pytest.param("prod", {"database.proxy": True, "stream.count": 3}, id="proxy"),
    pytest.param("prod", {"database": STANDBY}, id="standby"),
    pytest.param("prod", {"operations.runner": True}, id="runner"),
    pytest.param("dev", {"idempotency": {}}, id="records"),
    pytest.param("dev", {"attachments": {}}, id="attachments"),
    pytest.param("dev", {"encryption": {"key": "own", "former_keys": []}}, id="key"),
    pytest.param("prod", {"read_cache.node_type": "r7g.large"}, id="read cache"),
    pytest.param(
        "dev",
        {
            "database": {
                "kind": "external",
                "url": "postgresql://a@h/d",
                "replica_url": "postgresql://a@h/d",
                "read_timeout_seconds": 10,
            },
            "functions.write.provisioned_concurrency": 2,
            "functions.write.reserved_concurrency": 10,
        },
        id="external",
    ),
]


def list_differences(mine: BaseModel, theirs: BaseModel, path: str = "") -> list[str]:
    """The settings that the two models read differently from the same file."""
    differences = []
    for name in type(mine).model_fields:
        value, other = getattr(mine, name), getattr(theirs, name)
        if isinstance(value, BaseModel) and isinstance(other, BaseModel):
            differences += list_differences(value, other, f"{path}{name}.")
        elif value != other:
            differences.append(f"{path}{name}: {value!r}, {other!r}")
    return differences


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_the_estimate_reads_each_setting_as_the_synthesis_does(
    name: str, changes: Mapping[str, Any]
) -> None:
    settings = settings_of(name, changes)

    # A setting that its file lacks must have the same default in both.
    values = settings.model_dump(exclude_unset=True)
    assert list_differences(priced.Settings.model_validate(values), settings) == []


def test_every_size_of_the_stage_cache_has_a_price() -> None:
    cache = Settings.load("prod", {}).api.cache

    sizes = type(cache).model_json_schema()["properties"]["size_gigabytes"]["enum"]
    assert set(sizes) == set(prices.STAGE_CACHE)


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_the_alarms_use_as_many_metrics_as_are_billed(
    name: str, changes: Mapping[str, Any], flags: Mapping[str, Any]
) -> None:
    settings = settings_of(name, {**changes, "deployment.canary": "off"})
    watched = Watched.of(settings)
    stack = OperationsStack(cdk.App(context=dict(flags)), settings=settings, watched=watched)

    alarms = properties(Template.from_stack(stack), "AWS::CloudWatch::Alarm")
    assert _count_billed(settings) == _count_metrics(alarms)


def test_the_alarms_of_canaries_are_billed_too(prod: Synthesised) -> None:
    for changes in ({}, {"idempotency": None}):
        values = {**prod.settings.model_dump(exclude_unset=True), **changes}
        canary = Settings.model_validate(values)
        off = Settings.model_validate({**values, "deployment": {"canary": "off"}})
        alarms = prod.properties("service", "AWS::CloudWatch::Alarm")
        without_records = 1 if changes else 0
        expected = _count_metrics(alarms) - without_records
        assert _count_billed(canary) - _count_billed(off) == expected


def _count_metrics(alarms: Sequence[Mapping[str, Any]]) -> int:
    return sum(
        sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1 for alarm in alarms
    )


def _count_billed(settings: Settings) -> int:
    values = settings.model_dump(exclude_unset=True)
    return count_alarm_metrics(priced.Settings.model_validate(values))


def test_the_web_acl_has_as_many_rules_as_are_billed(flags: Mapping[str, Any]) -> None:
    """An ACL costs $5 a month, and each rule or managed group $1."""
    settings = Settings.load("prod", {})
    assert settings.edge is not None
    stack = cdk.Stack(cdk.App(context=dict(flags)), "edge")
    WebAcl(stack, "WebAcl", name="prod", settings=settings.edge, cors_allow_origin="*")

    (acl,) = properties(Template.from_stack(stack), "AWS::WAFv2::WebACL")
    assert 5 + len(acl["Rules"]) == prices.WAF_FIXED.dollars
