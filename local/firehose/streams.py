"""Configurations of the deployed streams, as the emulator's control plane describes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

MIB = 1024 * 1024
DEFAULT_SIZE_MIB = 5  # BufferingHints' defaults: AWS API reference
DEFAULT_INTERVAL_SECONDS = 300
SIZE_MIB_RANGE = range(1, 128 + 1)
INTERVAL_SECONDS_RANGE = range(900 + 1)
# AWS appends it to a prefix without a timestamp expression.
DEFAULT_TIME_EXPRESSION = "!{timestamp:yyyy/MM/dd/HH/}"

_EXPRESSION = re.compile(r"!\{([A-Za-z]+):([^}]*)\}")
# The supported fields of a timestamp pattern (java.time), and their strftime equivalents.
_FIELDS = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


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
        size_mib, interval_seconds = _parse_hints(destination.get("BufferingHints") or {})
        is_gzip = destination.get("CompressionFormat") == "GZIP"
        prefix = destination.get("Prefix") or ""
        evaluate_prefix(prefix, datetime.now(UTC))
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


def evaluate_prefix(prefix: str, moment: datetime) -> str:
    """Evaluate the expressions in `prefix` at `moment` (an aware UTC time).

    The rules are AWS's "Understand custom prefixes for Amazon S3 objects", without random strings.

    Raises:
        StreamUnsupportedError: Firehose or this server can't evaluate the prefix.
    """
    if "!{" in _EXPRESSION.sub(" ", prefix):
        raise StreamUnsupportedError(f"'!{{' outside a !{{namespace:value}} in Prefix {prefix!r}")
    if all(namespace != "timestamp" for namespace, _ in _EXPRESSION.findall(prefix)):
        prefix += DEFAULT_TIME_EXPRESSION
    return _EXPRESSION.sub(lambda match: _evaluate(match[1], match[2], moment), prefix)


def _evaluate(namespace: str, value: str, moment: datetime) -> str:
    fields = set(re.findall("[A-Za-z']+", value))
    if namespace != "timestamp" or not fields <= _FIELDS.keys():
        raise StreamUnsupportedError(f"!{{{namespace}:{value}}} in a Prefix is not supported")
    return re.sub("[A-Za-z]+", lambda field: moment.strftime(_FIELDS[field[0]]), value)


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
