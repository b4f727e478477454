"""OperationsStack: notifies operators of failures, and shows their causes."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.bundling import TOOL, Packages
from infra.components.alarms import Alarms
from infra.components.dashboard import Dashboard
from infra.components.encryption import Keys, encrypt
from infra.components.findings import accept
from infra.components.retention import log_retention
from infra.components.runner import Runner, RunnerPlace
from infra.components.watched import Watched
from infra.database import ExternalDatabase
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack


class OperationsStack(EnvironmentStack):
    """Alarms, their topic, one dashboard, and optionally a budget and a runner."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        watched: Watched,
        place: RunnerPlace | None = None,
        packages: Packages | None = None,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(scope, "operations", settings=settings)
        topic = self._add_topic()
        Alarms(self, "Alarms", watched=watched, settings=settings.operations, topic=topic)
        Dashboard(self, "Dashboard", watched=watched)
        if settings.operations.monthly_budget_dollars is not None:
            self._add_budget(settings.operations.monthly_budget_dollars)
        self.add_output("AlarmTopicArn", topic.topic_arn)
        if place is not None and packages is not None:
            self._add_runner(place, packages)
        encrypt(self, keys or Keys())

    def _add_runner(self, place: RunnerPlace, packages: Packages) -> None:
        prefix = self.settings.prefix
        runner = Runner(
            self,
            "Runner",
            name_prefix=prefix,
            package=packages(TOOL),
            place=place,
            policies=[f"{prefix}-operator", f"{prefix}-rebuild"],
            log_retention=log_retention(self.settings.logs.retention_days),
        )
        self.add_output("RunnerName", runner.project.ref)

    def _add_topic(self) -> sns.Topic:
        topic = sns.Topic(
            self, "Topic", topic_name=f"{self.settings.prefix}-alarms", enforce_ssl=True
        )
        # A custom policy replaces SNS's default, which lets the account's alarms publish (Amazon
        # SNS developer guide, "Example cases for Amazon SNS access control").
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"ArnLike": {"aws:SourceArn": self._format_alarms_arn()}},
            )
        )
        accept(
            topic,
            {
                "AwsSolutions-SNS2": "An alarm's text contains no data; CloudWatch requires a "
                "customer managed key, which costs more than all alarms."
            },
        )
        if not self.settings.operations.emails and self._is_protected:
            cdk.Annotations.of(self).add_warning_v2(
                "forebay:noEmails",
                f"The alarms of {self.settings.name} send no mail, because operations.emails is "
                f"empty. Set it in infra/environments/{self.settings.name}.toml, or subscribe "
                f"another receiver to the topic {self.settings.prefix}-alarms.",
            )
        for address in self.settings.operations.emails:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        return topic

    @property
    def _is_protected(self) -> bool:
        """True if the environment's data is worth protecting, so that its alarms matter."""
        database = self.settings.database
        return isinstance(database, ExternalDatabase) or database.deletion_protection

    def _format_alarms_arn(self) -> str:
        return self.format_arn(
            service="cloudwatch",
            resource="alarm",
            resource_name=f"{self.settings.prefix}-*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    def _add_budget(self, dollars: int) -> None:
        """Send mails at 80 % of the budget, and when the forecast exceeds it."""
        emails = self.settings.operations.emails
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                # Without a name: other receivers replace the budget, which would need another.
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=dollars, unit="USD"),
                # The tag must be activated for cost allocation in the account's billing settings.
                cost_filters={"TagKeyValue": [f"user:environment${self.settings.name}"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=threshold,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(
                            address=email, subscription_type="EMAIL"
                        )
                        for email in emails
                    ],
                )
                for kind, threshold in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
