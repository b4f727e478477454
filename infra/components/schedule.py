"""A schedule that calls a function repeatedly."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct


class Schedule(Construct):
    """Calls a function at an interval in minutes.

    Lambda itself repeats a failed call after one and after two more minutes; EventBridge does not
    retry.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        function: lambda_.Function,
        every_minutes: int,
    ) -> None:
        super().__init__(scope, construct_id)
        events.Rule(
            self,
            "Rule",
            rule_name=name,
            schedule=events.Schedule.rate(cdk.Duration.minutes(every_minutes)),
            targets=[targets.LambdaFunction(function, retry_attempts=0)],
        )
