"""Encryption at rest with a customer managed key.

A key is set by one function for all resources of a stack, so that no new resource can be forgotten;
a test lists the types that have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.encryption import OWN, EncryptionSettings


@dataclass(frozen=True, slots=True)
class Keys:
    """The ARNs of an environment's customer managed keys."""

    #: The key of all data that is written; None: keys of AWS.
    current: str | None = None
    #: All keys that stored data may be encrypted with.
    readable: tuple[str, ...] = ()


class OwnKey(Construct):
    """A key for the environment, which outlives its stack: without it, no stored data is readable.

    AWS replaces its material each year, and keeps the old. The account's policies decide on its
    use; services that work without a role of the account are named here.
    """

    def __init__(self, scope: Construct, construct_id: str, *, name_prefix: str) -> None:
        super().__init__(scope, construct_id)
        key = kms.Key(
            self,
            "Key",
            alias=name_prefix,
            description=f"Everything that {name_prefix} stores",
            enable_key_rotation=True,
            pending_window=cdk.Duration.days(30),
            # A failed first deployment deletes the key, which has encrypted no data.
            removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        for statement in _allow_services(cdk.Stack.of(self), name_prefix):
            key.add_to_resource_policy(statement)
        self.arn = key.key_arn


def build_keys(scope: Construct, settings: EncryptionSettings, *, name_prefix: str) -> Keys:
    """Create the environment's own key, if the settings name it, and return all keys."""
    arns = {arn: arn for arn in settings.arns}
    if OWN in settings.used:
        arns[OWN] = OwnKey(scope, "OwnKey", name_prefix=name_prefix).arn
    return Keys(
        None if settings.key == "managed" else arns[settings.key],
        tuple(arns[key] for key in settings.used),
    )


def encrypt(stack: cdk.Stack, keys: Keys) -> None:
    """Encrypt every resource of a complete stack with the current key."""
    if keys.current is None:
        return
    for construct in stack.node.find_all():
        for kind, set_key in _SETTERS.items():
            if isinstance(construct, kind):
                set_key(construct, keys.current)


def allow_reading(keys: Keys) -> list[iam.PolicyStatement]:
    """What a role needs to read stored data, and the environment variables of its function."""
    return [_allow("kms:Decrypt", on=keys.readable)] if keys.readable else []


def allow_writing(keys: Keys, *, to_table: bool = False) -> list[iam.PolicyStatement]:
    """What a role needs, in addition to `allow_reading`, to write objects and send messages.

    Args:
        keys: the environment's keys.
        to_table: True for items of DynamoDB, which uses the key for the caller in more ways
            (DynamoDB developer guide, "Authorizing use of your customer managed key").
    """
    if keys.current is None:
        return []
    more = (
        ("kms:DescribeKey", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")
        if to_table
        else ()
    )
    return [_allow("kms:GenerateDataKey", *more, on=(keys.current,))]


def _allow(*actions: str, on: tuple[str, ...]) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=list(on))


def _allow_services(stack: cdk.Stack, name_prefix: str) -> list[iam.PolicyStatement]:
    """What services need that use the key without a role of the account.

    Other services use it through the permissions of the caller, or of the role that deploys.
    """
    log_groups = _format_arn(stack, "logs", "log-group", "*")
    alarms = _format_arn(stack, "cloudwatch", "alarm", f"{name_prefix}-*")
    return [
        # CloudWatch Logs user guide, "Encrypt log data in CloudWatch Logs using AWS KMS".
        _allow_service(
            f"logs.{stack.region}.amazonaws.com",
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey*",
            "kms:ReEncrypt*",
            where={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
        ),
        # S3 puts events into the queues; their policies accept the archive's only (Amazon S3 User
        # Guide, "Granting permissions to publish event notification messages to a destination").
        _allow_service("s3.amazonaws.com", "kms:Decrypt", "kms:GenerateDataKey"),
        # Alarms publish to the topic (Amazon SNS developer guide, "Enable compatibility between
        # event sources from AWS services and encrypted topics").
        _allow_service(
            "cloudwatch.amazonaws.com",
            "kms:Decrypt",
            "kms:GenerateDataKey*",
            where={
                "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                "ArnLike": {"aws:SourceArn": alarms},
            },
        ),
    ]


def _allow_service(
    service: str, *actions: str, where: dict[str, Any] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal(service)],
        actions=list(actions),
        resources=["*"],  # in a key's policy: this key
        conditions=where,
    )


def _format_arn(stack: cdk.Stack, service: str, resource: str, name: str) -> str:
    return stack.format_arn(
        service=service,
        resource=resource,
        resource_name=name,
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _set_bucket_key(bucket: s3.CfnBucket, arn: str) -> None:
    # With a bucket key, S3 asks for a data key once for many objects.
    bucket.bucket_encryption = s3.CfnBucket.BucketEncryptionProperty(
        server_side_encryption_configuration=[
            s3.CfnBucket.ServerSideEncryptionRuleProperty(
                bucket_key_enabled=True,
                server_side_encryption_by_default=(
                    s3.CfnBucket.ServerSideEncryptionByDefaultProperty(
                        sse_algorithm="aws:kms", kms_master_key_id=arn
                    )
                ),
            )
        ]
    )


def _set_queue_key(queue: sqs.CfnQueue, arn: str) -> None:
    queue.kms_master_key_id = arn
    queue.sqs_managed_sse_enabled = None


def _set_stream_key(stream: firehose.CfnDeliveryStream, arn: str) -> None:
    """Encrypt the buffer; its objects have the bucket's key."""
    stream.delivery_stream_encryption_configuration_input = (
        firehose.CfnDeliveryStream.DeliveryStreamEncryptionConfigurationInputProperty(
            key_type="CUSTOMER_MANAGED_CMK", key_arn=arn
        )
    )


def _set_instance_key(instance: rds.CfnDBInstance, arn: str) -> None:
    """A replica of the region, and an instance of a cluster, has the key of its source."""
    has_source = instance.source_db_instance_identifier or instance.db_cluster_identifier
    if not has_source:
        instance.kms_key_id = arn
    if instance.enable_performance_insights:
        instance.performance_insights_kms_key_id = arn


def _set_table_key(table: dynamodb.CfnTable, arn: str) -> None:
    table.sse_specification = dynamodb.CfnTable.SSESpecificationProperty(
        sse_enabled=True, sse_type="KMS", kms_master_key_id=arn
    )


def _set_property(name: str) -> Callable[[Any, str], None]:
    return lambda resource, arn: setattr(resource, name, arn)


_SETTERS: Final[dict[type, Callable[[Any, str], None]]] = {
    dynamodb.CfnTable: _set_table_key,
    elasticache.CfnReplicationGroup: _set_property("kms_key_id"),
    firehose.CfnDeliveryStream: _set_stream_key,
    lambda_.CfnFunction: _set_property("kms_key_arn"),
    logs.CfnLogGroup: _set_property("kms_key_id"),
    rds.CfnDBCluster: _set_property("kms_key_id"),
    rds.CfnDBInstance: _set_instance_key,
    s3.CfnBucket: _set_bucket_key,
    secretsmanager.CfnSecret: _set_property("kms_key_id"),
    sns.CfnTopic: _set_property("kms_master_key_id"),
    sqs.CfnQueue: _set_queue_key,
}
