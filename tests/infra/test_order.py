"""The order of a first deployment, in which services do not know yet what is seconds old."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from infra.components.encryption import Keys
from infra.stacks.data import DataStack
from infra.stacks.database import DatabaseStack
from tests.infra.templates import list_needed
from tests.infra.variants import settings_of


def list_names(template: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, item in template["Resources"].items() if item["Type"] == kind]


@pytest.fixture(scope="module")
def data(flags: Mapping[str, Any]) -> Mapping[str, Any]:
    app = cdk.App(context=dict(flags))
    stack = DataStack(app, settings=settings_of("prod", {"stream.count": 3}))
    return Template.from_stack(stack).to_json()


def synthesise_database(
    flags: Mapping[str, Any], base: str, changes: Mapping[str, Any]
) -> Mapping[str, Any]:
    settings = settings_of(base, changes)
    stack = DatabaseStack(
        cdk.App(context=dict(flags)),
        settings=settings,
        database=settings.database,  # type: ignore[arg-type] # not an external one
        archive_arn="arn:aws:s3:::archive",
        keys=Keys(),
    )
    return Template.from_stack(stack).to_json()


def test_firehose_s_role_is_older_than_the_slowest_resources(data: Mapping[str, Any]) -> None:
    """Firehose fails to assume a role that is a few seconds old, and CloudFormation with it."""
    (role,) = (
        name
        for name in list_names(data, "AWS::IAM::Role")
        if "firehose.amazonaws.com" in json.dumps(data["Resources"][name])
    )
    streams = list_names(data, "AWS::KinesisFirehose::DeliveryStream")
    slow = {
        name
        for kind in ("AWS::S3::Bucket", "AWS::SQS::Queue")
        for name in list_names(data, kind)
        if role in list_needed(data, name)
    }

    assert len(streams) == 3
    for stream in streams:
        between = slow & list_needed(data, stream)
        kinds = {data["Resources"][name]["Type"] for name in between}
        assert kinds == {"AWS::S3::Bucket", "AWS::SQS::Queue"}
        # Its permissions are part of the role: a policy of its own could come later.
        assert data["Resources"][role]["Properties"]["Policies"]


def test_replicas_are_made_one_after_the_other_of_a_primary_with_backups(
    flags: Mapping[str, Any],
) -> None:
    template = synthesise_database(flags, "prod", {"database.replicas": 3})
    servers = {
        name: template["Resources"][name]["Properties"]
        for name in list_names(template, "AWS::RDS::DBInstance")
    }
    (primary,) = (name for name in servers if "DBName" in servers[name])
    replicas = sorted(set(servers) - {primary})

    # RDS makes replicas only of servers with automatic backups.
    assert int(servers[primary]["BackupRetentionPeriod"]) >= 1
    assert len(replicas) == 3
    for replica in replicas:
        assert primary in list_needed(template, replica)
    for earlier, later in pairwise(replicas):
        assert earlier in list_needed(template, later)


@pytest.mark.parametrize("base", ["prod", "dev"])
def test_the_role_of_monitoring_is_older_than_other_parts_of_the_servers(
    flags: Mapping[str, Any], base: str
) -> None:
    template = synthesise_database(flags, base, {"database.replicas": 1})
    (role,) = (
        name
        for name in list_names(template, "AWS::IAM::Role")
        if "monitoring.rds.amazonaws.com" in json.dumps(template["Resources"][name])
    )
    (subnets,) = list_names(template, "AWS::RDS::DBSubnetGroup")

    assert role in list_needed(template, subnets)
    for server in list_names(template, "AWS::RDS::DBInstance"):
        assert {role, subnets} <= list_needed(template, server)


def test_the_first_instance_of_a_cluster_becomes_its_writer(flags: Mapping[str, Any]) -> None:
    template = synthesise_database(flags, "dev", {"database.replicas": 2})
    first, *others = sorted(
        list_names(template, "AWS::RDS::DBInstance"),
        key=lambda name: template["Resources"][name]["Properties"]["PromotionTier"],
    )

    assert len(others) == 2
    for other in others:
        assert first in list_needed(template, other)


def test_a_proxy_gets_servers_that_exist(flags: Mapping[str, Any]) -> None:
    changes = {
        "database.serverless": {"min_units": 1, "max_units": 2},
        "database.proxy": True,
    }
    template = synthesise_database(flags, "dev", changes)
    (group,) = list_names(template, "AWS::RDS::DBProxyTargetGroup")

    assert set(list_names(template, "AWS::RDS::DBInstance")) <= list_needed(template, group)
