"""Configurations of the deployed streams, as the emulator's control plane describes them.

The server delivers as the project's streams are declared; any other setting is refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

MIB = 1024 * 1024

# A timestamp with fields of java.time and other characters than letters between them.
_TIMESTAMP = re.compile(r"!\{timestamp:((?:yyyy|MM|dd|HH|[^A-Za-z'}])*)\}")
_FIELDS = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H"}  # as strftime spells them
_UNSUPPORTED = (
    "DynamicPartitioningConfiguration",
    "DataFormatConversionConfiguration",
    "ProcessingConfiguration",
)


class StreamError(Exception):
    """The configuration of a stream is not available.

    StreamNotFoundError      there is no such stream
    StreamUnsupportedError   it needs a feature that AWS refuses or this server does not have
    ControlPlaneError        the emulator does not answer (transient)
    """


class StreamNotFoundError(StreamError):
    """The control plane has no stream of this name."""


class StreamUnsupportedError(StreamError):
    """The stream needs a feature that this server does not imitate; the message names it."""


class ControlPlaneError(StreamError):
    """The control plane did not answer; a later retry may succeed."""


@dataclass(frozen=True)
class StreamConfig:
    """A Direct PUT stream with an S3 destination."""

    name: str
    version: str
    bucket: str
    prefix: str
    size_mib: int
    interval_seconds: int
    extension: str

    @property
    def size_bytes(self) -> int:
        """The size before compression at which an object is due."""
        return self.size_mib * MIB

    def object_key(self, oldest_arrival: datetime, object_id: str) -> str:
        """Return the key of an object; `oldest_arrival` (UTC) is that of its oldest record."""
        time = oldest_arrival.strftime("%Y-%m-%d-%H-%M-%S")
        prefix = evaluate_prefix(self.prefix, oldest_arrival)
        return f"{prefix}{self.name}-{self.version}-{time}-{object_id}{self.extension}"

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "StreamConfig":
        """Parse a DeliveryStreamDescription.

        Raises:
            StreamUnsupportedError: this server can't deliver the stream's records as AWS would.
        """
        destination = _find_s3_destination(description)
        _refuse_unsupported(destination)
        evaluate_prefix(destination.get("Prefix", ""), datetime.now(UTC))
        return cls(
            name=description["DeliveryStreamName"],
            version=str(description["VersionId"]),
            bucket=str(destination["BucketARN"]).rpartition(":")[2],
            prefix=destination["Prefix"],
            # CloudFormation may have passed them as strings.
            size_mib=int(destination["BufferingHints"]["SizeInMBs"]),
            interval_seconds=int(destination["BufferingHints"]["IntervalInSeconds"]),
            extension=destination.get("FileExtension") or ".gz",
        )


def describe(client: "FirehoseClient", name: str) -> StreamConfig:
    """Request the configuration of the stream `name` from the control plane. Blocks.

    Raises:
        StreamError: see its subclasses.
    """
    try:
        answer = client.describe_delivery_stream(DeliveryStreamName=name)
    except client.exceptions.ResourceNotFoundException as error:
        raise StreamNotFoundError(str(error)) from error
    except (ClientError, BotoCoreError) as error:
        raise ControlPlaneError(f"DescribeDeliveryStream: {error}") from error
    return StreamConfig.from_description(answer["DeliveryStreamDescription"])


def evaluate_prefix(prefix: str, moment: datetime) -> str:
    """Evaluate the timestamps in `prefix` at `moment` (an aware UTC time).

    The rules are AWS's "Understand custom prefixes for Amazon S3 objects".

    Raises:
        StreamUnsupportedError: it has no timestamp, or another expression.
    """
    evaluated, count = _TIMESTAMP.subn(lambda match: _format(match[1], moment), prefix)
    if not count or "!{" in evaluated:
        raise StreamUnsupportedError(
            f"the Prefix {prefix!r} is not supported; it needs !{{timestamp:…}} with the fields "
            f"{', '.join(_FIELDS)}, and no other expression"
        )
    return evaluated


def _format(pattern: str, moment: datetime) -> str:
    return re.sub("[A-Za-z]+", lambda field: moment.strftime(_FIELDS[field[0]]), pattern)


def _find_s3_destination(description: Mapping[str, Any]) -> Mapping[str, Any]:
    if description["DeliveryStreamType"] != "DirectPut":
        # AWS's own message.
        raise StreamUnsupportedError(
            f"This operation is not permitted on {description['DeliveryStreamType']} "
            "delivery stream type."
        )
    (destination,) = description["Destinations"]
    s3: Mapping[str, Any] | None = destination.get("ExtendedS3DestinationDescription")
    if s3 is None:
        raise StreamUnsupportedError("the stream has no S3 destination, the only kind delivered to")
    return s3


def _refuse_unsupported(destination: Mapping[str, Any]) -> None:
    for feature in _UNSUPPORTED:
        if str((destination.get(feature) or {}).get("Enabled", False)).lower() == "true":
            raise StreamUnsupportedError(f"{feature} is not supported")
    for feature, supported in (
        ("CompressionFormat", "GZIP"),
        ("CustomTimeZone", "UTC"),
        ("S3BackupMode", "Disabled"),
    ):
        value = destination.get(feature) or supported
        if value != supported:
            raise StreamUnsupportedError(f"{feature} {value} is not supported, only {supported}")
