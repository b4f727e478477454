"""Migration on deploy: the schema is migrated before new code uses it."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import triggers
from constructs import Construct


class MigrationOnDeploy(Construct):
    """Calls the migrate function whenever its package or settings have changed.

    If it fails, the deployment fails and rolls back before it changes the resources that depend on
    it. New code therefore always meets the new schema, and for a moment old code does too.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.Function,
        timeout_seconds: int,
        before: Sequence[Construct],
    ) -> None:
        super().__init__(scope, construct_id)
        triggers.Trigger(
            self,
            "Trigger",
            handler=function,
            invocation_type=triggers.InvocationType.REQUEST_RESPONSE,
            timeout=cdk.Duration.seconds(timeout_seconds),
            execute_before=list(before),
        )
