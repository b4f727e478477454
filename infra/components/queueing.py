"""The queue of S3 events for the consumer, and its dead-letter queue."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct


class ArchiveEvents(Construct):
    """A queue of S3 events, and a second one for events that failed too often.

    Its purpose names it: `archive-events`, `replay`, `import-events`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        purpose: str,
        visibility_seconds: int,
        retention_days: int,
        dead_letter_retention_days: int,
        max_receives: int,
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            queue_name=f"{name_prefix}-{purpose}-dead",
            retention_period=cdk.Duration.days(dead_letter_retention_days),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=f"{name_prefix}-{purpose}",
            visibility_timeout=cdk.Duration.seconds(visibility_seconds),
            retention_period=cdk.Duration.days(retention_days),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters, max_receive_count=max_receives
            ),
        )

    def accept_events_of(self, bucket_arn: str) -> Construct:
        """Allow the bucket to send events, but not another account's bucket of the same name.

        Returns:
            The queue's policy; S3 accepts the queue only after it exists.
        """
        result = self.queue.add_to_resource_policy(
            iam.PolicyStatement(
                sid="ArchiveEvents",
                principals=[iam.ServicePrincipal("s3.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.queue.queue_arn],
                conditions={
                    "ArnEquals": {"aws:SourceArn": bucket_arn},
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                },
            )
        )
        policy = result.policy_dependable
        assert isinstance(policy, Construct)  # noqa: S101 - the statement was added to a policy
        return policy
