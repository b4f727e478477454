"""When objects are made, their names, and the behaviour while S3 does not answer."""

import json
import re
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from tests.fixtures.emulator import Emulator, wait_until
from tests.fixtures.firehose import (
    FirehoseServer,
    Line,
    Stream,
    deploy_stream,
    make_stream,
    wait_for_objects,
)

MIB = 1024 * 1024
KIB_400 = b"x" * 400 * 1024


@pytest.fixture
def firehose(reused_firehose: FirehoseServer) -> FirehoseServer:
    """A running server that other tests have used before."""
    return reused_firehose


def put(server: FirehoseServer, stream: Stream, data: bytes) -> None:
    server.client().put_record(DeliveryStreamName=stream.name, Record={"Data": data})


def test_a_full_buffer_is_delivered_without_a_flush(
    firehose: FirehoseServer, stream: Stream
) -> None:
    put(firehose, stream, KIB_400)
    put(firehose, stream, KIB_400)
    assert firehose.stream_status(stream.name)["objects_waiting"] == 0
    assert stream.object_keys() == []

    put(firehose, stream, KIB_400)  # the buffer exceeds 1 MiB now
    put(firehose, stream, b"next")

    (key,) = wait_for_objects(stream, 1)
    assert len(stream.body(key)) == 3 * len(KIB_400)
    wait_until(
        lambda: firehose.stream_status(stream.name)["buffered_records"] == 1,
        "only the next record is buffered",
    )


def test_an_object_is_over_its_size_by_one_put_at_most(
    firehose: FirehoseServer, stream: Stream
) -> None:
    client = firehose.client()
    for _ in range(8):
        client.put_record_batch(
            DeliveryStreamName=stream.name, Records=[{"Data": KIB_400}, {"Data": KIB_400}]
        )
    firehose.flush()

    sizes = [len(stream.body(key)) for key in stream.object_keys()]
    assert sum(sizes) == 16 * len(KIB_400)
    assert max(sizes) < MIB + 2 * len(KIB_400)


def test_a_buffer_is_delivered_when_its_interval_is_over(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    hints = {"SizeInMBs": 5, "IntervalInSeconds": 2}
    stream = deploy_stream(emulator, BufferingHints=hints)
    firehose.client().put_record_batch(
        DeliveryStreamName=stream.name, Records=[{"Data": b"a"}, {"Data": b"b"}]
    )
    status = firehose.stream_status(stream.name)
    assert (status["buffered_records"], status["buffered_bytes"]) == (2, 2)
    assert 0 <= status["oldest_age_seconds"] < 60

    (key,) = wait_for_objects(stream, 1)

    assert stream.body(key) == b"ab"
    delivered = emulator.s3.head_object(Bucket=stream.bucket, Key=key)["LastModified"]
    # Both times are in whole seconds, so the difference may be a second too small.
    assert (delivered - arrival_of_oldest(key)).total_seconds() >= 1


def test_an_interval_of_zero_delivers_within_seconds(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    hints = {"SizeInMBs": 5, "IntervalInSeconds": 0}
    stream = deploy_stream(emulator, BufferingHints=hints)
    put(firehose, stream, b"a")

    assert len(wait_for_objects(stream, 1)) == 1


def test_a_gzip_object_looks_as_firehose_makes_it(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stream = deploy_stream(
        emulator,
        CompressionFormat="GZIP",
        Prefix="commands/!{timestamp:yyyy/MM/dd/HH}/",
        ErrorOutputPrefix="delivery-errors/!{firehose:error-output-type}/",
    )
    before = datetime.now(UTC).replace(microsecond=0)
    put(firehose, stream, b"first\n")
    after = datetime.now(UTC)
    put(firehose, stream, b"second\n" * 1000)
    firehose.flush()

    (key,) = stream.object_keys()
    head = emulator.s3.head_object(Bucket=stream.bucket, Key=key)
    oldest = arrival_of_oldest(key)
    assert before <= oldest <= after
    assert key.startswith(f"commands/{oldest:%Y/%m/%d/%H}/{stream.name}-1-{oldest:%Y-%m-%d-%H}-")
    assert re.search(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.gz$", key)
    assert head["ContentEncoding"] == "gzip"
    assert head["ContentType"] == "application/octet-stream"
    assert head["ContentLength"] < 1000
    assert stream.body(key) == b"first\n" + b"second\n" * 1000


def test_a_stream_made_by_cloudformation_is_read(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stack = deploy_stream(emulator).name  # for its bucket and its name
    template = {
        "Resources": {
            "Commands": {
                "Type": "AWS::KinesisFirehose::DeliveryStream",
                "Properties": {
                    "DeliveryStreamType": "DirectPut",
                    "ExtendedS3DestinationConfiguration": {
                        "BucketARN": f"arn:aws:s3:::{stack}",
                        "RoleARN": "arn:aws:iam::000000000000:role/firehose",
                        "Prefix": "commands/!{timestamp:yyyy/MM/dd/HH}/",
                        "BufferingHints": {"SizeInMBs": "1", "IntervalInSeconds": 60},
                        "CompressionFormat": "GZIP",
                    },
                },
            }
        }
    }
    cloudformation = emulator.client("cloudformation")
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1}
    )
    resources = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    stream = Stream(emulator, resources[0]["PhysicalResourceId"], stack)
    put(firehose, stream, b"made\n")
    firehose.flush()

    configuration = firehose.stream_status(stream.name)["configuration"]
    assert (configuration["size_mib"], configuration["interval_seconds"]) == (1, 60)
    assert stream.lines() == ["made"]
    assert stream.object_keys()[0].startswith("commands/")


def test_a_stream_that_was_redeployed_is_followed_after_a_restart(
    firehose: FirehoseServer, stream: Stream
) -> None:
    put(firehose, stream, b"waits\n")
    firehose.kill()
    stream.change(
        BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 1},
        Prefix="moved/!{timestamp:yyyy}/",
    )
    firehose.start()

    put(firehose, stream, b"follows\n")

    (key,) = wait_for_objects(stream, 1)
    assert key.startswith("moved/")
    assert f"/{stream.name}-2-" in key
    assert stream.lines() == ["waits", "follows"]


def test_a_deleted_stream_takes_no_records_and_delivers_its_records_after_its_return(
    firehose: FirehoseServer, stream: Stream
) -> None:
    put(firehose, stream, b"taken\n")
    firehose.kill()
    stream.emulator.firehose.delete_delivery_stream(DeliveryStreamName=stream.name)
    firehose.start()

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        put(firehose, stream, b"not taken\n")
    assert firehose.request("POST", "/_flush?timeout=0.3")[0] == 504
    assert stream.object_keys() == []

    make_stream(stream.emulator, stream.name)
    firehose.flush()

    assert stream.lines() == ["taken"]


def test_while_s3_is_away_puts_go_on(
    emulator: Emulator, stream: Stream, line: Line, firehose: FirehoseServer
) -> None:
    firehose.stop()
    firehose.endpoint_url = line.url
    firehose.start()
    put(firehose, stream, b"0\n")
    line.cut()
    for _ in range(10):
        put(firehose, stream, b"x" * 1_000_000 + b"\n")
    wait_until(
        lambda: firehose.stream_status(stream.name)["last_error"] is not None, "a try failed"
    )
    status, body = firehose.request("POST", "/_flush?timeout=0.3")
    assert status == 504
    assert "does not have everything" in body["error"]
    assert stream.object_keys() == []

    line.mend()
    firehose.flush()

    status_after = firehose.stream_status(stream.name)
    assert (status_after["last_error"], status_after["buffered_records"]) == (None, 0)
    assert status_after["delivered_records"] == 11
    sizes = sorted(len(stream.body(key)) for key in stream.object_keys())
    assert sum(sizes) == 2 + 10 * 1_000_001
    assert len(sizes) == 5
    assert sizes[-1] < MIB + 1_000_001


def test_delivery_resumes_by_itself_when_s3_is_back(
    emulator: Emulator, line: Line, firehose: FirehoseServer
) -> None:
    stream = deploy_stream(emulator, BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 1})
    firehose.stop()
    firehose.endpoint_url = line.url
    firehose.start()
    put(firehose, stream, b"before\n")
    line.cut()
    put(firehose, stream, b"during\n")
    wait_until(
        lambda: firehose.stream_status(stream.name)["last_error"] is not None, "a try failed"
    )

    line.mend()

    wait_for_objects(stream, 1)
    wait_until(lambda: set(stream.lines()) == {"before", "during"}, "both were delivered")


def test_a_bucket_that_is_missing_is_waited_for(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stream = deploy_stream(emulator, BucketARN="arn:aws:s3:::made-later")
    put(firehose, stream, b"patient\n")
    assert firehose.request("POST", "/_flush?timeout=0.3")[0] == 504
    assert "NoSuchBucket" in firehose.stream_status(stream.name)["last_error"]

    emulator.s3.create_bucket(Bucket="made-later")
    firehose.flush()

    assert Stream(emulator, stream.name, "made-later").lines() == ["patient"]


def arrival_of_oldest(key: str) -> datetime:
    """Parse the time in an object's name."""
    match = re.search(r"-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-[0-9a-f-]{36}(\.gz)?$", key)
    assert match, key
    return datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)


def test_a_flush_that_gives_up_at_once_does_not_strand_an_object(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    for attempt in range(20):
        stream = deploy_stream(emulator)
        put(firehose, stream, b"a\n")
        firehose.request("POST", f"/_flush?timeout={0.0001 * (attempt + 1)}")

        wait_until(
            lambda name=stream.name: firehose.stream_status(name)["objects_waiting"] == 0,  # type: ignore[misc]
            "what was sealed was delivered",
            timeout_seconds=5,
        )
