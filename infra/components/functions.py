"""A Lambda function of the product, with its own role and log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.bundling import PYTHON_VERSION
from infra.components.findings import accept, accept_objects_below
from infra.settings import FunctionName

METRICS_NAMESPACE: Final = "Forebay"


class ProductFunction(Construct):
    """A function whose role may write its own log, and what `allow` adds."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: FunctionName,
        name_prefix: str,
        package: Path,
        memory_mebibytes: int,
        timeout_seconds: int,
        reserved_concurrency: int | None,
        environment: Mapping[str, str],
        log_level: str,
        log_retention: logs.RetentionDays,
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
        self.role = self._role(log_group)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=function_name,
            handler=f"lambdas.{name}.handler.lambda_handler",
            runtime=lambda_.Runtime(f"python{PYTHON_VERSION}", lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.ARM_64,
            # The folder's name ends in its hash, which spares CDK to read all of it again.
            code=lambda_.Code.from_asset(str(package), asset_hash=package.name),
            role=self.role,
            log_group=log_group,
            memory_size=memory_mebibytes,
            timeout=cdk.Duration.seconds(timeout_seconds),
            reserved_concurrent_executions=reserved_concurrency,
            environment={
                "POWERTOOLS_SERVICE_NAME": name,
                "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
                "POWERTOOLS_LOG_LEVEL": log_level,
                **environment,
            },
        )
        accept(
            self.function,
            {
                "AwsSolutions-L1": f"Python {PYTHON_VERSION} is the version that the dependencies "
                "are locked and tested for; AWS supports it until the middle of 2029.",
            },
        )

    def allow(
        self, *actions: str, on: str, where: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Lets the function do something to one resource, or to all objects below a prefix.

        Args:
            actions: as IAM names them.
            on: the resource's ARN.
            where: IAM's conditions, by operator and key.
        """
        if on.endswith("*"):
            accept_objects_below(self.role, on)
        self.role.add_to_policy(
            iam.PolicyStatement(actions=list(actions), resources=[on], conditions=where)
        )

    def _role(self, log_group: logs.LogGroup) -> iam.Role:
        """A role that may write the one log; AWS's managed policy allows every log."""
        return iam.Role(
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
                )
            },
        )
