"""The common parts of RDS instances and Aurora clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.components.findings import accept
from infra.components.network import Network
from infra.database import ManagedDatabase, RdsDatabase

MONITORING_SECONDS: Final = 60


def build_parameters(settings: ManagedDatabase) -> Mapping[str, str]:
    """The server's parameters that differ from RDS's own defaults.

    Each connection sets its statement and lock time-outs (forebay/db/connect.py), because they
    differ between a migration, an apply and a read.
    """
    values = {
        "rds.force_ssl": "1",
        "max_connections": str(settings.max_connections),
        # A function that was frozen in a transaction must not hold its locks forever.
        "idle_in_transaction_session_timeout": "60000",
        "log_min_duration_statement": str(settings.log_statements_milliseconds),
        # Keep written data out of the logs: log the parameters' places, not their values.
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_lock_waits": "1",
    }
    if isinstance(settings, RdsDatabase):
        values["max_standby_streaming_delay"] = str(settings.max_standby_delay_seconds * 1000)
    return values


def parse_major(version: str) -> str:
    """The version in the family name of parameter groups: `18` of `18.1`."""
    return version.partition(".")[0]


def build_subnet_group(scope: Construct, network: Network) -> rds.CfnDBSubnetGroup:
    """The network's subnets as RDS's subnet group."""
    return rds.CfnDBSubnetGroup(
        scope,
        "Subnets",
        db_subnet_group_description="Isolated subnets",
        subnet_ids=[subnet.subnet_id for subnet in network.all_subnets],
    )


def build_monitoring_role(scope: Construct) -> iam.Role:
    """The role with which RDS writes the figures of enhanced monitoring to CloudWatch."""
    role = iam.Role(
        scope,
        "Monitoring",
        assumed_by=iam.ServicePrincipal("monitoring.rds.amazonaws.com"),
        managed_policies=[
            iam.ManagedPolicy.from_aws_managed_policy_name(
                "service-role/AmazonRDSEnhancedMonitoringRole"
            )
        ],
    )
    accept(
        role,
        {
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AmazonRDSEnhancedMonitoringRole]": "RDS requires this policy, which grants access to "
            "the log group of enhanced monitoring only.",
        },
    )
    return role


def age_role(role: iam.Role, *others: cdk.CfnResource) -> None:
    """Create the role before other parts that the servers need, so that it is not new to RDS.

    A service may not know a role yet that is a few seconds old.
    """
    for other in others:
        other.node.add_dependency(role)


def survives(resource: cdk.CfnResource) -> None:
    """Keep the data if the resource is removed or replaced: a final snapshot is made first."""
    if isinstance(resource, rds.CfnGlobalCluster):
        resource.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
    else:
        resource.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)


def forget_logs(server: cdk.CfnResource, name: str, retention: logs.RetentionDays) -> None:
    """Create the log group with a retention; RDS would create it without, and keep it forever."""
    group = logs.LogGroup(
        server,
        "Log",
        log_group_name=f"/aws/rds/{name}/postgresql",
        retention=retention,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    server.node.add_dependency(group)


def accept_findings(server: Construct, settings: ManagedDatabase, *, multi_az: bool) -> None:
    """Accept cdk-nag's findings for every server, and those that the environment's file implies."""
    reasons = {
        "AwsSolutions-RDS11": "The subnets are isolated, and only one security group has access; "
        "another port would not add protection.",
        "AwsSolutions-SMG4": "There is no password: all users log in with IAM tokens.",
    }
    if not settings.deletion_protection:
        reasons["AwsSolutions-RDS10"] = (
            "The settings of the environment disable it; the environment is temporary."
        )
    if not multi_az:
        reasons["AwsSolutions-RDS3"] = (
            "The settings of the environment disable it, or it is a replica: others replace it."
        )
    accept(server, reasons)
