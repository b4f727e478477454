"""The bucket of attachments: objects next to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from forebay.attachments import OBJECTS_PREFIX, UPLOADS_PREFIX
from infra.components.findings import accept
from infra.pipeline import AttachmentSettings

#: An upload is claimed within seconds. Its event can wait in the dead-letter queue for this long.
_UPLOADS_DAYS: Final = 14


class AttachmentsBucket(Construct):
    """A private, versioned, encrypted bucket that outlives its stack.

    Clients reach it by signed addresses only, without credentials of their own.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        settings: AttachmentSettings,
        cors_allow_origin: str,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(self)
        #: Built from the prefix, without a reference: an export that another stack uses could not
        #: be removed together with the setting.
        self.name = f"{name_prefix}-files-{stack.account}-{stack.region}"
        self.arn = f"arn:{cdk.Aws.PARTITION}:s3:::{self.name}"
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=self.name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            # A failed first deployment deletes the bucket; otherwise its name would block the next.
            removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
            lifecycle_rules=_build_lifecycle(settings),
            cors=_build_cors(cors_allow_origin),
        )
        accept(
            self.bucket,
            {
                "AwsSolutions-S1": "The functions log each form, redirect and claim; an access log "
                "would add an object per object and no information about the caller.",
            },
        )

    def objects(self, prefix: str) -> str:
        """The ARN pattern of all objects below a prefix."""
        return f"{self.arn}/{prefix}*"

    def notify(self, queue_arn: str, *, after: Sequence[Construct]) -> None:
        """Send the events of uploads to a queue.

        Args:
            queue_arn: the queue.
            after: constructs that must exist before S3 accepts the queue: its policy.
        """
        bucket = self.bucket.node.default_child
        assert isinstance(bucket, s3.CfnBucket)  # noqa: S101 - what Bucket is made of
        rule = s3.CfnBucket.FilterRuleProperty(name="prefix", value=UPLOADS_PREFIX)
        bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                s3.CfnBucket.QueueConfigurationProperty(
                    event="s3:ObjectCreated:*",
                    queue=queue_arn,
                    filter=s3.CfnBucket.NotificationFilterProperty(
                        s3_key=s3.CfnBucket.S3KeyFilterProperty(rules=[rule])
                    ),
                )
            ]
        )
        bucket.node.add_dependency(*after)


def _build_lifecycle(settings: AttachmentSettings) -> list[s3.LifecycleRule]:
    """Uploads end; the objects of rows are kept forever, as the commands that name them are."""
    return [
        s3.LifecycleRule(
            prefix=UPLOADS_PREFIX,
            expiration=cdk.Duration.days(_UPLOADS_DAYS),
            noncurrent_version_expiration=cdk.Duration.days(1),
            abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
        ),
        s3.LifecycleRule(
            prefix=OBJECTS_PREFIX,
            noncurrent_version_expiration=cdk.Duration.days(settings.old_versions_days),
            abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
        ),
    ]


def _build_cors(origin: str) -> list[s3.CorsRule] | None:
    """The API's rule for pages of other origins."""
    if not origin:
        return None
    return [
        s3.CorsRule(
            allowed_origins=[origin],
            allowed_methods=[s3.HttpMethods.GET, s3.HttpMethods.POST],
            allowed_headers=["*"],
            exposed_headers=["ETag"],
            max_age=int(cdk.Duration.hours(1).to_seconds()),
        )
    ]
