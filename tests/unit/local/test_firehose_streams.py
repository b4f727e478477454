"""The configuration read from a described stream, and the refusal of unsupported features."""

from dataclasses import asdict
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


def append_delimiter(**parameters: str) -> dict[str, Any]:
    return {
        "Enabled": True,
        "Processors": [
            {
                "Type": "AppendDelimiterToRecord",
                "Parameters": [
                    {"ParameterName": name, "ParameterValue": value}
                    for name, value in parameters.items()
                ],
            }
        ],
    }


@pytest.mark.parametrize("kind", ["ExtendedS3DestinationDescription", "S3DestinationDescription"])
def test_a_description_is_read(kind: str) -> None:
    config = StreamConfig.from_description(description(kind))

    assert config == StreamConfig(
        name="commands",
        version="7",
        bucket="archive",
        prefix="commands/!{timestamp:yyyy/MM/dd/HH}/",
        error_output_prefix="delivery-errors/!{firehose:error-output-type}/",
        size_mib=2,
        interval_seconds=60,
        is_gzip=True,
        extension=".gz",
        delimiter="",
    )
    assert StreamConfig(**asdict(config)) == config


def test_what_is_left_out_is_awss_default() -> None:
    config = StreamConfig.from_description(
        description(Prefix=None, BufferingHints=None, CompressionFormat=None)
    )

    assert (config.size_mib, config.interval_seconds) == (5, 300)
    assert (config.prefix, config.is_gzip, config.extension) == ("", False, "")


def test_hints_may_be_strings_as_a_template_passes_them() -> None:
    hints = {"SizeInMBs": "128", "IntervalInSeconds": "0"}

    config = StreamConfig.from_description(description(BufferingHints=hints))

    assert (config.size_bytes, config.interval_seconds) == (128 * 1024 * 1024, 0)


@pytest.mark.parametrize(
    ("parameters", "delimiter"),
    [({}, "\n"), ({"Delimiter": "\\n"}, "\n"), ({"Delimiter": "||"}, "||")],
)
def test_a_delimiter_is_appended_when_asked_for(parameters: dict[str, str], delimiter: str) -> None:
    processing = append_delimiter(**parameters)

    assert (
        StreamConfig.from_description(description(ProcessingConfiguration=processing)).delimiter
        == delimiter
    )
    processing["Enabled"] = False
    assert not StreamConfig.from_description(
        description(ProcessingConfiguration=processing)
    ).delimiter


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"CompressionFormat": "Snappy"}, "Snappy"),
        ({"BufferingHints": {"SizeInMBs": 129, "IntervalInSeconds": 60}}, "129"),
        ({"BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 901}}, "901"),
        ({"BufferingHints": {"SizeInMBs": "a", "IntervalInSeconds": 60}}, "integers"),
        ({"Prefix": "!{partitionKeyFromQuery:tenant}/"}, "tenant"),
        ({"Prefix": "!{firehose:random-string}/"}, "random-string"),
        ({"Prefix": "a/!{timestamp:yyyy"}, "outside"),
        ({"Prefix": "!{timestamp:YYYY/MM}/"}, "YYYY"),
        ({"Prefix": "!{timestamp:'year'yyyy}/"}, "year"),
        ({"DynamicPartitioningConfiguration": {"Enabled": True}}, "DynamicPartitioning"),
        ({"CustomTimeZone": "Asia/Tokyo"}, "CustomTimeZone"),
        ({"S3BackupMode": "Enabled"}, "S3BackupMode"),
        (
            {"ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda"}]}},
            "Lambda",
        ),
    ],
)
def test_what_is_not_done_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
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
        ("", "2018/08/07/04/"),
        ("all/", "all/2018/08/07/04/"),
        ("commands/!{timestamp:yyyy/MM/dd/HH}/", "commands/2018/08/07/04/"),
        ("y=!{timestamp:yyyy}/!{timestamp:HH.mm-ss}/", "y=2018/04.03-02/"),
    ],
)
def test_a_prefix_without_a_timestamp_gets_the_hour(prefix: str, evaluated: str) -> None:
    assert evaluate_prefix(prefix, datetime(2018, 8, 7, 4, 3, 2, tzinfo=UTC)) == evaluated


def test_an_object_is_named_after_stream_version_and_oldest_arrival() -> None:
    config = StreamConfig.from_description(description())
    key = config.object_key(datetime(2018, 8, 7, 4, 3, 2, tzinfo=UTC), "7b0a6d7e")
    assert key == "commands/2018/08/07/04/commands-7-2018-08-07-04-03-02-7b0a6d7e.gz"
