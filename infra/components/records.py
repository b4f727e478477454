"""The table of idempotency records."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from forebay.aws.records import EXPIRY, KEY


class RecordsTable(Construct):
    """An encrypted on-demand table that deletes its items when they expire.

    It outlives its stack, as the archive does: without its records, a repetition of a write that
    has been accepted is a second write.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, name_prefix: str, is_protected: bool
    ) -> None:
        super().__init__(scope, construct_id)
        #: Built from the prefix, without a reference: an export that another stack uses could not
        #: be removed together with the setting.
        self.name = f"{name_prefix}-idempotency"
        self.arn = (
            f"arn:{cdk.Aws.PARTITION}:dynamodb:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}"
            f":table/{self.name}"
        )
        self.table = dynamodb.Table(
            self,
            "Table",
            table_name=self.name,
            partition_key=dynamodb.Attribute(name=KEY, type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=EXPIRY,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=is_protected,
            # A failed first deployment deletes the table; otherwise its name would block the next.
            removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
