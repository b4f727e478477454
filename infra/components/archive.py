"""The archive: the bucket that keeps every command ever accepted."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.components.findings import accept

#: Where Firehose and the write function put commands; what appears here is applied.
COMMANDS: Final = "commands/"
#: Where Firehose puts what it could not deliver as it should.
DELIVERY_ERRORS: Final = "delivery-errors/"
#: Where the consumer puts commands that can never apply.
REJECTIONS: Final = "rejections/"


class Archive(Construct):
    """A private, versioned, encrypted bucket that outlives its stack.

    Its name is made, not generated, so that the queue's policy can name the bucket before the
    bucket exists: S3 refuses a notification to a queue that doesn't allow it yet.
    """

    def __init__(self, scope: Construct, construct_id: str, *, name_prefix: str) -> None:
        super().__init__(scope, construct_id)
        name = f"{name_prefix}-archive-{cdk.Aws.ACCOUNT_ID}-{cdk.Aws.REGION}"
        #: Names the bucket without referring to it: usable before it exists, and in other stacks.
        self.arn = f"arn:{cdk.Aws.PARTITION}:s3:::{name}"
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=cdk.RemovalPolicy.RETAIN,
            lifecycle_rules=[
                # Firehose uploads in parts; those of a broken upload would be paid for ever.
                s3.LifecycleRule(abort_incomplete_multipart_upload_after=cdk.Duration.days(7))
            ],
        )
        accept(
            self.bucket,
            {
                "AwsSolutions-S1": "Objects are written once, by roles of this app, and never "
                "rewritten; an access log would add an object per object and tell nothing new.",
            },
        )

    def objects(self, prefix: str) -> str:
        """The ARN pattern of all objects below a prefix."""
        return f"{self.arn}/{prefix}*"

    def notify(self, queue_arn: str, *, after: Construct) -> None:
        """Tells a queue of every new object below `commands/`.

        Firehose uploads in parts when it buffers for less than a minute, so the event isn't always
        `Put`. Written here and not with `add_event_notification`, because that brings a Lambda.

        Args:
            queue_arn: where the events go.
            after: what must exist before S3 accepts the queue: its policy.
        """
        bucket = self.bucket.node.default_child
        assert isinstance(bucket, s3.CfnBucket)  # noqa: S101 - what Bucket is made of
        bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                s3.CfnBucket.QueueConfigurationProperty(
                    event="s3:ObjectCreated:*",
                    queue=queue_arn,
                    filter=s3.CfnBucket.NotificationFilterProperty(
                        s3_key=s3.CfnBucket.S3KeyFilterProperty(
                            rules=[s3.CfnBucket.FilterRuleProperty(name="prefix", value=COMMANDS)]
                        )
                    ),
                )
            ]
        )
        bucket.node.add_dependency(after)
