"""Parsing of requests and formatting of answers, without a server."""

import base64
import json
from typing import Any

import pytest

from local.firehose.wire import (
    BATCH_MAX_BYTES,
    RECORD_MAX_BYTES,
    WireError,
    parse_put,
    put_record_batch_answer,
)


def entry(data: bytes) -> dict[str, str]:
    return {"Data": base64.b64encode(data).decode()}


def batch(*records: dict[str, str], name: str = "commands") -> bytes:
    return json.dumps({"DeliveryStreamName": name, "Records": records}).encode()


def test_a_record_of_the_largest_size_passes() -> None:
    data = b"x" * RECORD_MAX_BYTES
    body = json.dumps({"DeliveryStreamName": "commands", "Record": entry(data)}).encode()

    put = parse_put("PutRecord", body)

    assert (put.stream, put.records, put.is_batch) == ("commands", [data], False)


def test_a_batch_of_the_largest_size_passes() -> None:
    records = [b"x" * 1_000_000] * 4 + [b"y" * (BATCH_MAX_BYTES - 4_000_000)]

    assert parse_put("PutRecordBatch", batch(*map(entry, records))).records == records


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", "ValidationException", "JSON"),
        (b"[]", "ValidationException", "object"),
        (b"{}", "ValidationException", "DeliveryStreamName"),
        (batch(entry(b"a"), name="a/b"), "ValidationException", "DeliveryStreamName"),
        (batch(entry(b"a"), name="a" * 65), "ValidationException", "DeliveryStreamName"),
        (b'{"DeliveryStreamName":"s"}', "ValidationException", "Records"),
        (batch(), "ValidationException", "Records"),
        (batch(*[entry(b"a")] * 501), "ValidationException", "500"),
        (b'{"DeliveryStreamName":"s","Records":[{}]}', "ValidationException", r"Records\.0\."),
        (b'{"DeliveryStreamName":"s","Records":[1]}', "ValidationException", r"Records\.0: "),
        (batch(entry(b"a"), {"Data": "a"}), "ValidationException", r"Records\.1\."),
        (batch({"Data": "YQ==\n"}), "ValidationException", "data"),
        (batch(entry(b"x" * (RECORD_MAX_BYTES + 1))), "ValidationException", "1024000"),
        (batch(*[entry(b"x" * 1_000_000)] * 5), "InvalidArgumentException", "4 MB"),
    ],
)
def test_puts_that_the_service_refuses_are_refused(body: bytes, code: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        parse_put("PutRecordBatch", body)

    assert caught.value.code == code
    assert caught.value.status == 400
    assert json.loads(caught.value.body())["__type"] == code


def test_a_batch_answer_is_aligned_with_its_request() -> None:
    answer: dict[str, Any] = json.loads(put_record_batch_answer([True, False, True]))

    assert answer["FailedPutCount"] == 1
    assert ["RecordId" in outcome for outcome in answer["RequestResponses"]] == [True, False, True]
    assert answer["RequestResponses"][1]["ErrorCode"] == "ServiceUnavailableException"
    ids = [outcome.get("RecordId") for outcome in answer["RequestResponses"]]
    assert len(set(ids)) == 3
