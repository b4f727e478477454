"""The archive: the bucket that keeps every command ever accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.components.findings import accept, accept_objects_below
from infra.pipeline import ArchiveSettings, CopySettings, LockSettings

#: Where Firehose and the write function put commands; what appears here is applied.
COMMANDS: Final = "commands/"
#: Where Firehose puts what it could not deliver as it should.
DELIVERY_ERRORS: Final = "delivery-errors/"
#: Where the consumer puts decisions, such as that a command can never apply.
DECISIONS: Final = "decisions/"
#: Where releases before the decision log put commands that can never apply.
REJECTIONS: Final = "rejections/"
#: Where people put files whose items become commands.
IMPORTS: Final = "imports/"
#: What the name of an imported file's report ends with.
REPORT: Final = ".report.json"
#: The condition under which a function may put an object: the request has `If-None-Match`, whose
#: only value is `*`. S3 then creates objects and overwrites none.
#: (Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets".) A copy or an upload in
#: parts is refused likewise: their requests have no such header when they begin.
ONLY_CREATE: Final = {"Null": {"s3:if-none-match": "false"}}
#: The same for putting an object in the place of one that the request names by its tag.
ONLY_REPLACE: Final = {"Null": {"s3:if-match": "false"}}

_WORTH_MOVING_BYTES: Final = 128 * 1024  # Glacier Instant Retrieval bills smaller ones as these


class Archive(Construct):
    """A private, versioned, encrypted bucket that outlives its stack.

    Its name is made, not generated, so that the queue's policy can name the bucket before the
    bucket exists: S3 refuses a notification to a queue that doesn't allow it yet.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, name_prefix: str, settings: ArchiveSettings
    ) -> None:
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
            # A first deployment that fails takes it along, or the next would meet its name.
            removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
            lifecycle_rules=_lifecycle(settings),
            object_lock_enabled=True if settings.lock else None,
            object_lock_default_retention=_retention(settings.lock),
        )
        accept(
            self.bucket,
            {
                "CloudFormation-Validate::W9003": "A size in a lifecycle rule is a number for CDK "
                "and a text for CloudFormation, which takes either.",
            },
        )
        if settings.copy_to is not None:
            self._copy(settings.copy_to)
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

    def notify(self, queue_arn: str, *, imports_arn: str, after: Sequence[Construct]) -> None:
        """Tells a queue of every new object below `commands/`, and another of files to import.

        Firehose uploads in parts when it buffers for less than a minute, so the event isn't always
        `Put`. Written here and not with `add_event_notification`, because that brings a Lambda.

        Args:
            queue_arn: where the events of commands go.
            imports_arn: where those of objects below `imports/` go. Also of reports, which the
                import leaves alone: a filter can't leave them out, and every other object gets one.
            after: what must exist before S3 accepts the queues: their policies.
        """
        bucket = _raw(self.bucket)
        bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                _created(queue_arn, prefix=COMMANDS),
                _created(imports_arn, prefix=IMPORTS),
            ]
        )
        bucket.node.add_dependency(*after)

    def _copy(self, target: CopySettings) -> None:
        """Copies every new object to another region, also those that were deleted here since."""
        other = f"arn:{cdk.Aws.PARTITION}:s3:::{target.bucket}"
        role = iam.Role(
            self,
            "Copy",
            assumed_by=iam.ServicePrincipal("s3.amazonaws.com"),
            inline_policies={
                "Copy": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(
                            actions=["s3:GetReplicationConfiguration", "s3:ListBucket"],
                            resources=[self.arn],
                        ),
                        iam.PolicyStatement(
                            actions=[
                                "s3:GetObjectVersionAcl",
                                "s3:GetObjectVersionForReplication",
                                "s3:GetObjectVersionTagging",
                            ],
                            resources=[self.objects("")],
                        ),
                        iam.PolicyStatement(
                            actions=["s3:ReplicateObject", "s3:ReplicateTags"],
                            resources=[f"{other}/*"],
                        ),
                    ]
                )
            },
        )
        accept_objects_below(role, self.objects(""))
        accept_objects_below(role, f"{other}/*")
        _raw(self.bucket).replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
            role=role.role_arn,
            rules=[
                s3.CfnBucket.ReplicationRuleProperty(
                    id="everything",
                    priority=1,
                    status="Enabled",
                    filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=""),
                    # What is deleted here stays there.
                    delete_marker_replication=(
                        s3.CfnBucket.DeleteMarkerReplicationProperty(status="Disabled")
                    ),
                    destination=s3.CfnBucket.ReplicationDestinationProperty(bucket=other),
                )
            ],
        )


def _created(queue_arn: str, *, prefix: str) -> s3.CfnBucket.QueueConfigurationProperty:
    """An event for each new object whose key has the given prefix."""
    return s3.CfnBucket.QueueConfigurationProperty(
        event="s3:ObjectCreated:*",
        queue=queue_arn,
        filter=s3.CfnBucket.NotificationFilterProperty(
            s3_key=s3.CfnBucket.S3KeyFilterProperty(
                rules=[s3.CfnBucket.FilterRuleProperty(name="prefix", value=prefix)]
            )
        ),
    )


def _raw(bucket: s3.Bucket) -> s3.CfnBucket:
    raw = bucket.node.default_child
    assert isinstance(raw, s3.CfnBucket)  # noqa: S101 - what Bucket is made of
    return raw


def _lifecycle(settings: ArchiveSettings) -> list[s3.LifecycleRule]:
    """What becomes of objects with time; commands themselves are kept for ever."""
    rules = [
        # Firehose uploads in parts; those of a broken upload would be paid for ever.
        s3.LifecycleRule(
            abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
            noncurrent_version_expiration=cdk.Duration.days(settings.old_versions_days),
        )
    ]
    if settings.glacier_after_days is not None:
        rules.append(
            s3.LifecycleRule(
                prefix=COMMANDS,
                # Smaller ones would cost more to move than they save.
                object_size_greater_than=_WORTH_MOVING_BYTES,
                transitions=[
                    s3.Transition(
                        storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL,
                        transition_after=cdk.Duration.days(settings.glacier_after_days),
                    )
                ],
            )
        )
    return rules


def _retention(lock: LockSettings | None) -> s3.ObjectLockRetention | None:
    if lock is None:
        return None
    duration = cdk.Duration.days(lock.days)
    if lock.mode == "compliance":
        return s3.ObjectLockRetention.compliance(duration)
    return s3.ObjectLockRetention.governance(duration)
