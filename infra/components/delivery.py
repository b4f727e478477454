"""Delivery streams: buffer commands and write them to the archive as gzip objects."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_logs as logs
from constructs import Construct

from forebay.archive.layout import COMMANDS_PREFIX, DELIVERY_ERRORS_PREFIX
from infra.components.archive import Archive
from infra.components.encryption import Keys, allow_reading, allow_writing
from infra.components.findings import accept_objects_below

_HOUR: Final = "!{timestamp:yyyy/MM/dd/HH}/"  # UTC; the arrival of the object's oldest record
FILE_EXTENSION: Final = ".ndjson.gz"


class Delivery(Construct):
    """Direct PUT streams into one bucket, with a role that has no other access.

    Quotas apply per stream, so several streams take more load; the order of commands does not
    depend on their stream.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name_prefix: str,
        archive: Archive,
        keys: Keys,
        buffer_mebibytes: int,
        buffer_seconds: int,
        count: int,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        name = f"{name_prefix}-commands"
        #: The stream names for the write function. Names and ARNs are computed, not read from the
        #: streams: CloudFormation refuses to delete a stream that another stack imports.
        self.names = [_number_name(name, number) for number in range(1, count + 1)]
        log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/kinesisfirehose/{name}",
            retention=log_retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self._archive = archive
        self._log_group = log_group
        self._buffer = firehose.CfnDeliveryStream.BufferingHintsProperty(
            size_in_m_bs=buffer_mebibytes, interval_in_seconds=buffer_seconds
        )
        #: Firehose can't assume a role that is seconds old ("unable to assume role",
        #: hashicorp/terraform-provider-aws#47937), so the data stack creates it early.
        self.role = self._add_role(archive, log_group, keys)
        role_arn = self.role.role_arn
        for number, stream_name in enumerate(self.names, 1):
            stream = self._add_stream(number, stream_name, role_arn)
            if number > 1:
                # A stream that the settings remove must still deliver its buffered records.
                stream.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)

    @property
    def arns(self) -> list[str]:
        """The streams' ARNs, for IAM."""
        stack = cdk.Stack.of(self)
        return [
            stack.format_arn(service="firehose", resource="deliverystream", resource_name=name)
            for name in self.names
        ]

    def _add_stream(self, number: int, name: str, role_arn: str) -> firehose.CfnDeliveryStream:
        # The first keeps the names that it had when it was the only one.
        part = "" if number == 1 else str(number)
        log_stream = logs.LogStream(
            self,
            f"LogStream{part}",
            log_group=self._log_group,
            log_stream_name=_number_name("S3Delivery", number),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        return firehose.CfnDeliveryStream(
            self,
            f"Stream{part}",
            delivery_stream_name=name,
            delivery_stream_type="DirectPut",
            delivery_stream_encryption_configuration_input=(
                firehose.CfnDeliveryStream.DeliveryStreamEncryptionConfigurationInputProperty(
                    key_type="AWS_OWNED_CMK"
                )
            ),
            extended_s3_destination_configuration=(
                firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty(
                    bucket_arn=self._archive.bucket.bucket_arn,
                    role_arn=role_arn,
                    prefix=f"{COMMANDS_PREFIX}{_HOUR}",
                    error_output_prefix=(
                        f"{DELIVERY_ERRORS_PREFIX}!{{firehose:error-output-type}}/{_HOUR}"
                    ),
                    compression_format="GZIP",
                    file_extension=FILE_EXTENSION,
                    buffering_hints=self._buffer,
                    cloud_watch_logging_options=(
                        firehose.CfnDeliveryStream.CloudWatchLoggingOptionsProperty(
                            enabled=True,
                            log_group_name=self._log_group.log_group_name,
                            log_stream_name=log_stream.log_stream_name,
                        )
                    ),
                )
            ),
        )

    def _add_role(self, archive: Archive, log_group: logs.LogGroup, keys: Keys) -> iam.Role:
        """The permissions of Firehose's guide for S3, reduced to the objects that it writes.

        They are part of the role, because Firehose checks them when the stream is created. Firehose
        sends no `If-None-Match` and uploads in parts, so a condition can't prevent overwriting.
        Below `commands/` it may only write objects with names that begin with a stream's, as
        Firehose's own names do (developer guide, "Configure Amazon S3 object name format"). So it
        can't overwrite the functions' objects there.
        """
        patterns = [
            # The first stream's name is a prefix of the others' names.
            f"{archive.arn}/{COMMANDS_PREFIX}*/{self.names[0]}-*",
            archive.objects(DELIVERY_ERRORS_PREFIX),
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "firehose.amazonaws.com",
                conditions={"StringEquals": {"sts:ExternalId": cdk.Aws.ACCOUNT_ID}},
            ),
            inline_policies={
                "Deliver": iam.PolicyDocument(
                    statements=[
                        _allow(
                            "s3:GetBucketLocation",
                            "s3:ListBucket",
                            "s3:ListBucketMultipartUploads",
                            on=[archive.arn],
                        ),
                        _allow(
                            "s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject", on=patterns
                        ),
                        _allow("logs:PutLogEvents", on=[log_group.log_group_arn]),
                        *allow_reading(keys),
                        *allow_writing(keys),
                    ]
                )
            },
        )
        for pattern in patterns:
            accept_objects_below(role, pattern)
        return role


def _number_name(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _allow(*actions: str, on: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=on)
