"""The faults that can be turned on, as a client sees them."""

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.fixtures.emulator import Emulator
from tests.fixtures.firehose import FirehoseServer, Stream, deploy_stream


@pytest.fixture
def firehose(reused_firehose: FirehoseServer) -> FirehoseServer:
    """A running server that other tests have used before."""
    return reused_firehose


def put(server: FirehoseServer, stream: Stream, data: bytes, **config: Any) -> None:
    server.client(**config).put_record(DeliveryStreamName=stream.name, Record={"Data": data})


def put_numbers(server: FirehoseServer, stream: Stream, numbers: range) -> Any:
    records: Any = [{"Data": f"{number}\n".encode()} for number in numbers]
    return server.client().put_record_batch(DeliveryStreamName=stream.name, Records=records)


def test_throttling_stores_nothing(firehose: FirehoseServer, stream: Stream) -> None:
    firehose.set_faults(throttle=1.0)
    for call in (
        lambda: put(firehose, stream, b"a"),
        lambda: put_numbers(firehose, stream, range(2)),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        answer: Any = caught.value.response
        assert answer["Error"] == {"Code": "ServiceUnavailableException", "Message": "Slow down."}
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503

    firehose.set_faults()
    put(firehose, stream, b"after\n")
    firehose.flush()
    assert stream.lines() == ["after"]


def test_the_sdk_gets_through_throttling_by_itself(
    firehose: FirehoseServer, stream: Stream
) -> None:
    firehose.set_faults(throttle=0.5, seed=3)

    for number in range(5):
        retries = {"total_max_attempts": 20, "mode": "standard"}
        put(firehose, stream, f"{number}\n".encode(), retries=retries)
    firehose.set_faults()
    firehose.flush()

    assert sorted(map(int, stream.lines())) == list(range(5))


def test_a_partial_failure_refuses_exactly_the_named_records(
    firehose: FirehoseServer, stream: Stream
) -> None:
    firehose.set_faults(partial_failure=0.5, seed=1)
    answer = put_numbers(firehose, stream, range(200))
    firehose.flush()

    outcomes = answer["RequestResponses"]
    taken = [number for number, outcome in enumerate(outcomes) if "RecordId" in outcome]
    refused = [outcome for outcome in outcomes if "RecordId" not in outcome]
    assert answer["FailedPutCount"] == len(refused)
    assert 50 < len(refused) < 150
    assert {outcome["ErrorCode"] for outcome in refused} == {"ServiceUnavailableException"}
    assert list(map(int, stream.lines())) == taken


def test_a_whole_batch_may_fail_record_by_record(firehose: FirehoseServer, stream: Stream) -> None:
    firehose.set_faults(partial_failure=1.0)

    assert put_numbers(firehose, stream, range(5))["FailedPutCount"] == 5
    firehose.flush()
    assert stream.object_keys() == []


def test_duplicates_arrive_next_to_the_record_and_in_later_objects(
    firehose: FirehoseServer, stream: Stream
) -> None:
    firehose.set_faults(duplicate=1.0, seed=1)
    put_numbers(firehose, stream, range(100))
    firehose.flush()

    assert Counter(map(int, stream.lines())) == dict.fromkeys(range(100), 2)
    assert len(stream.object_keys()) == 2


def test_reordering_shuffles_records_and_objects(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 900}
    stream = deploy_stream(emulator, BufferingHints=hints)
    firehose.set_faults(reorder=1.0, seed=5)
    put_numbers(firehose, stream, range(100))
    put(firehose, stream, b"x" * 1_020_000 + b"\n")
    put(firehose, stream, b"x" * 1_020_000 + b"\n")  # the first object is due …
    put_numbers(firehose, stream, range(100, 200))
    firehose.flush()

    bodies = [stream.body(key).split(b"\n")[:-1] for key in stream.object_keys()]
    numbers = [[int(line) for line in body if len(line) < 10] for body in bodies]
    assert sorted(number for part in numbers for number in part) == list(range(200))
    assert all(part != sorted(part) for part in numbers)


def test_an_object_waits_for_a_later_one_when_reordering(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 900}
    stream = deploy_stream(emulator, BufferingHints=hints)
    firehose.set_faults(reorder=1.0, seed=5)
    for letter in "abcdefghijklmnop":  # two records fill an object
        put(firehose, stream, letter.encode() * 1_020_000)
    firehose.flush()

    log = firehose.log.read_text().splitlines()
    delivered = [entry.rpartition("/")[2] for entry in log if " delivered " in entry]
    content = {key.rpartition("/")[2]: min(stream.body(key)) for key in stream.object_keys()}
    order = [content[name] for name in delivered if name in content]
    assert bytes(sorted(order)) == b"acegikmo"
    assert order != sorted(order)


@pytest.mark.parametrize(
    ("down", "error"), [("error", ClientError), ("reset", ConnectionClosedError)]
)
def test_a_server_that_is_down_stores_nothing(
    firehose: FirehoseServer, stream: Stream, down: str, error: type[Exception]
) -> None:
    put(firehose, stream, b"before\n")
    firehose.set_faults(down=down)
    with pytest.raises(error, match=r"InternalFailure|Connection was closed"):
        put(firehose, stream, b"never\n")
    assert firehose.request("GET", "/_health")[0] == 200

    firehose.set_faults()
    firehose.flush()
    assert stream.lines() == ["before"]


def test_a_lost_acknowledgement_stores_the_records(
    firehose: FirehoseServer, stream: Stream
) -> None:
    firehose.set_faults(lost_ack=1.0)
    with pytest.raises(ClientError, match="InternalFailure"):
        put(firehose, stream, b"stored\n")
    firehose.flush()

    assert stream.lines() == ["stored"]


def test_switches_are_read_back_replaced_and_refused(firehose: FirehoseServer) -> None:
    firehose.set_faults(throttle=0.25, seed=9)
    assert firehose.request("GET", "/_faults")[1]["throttle"] == 0.25

    wrong_ones: list[Any] = [{"throttel": 1}, {"throttle": 2}, {"down": "perhaps"}, [], "x"]
    for wrong in wrong_ones:
        status, body = firehose.request("PUT", "/_faults", wrong)
        assert status == 400
        assert body["error"]
    assert firehose.request("GET", "/_faults")[1]["throttle"] == 0.25

    firehose.set_faults(duplicate=1)
    assert firehose.request("GET", "/_status")[1]["faults"] == {
        "throttle": 0.0,
        "partial_failure": 0.0,
        "duplicate": 1,
        "reorder": 0.0,
        "lost_ack": 0.0,
        "down": "no",
        "seed": None,
    }
