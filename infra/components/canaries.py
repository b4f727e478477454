"""Canaries: calls move to a new version in steps, and back if the version fails.

The alarms are in the stack of the functions, because CloudFormation needs them while it updates the
functions; the stack of the operators' alarms is deployed later. They notify no one: a deployment
that fails is the notification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from constructs import Construct

from forebay import metrics
from infra.components.alarms import FAILED_SHARE, LATE_MINUTES, measure_failed_share
from infra.components.findings import accept, format_for_cdk_nag
from infra.components.functions import ProductFunction
from infra.components.watched import Watched
from infra.deployment import DeploymentSettings
from infra.settings import FunctionName

#: The page of these alarms below docs/runbooks/alarms.
RUNBOOK: Final = "deployment-rolled-back.md"
#: A failure that lasts less, such as a restart of a replica, does not stop a deployment. With the
#: delay of metrics it is still within the shortest canary of five minutes.
_FAILING_MINUTES: Final = 2
_FAILED_CALLS_SHARE: Final = 0.05  # of the new version's calls
_API_FUNCTIONS: Final = frozenset({"write", "read", "status"})


class Canaries(Construct):
    """A deployment group of CodeDeploy for each function, and the alarms that stop it.

    CloudFormation has CodeDeploy move an alias to another version, and fails the deployment of the
    stack if CodeDeploy has moved it back.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        watched: Watched,
        settings: DeploymentSettings,
        runbooks_url: str,
        functions: Mapping[FunctionName, ProductFunction],
    ) -> None:
        super().__init__(scope, construct_id)
        self._watched = watched
        self._runbooks_url = runbooks_url
        self._application = codedeploy.LambdaApplication(
            self, "Application", application_name=watched.prefix
        )
        self._config = codedeploy.LambdaDeploymentConfig.from_lambda_deployment_config_name(
            self, "Config", f"CodeDeployDefault.Lambda{settings.canary}"
        )
        self._role = self._add_role(list(functions))
        api_alarm = self._add_alarm(
            "api", "Requests fail with 5xx.", measure_failed_share(watched), FAILED_SHARE
        )
        for name, function in functions.items():
            alarms = [self._add_function_alarm(name, function)]
            if name in _API_FUNCTIONS:
                alarms.append(api_alarm)
            self._add_group(name, function, alarms)

    def _add_group(
        self, name: FunctionName, function: ProductFunction, alarms: Sequence[cloudwatch.IAlarm]
    ) -> None:
        assert function.alias is not None  # noqa: S101 - canaries publish versions
        codedeploy.LambdaDeploymentGroup(
            self,
            f"Group-{name}",
            application=self._application,
            deployment_group_name=f"{self._watched.prefix}-{name.replace('_', '-')}",
            deployment_config=self._config,
            alias=function.alias,
            alarms=alarms,
            auto_rollback=codedeploy.AutoRollbackConfig(
                failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
            ),
            # CDK would add a policy of AWS that allows the change of every function's alias.
            role=self._role.without_policy_updates(),
        )

    def _add_function_alarm(
        self, name: FunctionName, function: ProductFunction
    ) -> cloudwatch.Alarm:
        if name == "firehose_consumer":
            return self._add_alarm(
                name,
                "The consumer's new version fails, or messages or commands do.",
                self._measure_consumer(function),
                0,
            )
        return self._add_alarm(
            name,
            f"The new version of {name} fails.",
            self._measure_calls(name, function),
            _FAILED_CALLS_SHARE,
        )

    def _measure_calls(self, name: FunctionName, function: ProductFunction) -> cloudwatch.IMetric:
        """The share of failed calls of the new version; 1 if commands were not accepted.

        A function of the API that can't answer fails, and Lambda counts it. But the write function
        answers 503 itself, and its metrics are not separated by version.
        """
        terms = {
            "failed": self._measure_version(name, function, "Errors"),
            "called": self._measure_version(name, function, "Invocations"),
        }
        # Without calls there are no data, which must not hide the other terms.
        expression = "FILL(failed, 0) / FILL(called, 1)"
        if name == "write":
            lost = {"lost": self._watched.own_metric(metrics.COMMANDS_NOT_ACCEPTED, "Sum")}
            if self._watched.has_records:
                lost["unrecorded"] = self._watched.own_metric(metrics.RECORDS_UNAVAILABLE, "Sum")
            terms |= lost
            refused = " + ".join(f"FILL({term}, 0)" for term in lost)
            expression = f"{expression} + IF({refused} > 0, 1, 0)"
        return _calculate(expression, terms)

    def _measure_consumer(self, function: ProductFunction) -> cloudwatch.IMetric:
        """Failures that the consumer reports for single messages are no errors of Lambda."""
        terms = {
            "failed": self._measure_version("firehose_consumer", function, "Errors"),
            "messages": self._watched.own_metric(metrics.MESSAGES_FAILED, "Sum"),
            "rejected": self._watched.own_metric(metrics.COMMANDS_REJECTED, "Sum"),
        }
        return _calculate(" + ".join(f"FILL({term}, 0)" for term in terms), terms)

    def _measure_version(
        self, name: FunctionName, function: ProductFunction, metric: str
    ) -> cloudwatch.Metric:
        version = function.function.current_version.version
        return self._watched.version_metric(name, version, metric)

    def _add_alarm(
        self, name: str, text: str, metric: cloudwatch.IMetric, threshold: float
    ) -> cloudwatch.Alarm:
        part = name.replace("_", "-")
        return cloudwatch.Alarm(
            self,
            f"Alarm-{name}",
            alarm_name=f"{self._watched.prefix}-canary-{part}",
            alarm_description=f"{text} Stops deployments. Runbook: {self._runbooks_url}/{RUNBOOK}",
            metric=metric,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            threshold=threshold,
            datapoints_to_alarm=_FAILING_MINUTES,
            evaluation_periods=_FAILING_MINUTES + LATE_MINUTES,
            # Between deployments, no version of its own is called.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _add_role(self, functions: Sequence[FunctionName]) -> iam.Role:
        """CodeDeploy's role: AWSCodeDeployRoleForLambdaLimited, reduced to these functions."""
        arns = [self._format_function_arn(name) for name in functions]
        versions = [f"{arn}:*" for arn in arns]
        moves = ("lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig", "lambda:UpdateAlias")
        statements = [
            iam.PolicyStatement(actions=["cloudwatch:DescribeAlarms"], resources=["*"]),
            iam.PolicyStatement(actions=list(moves), resources=[*arns, *versions]),
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codedeploy.amazonaws.com"),
            inline_policies={"MoveAliases": iam.PolicyDocument(statements=statements)},
        )
        accept(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "CloudWatch describes alarms of an account only."},
        )
        for arn in versions:
            finding = f"AwsSolutions-IAM5[Resource::{format_for_cdk_nag(self, arn)}]"
            accept(role, {finding: "The numbers of versions are unknown in advance."})
        return role

    def _format_function_arn(self, name: FunctionName) -> str:
        """The function's ARN by its name, without a reference.

        Functions that send commands are updated after the consumer's alias, and the alias's group
        needs the role: a reference to them would be a circle.
        """
        return cdk.Stack.of(self).format_arn(
            service="lambda",
            resource="function",
            resource_name=self._watched.name_function(name),
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )


def _calculate(expression: str, terms: Mapping[str, cloudwatch.IMetric]) -> cloudwatch.IMetric:
    return cloudwatch.MathExpression(
        expression=expression, using_metrics=dict(terms), period=cdk.Duration.minutes(1)
    )
