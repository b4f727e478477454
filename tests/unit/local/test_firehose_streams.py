"""The configuration read from a described stream, and the refusal of unsupported features."""

from datetime import UTC, datetime
from typing import Any

import pytest

from local.firehose.streams import StreamConfig, StreamUnsupportedError, evaluate_prefix


def description(kind: str = "ExtendedS3DestinationDescription", **changes: Any) -> dict[str, Any]:
    destination = {
        "BucketARN": "arn:aws:s3:::archive",
        "Prefix": "commands/!{timestamp:yyyy/MM/dd/HH}/",
        "ErrorOutputPrefix": "delivery-errors/!{firehose:error-output-type}/",
        "BufferingHints": {"SizeInMBs": 2, "IntervalInSeconds": 60},
        "CompressionFormat": "GZIP",
        **changes,
    }
    return {
        "DeliveryStreamName": "commands",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "7",
        "Destinations": [{"DestinationId": "d", kind: destination}],
    }


def test_a_description_is_read() -> None:
    config = StreamConfig.from_description(description())

    assert config == StreamConfig(
        name="commands",
        version="7",
        bucket="archive",
        prefix="commands/!{timestamp:yyyy/MM/dd/HH}/",
        size_mib=2,
        interval_seconds=60,
        extension=".gz",
    )


def test_hints_may_be_strings_as_a_template_passes_them() -> None:
    hints = {"SizeInMBs": "128", "IntervalInSeconds": "0"}

    config = StreamConfig.from_description(description(BufferingHints=hints))

    assert (config.size_bytes, config.interval_seconds) == (128 * 1024 * 1024, 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"CompressionFormat": "Snappy"}, "Snappy"),
        ({"CompressionFormat": "UNCOMPRESSED"}, "UNCOMPRESSED"),
        ({"Prefix": "commands/"}, "needs !{timestamp"),
        ({"Prefix": "!{partitionKeyFromQuery:tenant}/"}, "tenant"),
        ({"Prefix": "!{firehose:random-string}/"}, "random-string"),
        ({"Prefix": "!{timestamp:yyyy}/!{timestamp:yyyy"}, "not supported"),
        ({"Prefix": "!{timestamp:YYYY/MM}/"}, "YYYY"),
        ({"Prefix": "!{timestamp:'year'yyyy}/"}, "year"),
        ({"DynamicPartitioningConfiguration": {"Enabled": True}}, "DynamicPartitioning"),
        ({"CustomTimeZone": "Asia/Tokyo"}, "CustomTimeZone"),
        ({"S3BackupMode": "Enabled"}, "S3BackupMode"),
        ({"ProcessingConfiguration": {"Enabled": "true"}}, "ProcessingConfiguration"),
    ],
)
def test_unsupported_settings_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(StreamUnsupportedError, match=named):
        StreamConfig.from_description(description(**changes))


def test_a_stream_fed_by_kinesis_takes_no_puts() -> None:
    stream = description()
    stream["DeliveryStreamType"] = "KinesisStreamAsSource"

    with pytest.raises(StreamUnsupportedError, match="not permitted on KinesisStreamAsSource"):
        StreamConfig.from_description(stream)


def test_a_stream_without_s3_is_refused() -> None:
    with pytest.raises(StreamUnsupportedError, match="no S3 destination"):
        StreamConfig.from_description(description("HttpEndpointDestinationDescription"))


@pytest.mark.parametrize(
    ("prefix", "evaluated"),
    [
        ("commands/!{timestamp:yyyy/MM/dd/HH}/", "commands/2018/08/07/04/"),
        ("y=!{timestamp:yyyy}/!{timestamp:HH.dd-MM}/", "y=2018/04.07-08/"),
    ],
)
def test_the_timestamps_of_a_prefix_are_evaluated(prefix: str, evaluated: str) -> None:
    assert evaluate_prefix(prefix, datetime(2018, 8, 7, 4, 3, 2, tzinfo=UTC)) == evaluated


def test_an_object_is_named_after_stream_version_and_oldest_arrival() -> None:
    config = StreamConfig.from_description(description())
    key = config.object_key(datetime(2018, 8, 7, 4, 3, 2, tzinfo=UTC), "7b0a6d7e")
    assert key == "commands/2018/08/07/04/commands-7-2018-08-07-04-03-02-7b0a6d7e.gz"
