"""Packing lines into records and calls within Firehose's limits; resending failed records only."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st
from mypy_boto3_firehose import FirehoseClient

from forebay.aws.firehose import (
    ATTEMPTS,
    MAX_CALL_BYTES,
    MAX_CALL_RECORDS,
    MAX_RECORD_BYTES,
    FirehoseSink,
)
from forebay.errors import UnacknowledgedError


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "PutRecord")


@dataclass
class RecordingFirehose:
    """A Firehose client that enforces the service's limits and answers like it."""

    #: The result of each call: an error to raise, or the indices of its failed records.
    script: list[Exception | set[int]] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    #: The stream of each call.
    streams: list[str] = field(default_factory=list)
    #: The members of the response for a failed record.
    failure: dict[str, str] = field(
        default_factory=lambda: {
            "ErrorCode": "ServiceUnavailableException",
            "ErrorMessage": "slow",
        }
    )

    def _next(self) -> set[int]:
        step = self.script.pop(0) if self.script else set()
        if isinstance(step, Exception):
            raise step
        return step

    def put_record(self, **request: Any) -> dict[str, Any]:
        self.calls.append(1)
        self.streams.append(request["DeliveryStreamName"])
        data = request["Record"]["Data"]
        assert len(data) <= MAX_RECORD_BYTES
        self._next()
        self.stored.append(data)
        return {"RecordId": "r"}

    def put_record_batch(self, **request: Any) -> dict[str, Any]:
        records = [record["Data"] for record in request["Records"]]
        self.calls.append(len(records))
        self.streams.append(request["DeliveryStreamName"])
        assert len(records) <= MAX_CALL_RECORDS
        assert sum(map(len, records)) <= MAX_CALL_BYTES
        assert all(len(record) <= MAX_RECORD_BYTES for record in records)
        failing = self._next() & set(range(len(records)))
        answers = []
        for index, record in enumerate(records):
            if index in failing:
                answers.append(self.failure)
            else:
                self.stored.append(record)
                answers.append({"RecordId": "r"})
        return {"FailedPutCount": len(failing), "RequestResponses": answers}


def put(firehose: RecordingFirehose, lines: Sequence[bytes]) -> Collection[int]:
    """Put lines to a stream; return the indexes of the lines that it did not acknowledge."""
    sink = FirehoseSink(cast("FirehoseClient", firehose), ["s"], sleep=lambda _: None)
    try:
        sink.put(lines)
    except UnacknowledgedError as exc:
        return exc.indexes
    return set()


@settings(max_examples=50)
@given(sizes=st.lists(st.sampled_from([10, 5000, 400_000, MAX_RECORD_BYTES]), max_size=30))
def test_every_line_arrives_once_in_order_within_the_limits(sizes: list[int]) -> None:
    firehose = RecordingFirehose()
    lines = [bytes([65 + index]) * (size - 1) + b"\n" for index, size in enumerate(sizes)]
    assert put(firehose, lines) == set()
    assert b"".join(firehose.stored) == b"".join(lines)


def test_many_small_lines_share_one_record_and_one_call() -> None:
    firehose = RecordingFirehose()
    put(firehose, [b"x" * 199 + b"\n"] * 500)
    assert firehose.calls == [1]


@pytest.mark.parametrize(("last", "calls"), [(98_304, [5]), (98_305, [4, 1])])
def test_a_call_is_filled_to_its_last_byte_and_not_beyond(last: int, calls: list[int]) -> None:
    firehose = RecordingFirehose()
    sizes = [MAX_RECORD_BYTES] * 4 + [last]
    assert put(firehose, [b"x" * (size - 1) + b"\n" for size in sizes]) == set()
    assert firehose.calls == calls


@pytest.mark.parametrize("failure", [{"ErrorCode": "InternalFailure"}, {}])
def test_only_the_failed_records_of_a_batch_are_sent_again(failure: dict[str, str]) -> None:
    """A record is stored if its response has an id, and only then."""
    firehose = RecordingFirehose(script=[{1}], failure=failure)
    lines = [bytes([65 + index]) * (MAX_RECORD_BYTES - 1) + b"\n" for index in range(4)]
    assert put(firehose, lines) == set()
    assert firehose.calls == [4, 1]
    assert sorted(firehose.stored) == lines


def test_only_records_that_keep_failing_are_named() -> None:
    firehose = RecordingFirehose(script=[{0, 2}, {0, 1}, {0, 1}, {0, 1}])
    lines = [bytes([65 + index]) * (MAX_RECORD_BYTES - 1) + b"\n" for index in range(4)]
    assert put(firehose, lines) == {0, 2}
    assert firehose.stored == [lines[1], lines[3]]


@pytest.mark.parametrize(
    ("last", "failure", "reason"),
    [
        ({0, 1}, {"ErrorCode": "InternalFailure", "ErrorMessage": "slow"}, "slow"),
        ({0, 1}, {"ErrorCode": "InternalFailure"}, None),
        (ReadTimeoutError(endpoint_url="there"), {}, 'Read timeout on endpoint URL: "there"'),
    ],
)
def test_the_error_has_the_reason_of_the_last_failure(
    last: Exception | set[int], failure: dict[str, str], reason: str | None
) -> None:
    script = [*[refusal("InternalFailure")] * (ATTEMPTS - 1), last]
    firehose = RecordingFirehose(script=script, failure=failure)
    sink = FirehoseSink(cast("FirehoseClient", firehose), ["s"], sleep=lambda _: None)
    with pytest.raises(UnacknowledgedError) as raised:
        sink.put([b"x" * MAX_RECORD_BYTES] * 2)
    assert (raised.value.indexes, raised.value.reason) == ({0, 1}, reason)


@pytest.mark.parametrize(
    "error",
    [
        refusal("ServiceUnavailableException"),
        refusal("InternalFailure"),
        refusal("ThrottlingException"),
        ReadTimeoutError(endpoint_url="http://127.0.0.1"),
    ],
)
def test_transient_errors_are_retried_a_few_times(error: Exception) -> None:
    firehose = RecordingFirehose(script=[error] * (ATTEMPTS - 1))
    assert put(firehose, [b"x\n"]) == set()
    firehose = RecordingFirehose(script=[error] * 100)
    assert put(firehose, [b"x\n", b"y\n"]) == {0, 1}
    assert len(firehose.calls) == ATTEMPTS


@pytest.mark.parametrize(
    "code", ["ResourceNotFoundException", "AccessDeniedException", "InvalidArgumentException"]
)
def test_final_errors_are_not_retried(code: str) -> None:
    firehose = RecordingFirehose(script=[refusal(code)] * 100)
    assert put(firehose, [b"x\n"]) == {0}
    assert len(firehose.calls) == 1


def test_retries_end_with_their_time() -> None:
    clock = iter([0.0, 1.0, 99.0, 99.0])
    firehose = RecordingFirehose(script=[refusal("ServiceUnavailableException")] * 100)
    sink = FirehoseSink(
        cast("FirehoseClient", firehose), ["s"], sleep=lambda _: None, clock=lambda: next(clock)
    )
    with pytest.raises(UnacknowledgedError, match="no"):
        sink.put([b"x\n"])
    assert len(firehose.calls) == 2


def test_calls_are_spread_over_the_streams() -> None:
    firehose = RecordingFirehose()
    sink = FirehoseSink(cast("FirehoseClient", firehose), ["a", "b", "c"])
    for _ in range(100):
        sink.put([b"x\n"])
    counts = {name: firehose.streams.count(name) for name in "abc"}
    assert sum(counts.values()) == 100
    assert min(counts.values()) > 10


def test_records_that_one_stream_refuses_go_to_the_next() -> None:
    """Each stream has its own quota, so another stream may still accept records."""
    firehose = RecordingFirehose(script=[refusal("ServiceUnavailableException")] * 2)
    sink = FirehoseSink(cast("FirehoseClient", firehose), ["a", "b", "c"], sleep=lambda _: None)
    sink.put([b"x\n"])
    assert sorted(firehose.streams) == ["a", "b", "c"]


def test_functions_restored_from_one_snapshot_do_not_choose_alike() -> None:
    chosen = []
    for _ in range(40):
        random.seed(1)  # a restored snapshot leaves the generator in the same state
        firehose = RecordingFirehose()
        FirehoseSink(cast("FirehoseClient", firehose), ["a", "b"]).put([b"x\n"])
        chosen += firehose.streams
    assert set(chosen) == {"a", "b"}
