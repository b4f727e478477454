"""Configurations of the deployed streams, as the emulator's control plane describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from local.firehose.keys import PrefixError, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

MIB = 1024 * 1024
DEFAULT_SIZE_MIB = 5  # BufferingHints' defaults: AWS API reference
DEFAULT_INTERVAL_SECONDS = 300
SIZE_MIB_RANGE = range(1, 128 + 1)
INTERVAL_SECONDS_RANGE = range(900 + 1)


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
    error_output_prefix: str  #: for the status only; the server has no failures that go there
    size_mib: int
    interval_seconds: int
    is_gzip: bool
    extension: str
    delimiter: str  #: appended to every record (AppendDelimiterToRecord)

    @property
    def size_bytes(self) -> int:
        """The size before compression at which an object is due."""
        return self.size_mib * MIB

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "StreamConfig":
        """Parse a DeliveryStreamDescription.

        Raises:
            StreamUnsupportedError: this server can't deliver the stream's records as AWS would.
        """
        destination = _find_s3_destination(description)
        _refuse_unsupported(destination)
        size_mib, interval_seconds = _parse_hints(destination.get("BufferingHints") or {})
        is_gzip = destination.get("CompressionFormat") == "GZIP"
        prefix = destination.get("Prefix") or ""
        try:
            check_prefix(prefix)
        except PrefixError as error:
            raise StreamUnsupportedError(f"Prefix {prefix!r}: {error}") from error
        return cls(
            name=description["DeliveryStreamName"],
            version=str(description["VersionId"]),
            bucket=str(destination["BucketARN"]).rpartition(":")[2],
            prefix=prefix,
            error_output_prefix=destination.get("ErrorOutputPrefix") or "",
            size_mib=size_mib,
            interval_seconds=interval_seconds,
            is_gzip=is_gzip,
            extension=destination.get("FileExtension") or (".gz" if is_gzip else ""),
            delimiter=_parse_delimiter(destination.get("ProcessingConfiguration") or {}),
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


def _find_s3_destination(description: Mapping[str, Any]) -> Mapping[str, Any]:
    if description.get("DeliveryStreamType", "DirectPut") != "DirectPut":
        # AWS's own message.
        raise StreamUnsupportedError(
            f"This operation is not permitted on {description['DeliveryStreamType']} "
            "delivery stream type."
        )
    for destination in description.get("Destinations", []):
        for kind in ("ExtendedS3DestinationDescription", "S3DestinationDescription"):
            destination_description: Mapping[str, Any] | None = destination.get(kind)
            if destination_description is not None:
                return destination_description
    raise StreamUnsupportedError("the stream has no S3 destination, the only kind delivered to")


def _refuse_unsupported(destination: Mapping[str, Any]) -> None:
    for feature in ("DynamicPartitioningConfiguration", "DataFormatConversionConfiguration"):
        if _is_true((destination.get(feature) or {}).get("Enabled", False)):
            raise StreamUnsupportedError(f"{feature} is not supported")
    if destination.get("CustomTimeZone") not in {None, "", "UTC"}:
        raise StreamUnsupportedError("CustomTimeZone other than UTC is not supported")
    compression = destination.get("CompressionFormat") or "UNCOMPRESSED"
    if compression not in {"GZIP", "UNCOMPRESSED"}:
        raise StreamUnsupportedError(f"CompressionFormat {compression} is not supported")
    if destination.get("S3BackupMode", "Disabled") != "Disabled":
        raise StreamUnsupportedError("S3BackupMode is not supported")


def _parse_hints(hints: Mapping[str, Any]) -> tuple[int, int]:
    """Return size and interval, which CloudFormation may have passed as strings."""
    try:
        size_mib = int(hints.get("SizeInMBs", DEFAULT_SIZE_MIB))
        interval_seconds = int(hints.get("IntervalInSeconds", DEFAULT_INTERVAL_SECONDS))
    except ValueError as error:
        raise StreamUnsupportedError(f"BufferingHints {dict(hints)} are not integers") from error
    if size_mib not in SIZE_MIB_RANGE or interval_seconds not in INTERVAL_SECONDS_RANGE:
        raise StreamUnsupportedError(
            f"BufferingHints {dict(hints)} are outside AWS's 1-128 MiB and 0-900 s"
        )
    return size_mib, interval_seconds


def _parse_delimiter(processing: Mapping[str, Any]) -> str:
    if not _is_true(processing.get("Enabled", False)):
        return ""
    delimiter = ""
    for processor in processing.get("Processors") or []:
        if processor["Type"] != "AppendDelimiterToRecord":
            raise StreamUnsupportedError(f"the processor {processor['Type']} is not supported")
        delimiter = "\n"
        for parameter in processor.get("Parameters") or []:
            if parameter["ParameterName"] == "Delimiter":
                # Templates write a newline as a backslash and an n.
                delimiter = parameter["ParameterValue"].replace("\\n", "\n")
    return delimiter


def _is_true(value: object) -> bool:
    return value in {True, "true", "True"}
