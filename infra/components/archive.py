"""The archive: the bucket that stores every accepted command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from forebay.archive.layout import COMMANDS_PREFIX, IMPORTS_PREFIX
from infra.components.encryption import Keys, allow_reading
from infra.components.findings import accept, accept_objects_below
from infra.pipeline import ArchiveSettings, CopySettings, LockSettings

#: The condition for a function's PutObject: the request has `If-None-Match`, with the only value
#: `*`. S3 then creates objects and never overwrites them.
#: (Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets".) Copies and multipart
#: uploads are refused too: their first requests do not have the header.
ONLY_CREATE: Final = {"Null": {"s3:if-none-match": "false"}}
#: The same for replacing an object that the request names by its tag.
ONLY_REPLACE: Final = {"Null": {"s3:if-match": "false"}}

_WORTH_MOVING_BYTES: Final = 128 * 1024  # Glacier Instant Retrieval bills this at least


class Archive(Construct):
    """A private, versioned, encrypted bucket that outlives its stack.

    Its name is computed, not generated, so that the queue's policy can name the bucket before it
    exists: S3 refuses a notification to a queue that does not allow it yet.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        settings: ArchiveSettings,
        keys: Keys,
    ) -> None:
        super().__init__(scope, construct_id)
        self._keys = keys
        stack = cdk.Stack.of(self)
        # Literal if the settings name the account: then CloudFormation can import the bucket.
        name = f"{name_prefix}-archive-{stack.account}-{stack.region}"
        #: Built from the name, without a reference: usable before the bucket exists, and in other
        #: stacks.
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
            # A failed first deployment deletes the bucket; otherwise its name would block the next
            # one.
            removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
            lifecycle_rules=_build_lifecycle(settings),
            object_lock_enabled=True if settings.lock else None,
            object_lock_default_retention=_build_retention(settings.lock),
        )
        accept(
            self.bucket,
            {
                "CloudFormation-Validate::W9003": "CDK writes the size in a lifecycle rule as a "
                "number, which CloudFormation accepts.",
            },
        )
        if settings.copy_to is not None:
            self._copy(settings.copy_to)
        accept(
            self.bucket,
            {
                "AwsSolutions-S1": "Roles of this app write each object once and never overwrite "
                "it; an access log would add an object per object and no information.",
            },
        )

    def objects(self, prefix: str) -> str:
        """The ARN pattern of all objects below a prefix."""
        return f"{self.arn}/{prefix}*"

    def notify(self, queue_arn: str, *, imports_arn: str, after: Sequence[Construct]) -> None:
        """Send the events of new objects to queues: commands to one, files to import to another.

        Firehose uploads in parts when it buffers for less than a minute, so the event isn't always
        `Put`. `add_event_notification` is not used, because it adds a Lambda function.

        Args:
            queue_arn: the queue for objects below `commands/`.
            imports_arn: the queue for objects below `imports/`. It also gets the events of reports,
                which the import skips: a filter can't exclude a suffix.
            after: constructs that must exist before S3 accepts the queues: their policies.
        """
        bucket = _unwrap(self.bucket)
        bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                _notify_created(queue_arn, prefix=COMMANDS_PREFIX),
                _notify_created(imports_arn, prefix=IMPORTS_PREFIX),
            ]
        )
        bucket.node.add_dependency(*after)

    def _copy(self, target: CopySettings) -> None:
        """Copy every new object to another region, and keep it there after a deletion here."""
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
                        *allow_reading(self._keys),
                        *_allow_key_of_copies(target),
                    ]
                )
            },
        )
        accept_objects_below(role, self.objects(""))
        accept_objects_below(role, f"{other}/*")
        _unwrap(
            self.bucket
        ).replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
            role=role.role_arn,
            rules=[
                s3.CfnBucket.ReplicationRuleProperty(
                    id="everything",
                    priority=1,
                    status="Enabled",
                    filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=""),
                    source_selection_criteria=_select_encrypted_objects(target),
                    # A deletion here does not delete the copy.
                    delete_marker_replication=(
                        s3.CfnBucket.DeleteMarkerReplicationProperty(status="Disabled")
                    ),
                    destination=s3.CfnBucket.ReplicationDestinationProperty(
                        bucket=other, encryption_configuration=_encrypt_copies(target)
                    ),
                )
            ],
        )


def _allow_key_of_copies(target: CopySettings) -> list[iam.PolicyStatement]:
    """Amazon S3 User Guide, "Replicating encrypted objects (SSE-KMS)"."""
    if target.key is None:
        return []
    actions = ["kms:Encrypt", "kms:GenerateDataKey"]
    return [iam.PolicyStatement(actions=actions, resources=[target.key])]


def _select_encrypted_objects(
    target: CopySettings,
) -> s3.CfnBucket.SourceSelectionCriteriaProperty | None:
    """S3 skips objects with a customer managed key unless they are selected."""
    if target.key is None:
        return None
    return s3.CfnBucket.SourceSelectionCriteriaProperty(
        sse_kms_encrypted_objects=s3.CfnBucket.SseKmsEncryptedObjectsProperty(status="Enabled")
    )


def _encrypt_copies(target: CopySettings) -> s3.CfnBucket.EncryptionConfigurationProperty | None:
    if target.key is None:
        return None
    return s3.CfnBucket.EncryptionConfigurationProperty(replica_kms_key_id=target.key)


def _notify_created(queue_arn: str, *, prefix: str) -> s3.CfnBucket.QueueConfigurationProperty:
    """An event for each new object with a key of the given prefix."""
    return s3.CfnBucket.QueueConfigurationProperty(
        event="s3:ObjectCreated:*",
        queue=queue_arn,
        filter=s3.CfnBucket.NotificationFilterProperty(
            s3_key=s3.CfnBucket.S3KeyFilterProperty(
                rules=[s3.CfnBucket.FilterRuleProperty(name="prefix", value=prefix)]
            )
        ),
    )


def _unwrap(bucket: s3.Bucket) -> s3.CfnBucket:
    raw = bucket.node.default_child
    assert isinstance(raw, s3.CfnBucket)  # noqa: S101 - what Bucket is made of
    return raw


def _build_lifecycle(settings: ArchiveSettings) -> list[s3.LifecycleRule]:
    """The lifecycle rules; commands are kept forever."""
    rules = [
        # Firehose uploads in parts; the parts of a failed upload would be billed forever.
        s3.LifecycleRule(
            abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
            noncurrent_version_expiration=cdk.Duration.days(settings.old_versions_days),
        )
    ]
    if settings.glacier_after_days is not None:
        rules.append(
            s3.LifecycleRule(
                prefix=COMMANDS_PREFIX,
                # Moving smaller objects would cost more than it saves.
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


def _build_retention(lock: LockSettings | None) -> s3.ObjectLockRetention | None:
    if lock is None:
        return None
    duration = cdk.Duration.days(lock.days)
    if lock.mode == "compliance":
        return s3.ObjectLockRetention.compliance(duration)
    return s3.ObjectLockRetention.governance(duration)
