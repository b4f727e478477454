"""A Lambda function of the product, with its own role and log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.bundling import PYTHON_VERSION
from infra.components.findings import accept, accept_objects_below
from infra.settings import FunctionName, PackageName

#: The alias of the newest version.
LIVE: Final = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionNetwork:
    """A function's place in a VPC."""

    vpc: ec2.IVpc
    subnets: ec2.SubnetSelection
    security_groups: Sequence[ec2.ISecurityGroup]


@dataclass(frozen=True, slots=True)
class Target:
    """A function, or its alias, that the API calls."""

    entry: lambda_.IFunction
    #: The function's name, with `:` and the alias if that is called.
    name: str


class ProductFunction(Construct):
    """A function; its role may write its own log, and has the permissions that `allow` adds."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: FunctionName,
        code: PackageName,
        name_prefix: str,
        package: Path,
        memory_mebibytes: int,
        timeout_seconds: int,
        reserved_concurrency: int | None,
        environment: Mapping[str, str],
        log_level: str,
        log_retention: logs.RetentionDays,
        traces: bool = False,
        snap_start: bool = False,
        provisioned_concurrency: int | None = None,
        has_canary: bool = False,
        network: FunctionNetwork | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        function_name = f"{name_prefix}-{name.replace('_', '-')}"
        log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{function_name}",
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self.role = self._add_role(log_group, in_network=network is not None)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=function_name,
            handler=f"lambdas.{code}.handler.lambda_handler",
            runtime=lambda_.Runtime(
                f"python{PYTHON_VERSION}", lambda_.RuntimeFamily.PYTHON, supports_snap_start=True
            ),
            architecture=lambda_.Architecture.ARM_64,
            # The folder's name ends in its hash, so that CDK need not read the files again.
            code=lambda_.Code.from_asset(str(package), asset_hash=package.name),
            role=self.role,
            log_group=log_group,
            memory_size=memory_mebibytes,
            timeout=cdk.Duration.seconds(timeout_seconds),
            reserved_concurrent_executions=reserved_concurrency,
            tracing=lambda_.Tracing.ACTIVE if traces else None,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if snap_start else None,
            vpc=network.vpc if network else None,
            vpc_subnets=network.subnets if network else None,
            security_groups=list(network.security_groups) if network else None,
            environment={"FOREBAY_LOG_LEVEL": log_level, **environment},
        )
        #: The alias of the newest version; None if no setting needs versions.
        self.alias: lambda_.Alias | None = None
        if snap_start or provisioned_concurrency is not None or has_canary:
            self.alias = self._add_alias(provisioned_concurrency)
        #: The target of the API and the queues: the alias, or without one the function. Everything
        #: else takes `function`.
        self.entry: lambda_.IFunction = self.alias or self.function
        #: The same, by its name too, for the API's definition.
        self.target = Target(self.entry, f"{function_name}:{LIVE}" if self.alias else function_name)
        self._accept_findings(traces=traces)

    def allow(
        self,
        *actions: str,
        on: str,
        where: Mapping[str, Mapping[str, str | Sequence[str]]] | None = None,
    ) -> None:
        """Allow the function actions on one resource, or on all objects below a prefix.

        Args:
            actions: IAM's names of the actions.
            on: the resource's ARN.
            where: IAM's conditions, by operator and key.
        """
        if "*" in on:
            accept_objects_below(self.role, on)
        self.role.add_to_policy(
            iam.PolicyStatement(actions=list(actions), resources=[on], conditions=where)
        )

    def allow_statements(self, statements: Sequence[iam.PolicyStatement]) -> None:
        """Add statements to the function's role."""
        for statement in statements:
            self.role.add_to_policy(statement)

    def _add_alias(self, provisioned_concurrency: int | None) -> lambda_.Alias:
        """Publish a version, which snapshots, instances kept ready and canaries need."""
        # CDK warns of the absence of a version although the alias publishes one.
        accept(
            self.function,
            {
                "Annotation::@aws-cdk/aws-lambda:snapStartRequirePublish": "The alias below "
                "publishes a version."
            },
        )
        return lambda_.Alias(
            self,
            "Live",
            alias_name=LIVE,
            version=self.function.current_version,
            provisioned_concurrent_executions=provisioned_concurrency,
        )

    def _accept_findings(self, *, traces: bool) -> None:
        if traces:
            accept(
                self.role,
                {"AwsSolutions-IAM5[Resource::*]": "X-Ray and network interfaces have no names."},
            )
        accept(
            self.function,
            {
                "AwsSolutions-L1": f"The dependencies are locked and tested for Python "
                f"{PYTHON_VERSION}, which AWS supports until the middle of 2029.",
            },
        )

    def _add_role(self, log_group: logs.LogGroup, *, in_network: bool) -> iam.Role:
        """A role that may write the one log; AWS's managed policies allow every log."""
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={
                "Log": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(
                            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                            resources=[log_group.log_group_arn],
                        )
                    ]
                ),
                **({"Network": _allow_interfaces()} if in_network else {}),
            },
        )
        if in_network:
            accept(
                role,
                {"AwsSolutions-IAM5[Resource::*]": "X-Ray and network interfaces have no names."},
            )
        return role


def _allow_interfaces() -> iam.PolicyDocument:
    """The permissions that Lambda needs for the network interfaces of a function in a VPC.

    The interfaces' names are unknown in advance. Lambda uses the permissions on the function's
    behalf; they are denied to the function's own code (Lambda developer guide, "Giving Lambda
    functions access to resources in an Amazon VPC").
    """
    actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ]
    own_code = {
        "ArnLike": {
            "lambda:SourceFunctionArn": [
                f"arn:{cdk.Aws.PARTITION}:lambda:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:function:*"
            ]
        }
    }
    return iam.PolicyDocument(
        statements=[
            iam.PolicyStatement(actions=actions, resources=["*"]),
            iam.PolicyStatement(
                effect=iam.Effect.DENY, actions=actions, resources=["*"], conditions=own_code
            ),
        ]
    )
