"""The running server, called with boto3's own client."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.firehose import FirehoseServer, Stream, deploy_stream


@pytest.fixture
def firehose(reused_firehose: FirehoseServer) -> FirehoseServer:
    """A running server that other tests have used before."""
    return reused_firehose


def error_code(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer: Any = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_records_are_concatenated_raw_in_their_order(
    firehose: FirehoseServer, stream: Stream
) -> None:
    client = firehose.client()
    client.put_record(DeliveryStreamName=stream.name, Record={"Data": b"one\n"})
    answer = client.put_record_batch(
        DeliveryStreamName=stream.name,
        Records=[{"Data": b"two"}, {"Data": b""}, {"Data": b"\x00\xff"}, {"Data": b"three\n"}],
    )
    firehose.flush()

    assert answer["FailedPutCount"] == 0
    assert len({outcome["RecordId"] for outcome in answer["RequestResponses"]}) == 4
    (key,) = stream.object_keys()
    assert stream.body(key) == b"one\ntwo\x00\xffthree\n"


def test_an_unknown_stream_is_not_found(firehose: FirehoseServer) -> None:
    client = firehose.client()
    unknown = {"DeliveryStreamName": "nobody-made-it"}

    for call, arguments in (
        (client.put_record, {"Record": {"Data": b"a"}}),
        (client.put_record_batch, {"Records": [{"Data": b"a"}]}),
        (client.describe_delivery_stream, {}),
    ):
        assert error_code(call, **unknown, **arguments) == (400, "ResourceNotFoundException")
    assert "nobody-made-it" not in firehose.request("GET", "/_status")[1]["streams"]


def test_limits_are_the_services(firehose: FirehoseServer, stream: Stream) -> None:
    client = firehose.client(parameter_validation=False)
    largest = b"x" * 1_024_000
    name = {"DeliveryStreamName": stream.name}

    client.put_record(**name, Record={"Data": largest})
    client.put_record_batch(**name, Records=[{"Data": largest}] * 4)
    client.put_record_batch(**name, Records=[{"Data": b"x"}] * 500)

    assert error_code(client.put_record, **name, Record={"Data": largest + b"x"}) == (
        400,
        "ValidationException",
    )
    assert error_code(client.put_record_batch, **name, Records=[{"Data": b"x"}] * 501) == (
        400,
        "ValidationException",
    )
    for records in ([{"Data": largest}] * 5, [{"Data": largest}] * 20):
        assert error_code(client.put_record_batch, **name, Records=records) == (
            400,
            "InvalidArgumentException",
        )
    firehose.flush()
    assert sum(len(stream.body(key)) for key in stream.object_keys()) == 5 * len(largest) + 500


def test_control_plane_operations_reach_the_emulator(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stream = deploy_stream(emulator, Prefix="a/", CompressionFormat="GZIP")
    client = firehose.client()

    described = client.describe_delivery_stream(DeliveryStreamName=stream.name)
    listed = client.list_delivery_streams(Limit=1000)

    destination = described["DeliveryStreamDescription"]["Destinations"][0]
    assert destination["ExtendedS3DestinationDescription"]["Prefix"] == "a/"
    assert stream.name in listed["DeliveryStreamNames"]


def test_a_stream_that_can_not_be_done_faithfully_is_refused(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stream = deploy_stream(emulator, CompressionFormat="Snappy")

    with pytest.raises(ClientError, match="Snappy is not supported") as caught:
        firehose.client().put_record(DeliveryStreamName=stream.name, Record={"Data": b"a"})
    assert caught.value.response["Error"]["Code"] == "InvalidArgumentException"

    stream.change(CompressionFormat="GZIP")
    firehose.client().put_record(DeliveryStreamName=stream.name, Record={"Data": b"a"})


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("Firehose_20150804.PutRecord", b"{not json", "ValidationException"),
        ("Kinesis_20131202.PutRecord", b"{}", "UnknownOperationException"),
        ("", b"{}", "UnknownOperationException"),
        ("Firehose_20150804.MakeCoffee", b"{}", "InvalidArgumentException"),  # the emulator's
    ],
)
def test_requests_that_are_not_of_the_protocol_get_errors_in_its_format(
    firehose: FirehoseServer, target: str, body: bytes, code: str
) -> None:
    signed = AWSRequest("POST", f"{firehose.url}/", {"X-Amz-Target": target}, body)
    SigV4Auth(Credentials("test", "test"), "firehose", REGION).add_auth(signed)
    connection = http.client.HTTPConnection(urlsplit(firehose.url).netloc, timeout=20)
    connection.request("POST", "/", body, dict(signed.headers.items()))
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()

    assert answer.status == 400
    assert document["__type"] == code
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert answer.headers["x-amzn-RequestId"]


def test_the_server_listens_on_the_loopback_only(firehose: FirehoseServer) -> None:
    assert firehose.process is not None
    port = urlsplit(firehose.url).port
    with open("/proc/net/tcp") as v4, open("/proc/net/tcp6") as v6:  # noqa: PTH123
        listening = [line.split()[1] for line in [*v4, *v6] if line.split()[3] == "0A"]

    assert [address for address in listening if address.endswith(f":{port:04X}")] == [
        f"0100007F:{port:04X}"
    ]
