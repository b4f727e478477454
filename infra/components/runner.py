"""The runner: a project of CodeBuild that runs commands of `forebay` in the database's network.

Operators need a machine that reaches the database, the archive and the queues, with the code of the
deployed release, for hours if they rebuild. A build is that machine: it exists while its command
runs, and is free of charge at rest apart from the network's endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.bundling import PYTHON_VERSION
from infra.components.findings import accept, accept_objects_below

#: CodeBuild's longest time-out, for rebuilds.
_TIMEOUT_MINUTES: Final = 480
#: 8 processors and 16 GiB, billed by the minute.
_SIZE: Final = "BUILD_GENERAL1_LARGE"
#: The image contains Python 3.13, so the build downloads none (aws/aws-codebuild-docker-images,
#: al/aarch64/standard/3.0).
_IMAGE: Final = codebuild.LinuxArmBuildImage.AMAZON_LINUX_2023_STANDARD_3_0
_INTERFACE_ACTIONS: Final = (
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerPlace:
    """The network of the runner, and the addresses that its commands use."""

    vpc_id: str
    subnet_ids: Sequence[str]
    security_group_ids: Sequence[str]
    #: The resources of `rds-db:connect` in the database of that network. The policies of operators
    #: name the database that the functions use, which may still be another one.
    logins: Sequence[str]
    #: Environment variables of the commands, by name.
    variables: Mapping[str, str]


def name_log_group(name_prefix: str) -> str:
    """The name of the runner's log group, which the endpoint's policy contains too."""
    return f"/forebay/{name_prefix}/runner"


class Runner(Construct):
    """The project, its role and its log, and the policy of its users."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        package: Path,
        place: RunnerPlace,
        policies: Sequence[str],
        log_retention: logs.RetentionDays,
    ) -> None:
        """Create the runner.

        Args:
            scope: the stack.
            construct_id: of the construct.
            name_prefix: of the environment; the project is `<prefix>-runner`.
            package: the folder with the code and its dependencies.
            place: the network and the addresses.
            policies: names of the managed policies with the permissions of the commands.
            log_retention: how long the outputs of commands are kept.
        """
        super().__init__(scope, construct_id)
        self._group = logs.LogGroup(
            self,
            "Log",
            log_group_name=name_log_group(name_prefix),
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        asset = s3_assets.Asset(self, "Code", path=str(package), asset_hash=package.name)
        role = self._add_role(asset, place, policies)
        self.project = self._add_project(f"{name_prefix}-runner", asset, role, place)
        # The role's permissions must exist before CodeBuild checks the network.
        self.project.node.add_dependency(role)
        accept(
            self.project,
            {"AwsSolutions-CB4": "There are no artifacts that a key could encrypt."},
        )
        self._add_user_policy(f"{name_prefix}-remote")

    def _add_project(
        self, name: str, asset: s3_assets.Asset, role: iam.Role, place: RunnerPlace
    ) -> codebuild.CfnProject:
        return codebuild.CfnProject(
            self,
            "Project",
            name=name,
            description="Commands of forebay in the network of the database",
            service_role=role.role_arn,
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            source=codebuild.CfnProject.SourceProperty(
                type="S3",
                location=f"{asset.s3_bucket_name}/{asset.s3_object_key}",
                build_spec=_write_build_spec(),
            ),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="ARM_CONTAINER",
                compute_type=_SIZE,
                image=_IMAGE.image_id,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(name=key, value=value)
                    for key, value in {"PYTHONUNBUFFERED": "1", **place.variables}.items()
                ],
            ),
            vpc_config=codebuild.CfnProject.VpcConfigProperty(
                vpc_id=place.vpc_id,
                subnets=list(place.subnet_ids),
                security_group_ids=list(place.security_group_ids),
            ),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=self._group.log_group_name
                )
            ),
            timeout_in_minutes=_TIMEOUT_MINUTES,
        )

    def _add_role(
        self, asset: s3_assets.Asset, place: RunnerPlace, policies: Sequence[str]
    ) -> iam.Role:
        stack = cdk.Stack.of(self)
        interfaces = stack.format_arn(service="ec2", resource="network-interface/*")
        statements = [
            _allow("logs:CreateLogStream", "logs:PutLogEvents", on=self._group.log_group_arn),
            _allow(
                "s3:GetObject",
                "s3:GetObjectVersion",
                on=f"arn:{cdk.Aws.PARTITION}:s3:::{asset.s3_bucket_name}/{asset.s3_object_key}",
            ),
            # The interfaces' names are unknown in advance (AWS CodeBuild user guide, "Allow
            # CodeBuild access to AWS services required to create a VPC network interface").
            _allow(*_INTERFACE_ACTIONS, on="*"),
            iam.PolicyStatement(
                actions=["rds-db:connect"], resources=list(dict.fromkeys(place.logins))
            ),
            iam.PolicyStatement(
                actions=["ec2:CreateNetworkInterfacePermission"],
                resources=[interfaces],
                conditions={
                    "StringEquals": {"ec2:AuthorizedService": "codebuild.amazonaws.com"},
                    "ArnEquals": {
                        "ec2:Subnet": [
                            stack.format_arn(
                                service="ec2", resource="subnet", resource_name=subnet_id
                            )
                            for subnet_id in place.subnet_ids
                        ]
                    },
                },
            ),
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"),
            inline_policies={"Build": iam.PolicyDocument(statements=statements)},
            managed_policies=[
                iam.ManagedPolicy.from_managed_policy_name(self, policy, policy)
                for policy in policies
            ],
        )
        accept(role, {"AwsSolutions-IAM5[Resource::*]": "Network interfaces have no names."})
        accept_objects_below(role, interfaces)
        return role

    def _add_user_policy(self, policy_name: str) -> None:
        """Add the policy of `forebay remote`, which an administrator attaches."""
        project_arn = cdk.Stack.of(self).format_arn(
            service="codebuild", resource="project", resource_name=self.project.ref
        )
        iam.ManagedPolicy(
            self,
            "Remote",
            managed_policy_name=policy_name,
            description="forebay remote",
            statements=[
                _allow(
                    "codebuild:BatchGetBuilds",
                    "codebuild:StartBuild",
                    "codebuild:StopBuild",
                    on=project_arn,
                ),
                _allow("logs:GetLogEvents", on=self._group.log_group_arn),
            ],
        )


def _write_build_spec() -> str:
    """The build: one command, with its output in the log."""
    return json.dumps(
        {
            "version": "0.2",
            "phases": {
                "install": {"runtime-versions": {"python": PYTHON_VERSION}},
                "build": {"commands": ["python -m ops.remote.entry"]},
            },
        }
    )


def _allow(*actions: str, on: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=[on])
