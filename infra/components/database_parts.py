"""What RDS instances and an Aurora cluster have in common."""

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


def parameters(settings: ManagedDatabase) -> Mapping[str, str]:
    """The server's parameters that differ from RDS's own defaults.

    Statement and lock timeouts are each connection's own (forebay/db/connect.py), because a
    migration, an apply and a read differ in them.
    """
    chosen = {
        "rds.force_ssl": "1",
        "max_connections": str(settings.max_connections),
        # A function that was frozen in a transaction must not hold its locks for ever.
        "idle_in_transaction_session_timeout": "60000",
        "log_min_duration_statement": str(settings.log_statements_milliseconds),
        # Written data is in the logs of nobody: places of parameters, not their values.
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_lock_waits": "1",
    }
    if isinstance(settings, RdsDatabase):
        chosen["max_standby_streaming_delay"] = str(settings.max_standby_delay_seconds * 1000)
    return chosen


def major(version: str) -> str:
    """The version by which parameter groups name their family: `18` of `18.1`."""
    return version.partition(".")[0]


def subnet_group(scope: Construct, network: Network) -> rds.CfnDBSubnetGroup:
    """The network's subnets, as RDS wants to be told them."""
    return rds.CfnDBSubnetGroup(
        scope,
        "Subnets",
        db_subnet_group_description="Subnets that lead nowhere",
        subnet_ids=network.subnet_ids(),
    )


def monitoring_role(scope: Construct) -> iam.Role:
    """The role by which RDS writes enhanced monitoring's figures to CloudWatch."""
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
            "AmazonRDSEnhancedMonitoringRole]": "RDS asks for this very policy; it reaches the log "
            "group of enhanced monitoring and nothing else.",
        },
    )
    return role


def may_go(resource: cdk.CfnResource) -> None:
    """Settings may take it away again, although functions know its address.

    CloudFormation refuses to delete what another stack imports, and the functions' stack, which
    would stop importing it, is deployed after this one. So they read the address when they are
    deployed, and meanwhile use another server.
    """
    resource.apply_cross_stack_reference_strength(cdk.ReferenceStrength.WEAK)


def survives(resource: cdk.CfnResource) -> None:
    """Whatever happens to the stack, the data is there: a final snapshot is made first."""
    if isinstance(resource, rds.CfnGlobalCluster):
        resource.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
    else:
        resource.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)


def forget_logs(server: cdk.CfnResource, name: str, retention: logs.RetentionDays) -> None:
    """RDS would make the log group itself, and keep it for ever."""
    group = logs.LogGroup(
        server,
        "Log",
        log_group_name=f"/aws/rds/{name}/postgresql",
        retention=retention,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    server.node.add_dependency(group)


def accept_findings(server: Construct, settings: ManagedDatabase, *, multi_az: bool) -> None:
    """Accepts what cdk-nag finds at any server, and what the environment's file decides."""
    reasons = {
        "AwsSolutions-RDS11": "Subnets lead nowhere and one security group is let in; another port "
        "than PostgreSQL's would hide nothing.",
        "AwsSolutions-SMG4": "There is no password: everyone logs in by IAM token.",
    }
    if not settings.deletion_protection:
        reasons["AwsSolutions-RDS10"] = "The environment says so; it is one that comes and goes."
    if not multi_az:
        reasons["AwsSolutions-RDS3"] = (
            "The environment says so, or it is a replica: others take its place."
        )
    accept(server, reasons)
