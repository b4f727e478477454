"""Firehose's AWS JSON 1.1: parses requests, and formats answers and errors.

Limits and messages are those of the service: the API reference (PutRecord, PutRecordBatch), and
users' reports of the exact wording.
"""

import binascii
import re
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

TARGET_PREFIX = "Firehose_20150804."
CONTENT_TYPE = "application/x-amz-json-1.1"

RECORD_MAX_BYTES = 1_024_000  # "up to 1,000 KiB in size", before base64
BATCH_MAX_RECORDS = 500
BATCH_MAX_BYTES = 4 * 1024 * 1024  # of data, before base64
REQUEST_MAX_BYTES = 16 * 1024 * 1024  # of the HTTP body: any valid batch fits, with any whitespace

_STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


class WireError(Exception):
    """An error answer in AWS's format."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def body(self) -> bytes:
        """Return the JSON document of the answer."""
        return orjson.dumps({"__type": self.code, "message": self.message})


def build_slow_down() -> WireError:
    """Return the error for a service that is over its limits or can't store records now."""
    return WireError("ServiceUnavailableException", "Slow down.", 503)


def build_internal_failure() -> WireError:
    """Return the error after which "the write might have completed or it might have failed"."""
    return WireError("InternalFailure", "The request processing has failed.", 500)


@dataclass(frozen=True)
class Put:
    """A PutRecord or PutRecordBatch that is within the limits."""

    stream: str
    records: list[bytes]
    is_batch: bool


def parse_put(operation: str, body: bytes) -> Put:
    """Decode and check a put.

    Raises:
        WireError: the service would have refused the put.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError("SerializationException", f"not JSON: {error}") from error
    if not isinstance(request, dict):
        raise WireError("SerializationException", "the request is not a JSON object")
    stream = _read_stream_name(request)
    if operation == "PutRecord":
        record = request.get("Record")
        return Put(stream, [_decode_data(record, "record")], is_batch=False)
    entries = request.get("Records")
    if not isinstance(entries, list):
        raise _describe_violation("records", "Member must not be null")
    if not 1 <= len(entries) <= BATCH_MAX_RECORDS:
        limit = "greater than or equal to 1" if not entries else f"less than or equal to {500}"
        raise _describe_violation("records", f"Member must have length {limit}")
    records = [
        _decode_data(entry, f"records.{number}.member")
        for number, entry in enumerate(entries, start=1)
    ]
    if sum(map(len, records)) > BATCH_MAX_BYTES:
        raise WireError("InvalidArgumentException", "Records size exceeds 4 MB limit")
    return Put(stream, records, is_batch=True)


def put_record_answer() -> bytes:
    """Return the answer to a PutRecord that was stored."""
    return orjson.dumps({"RecordId": _make_record_id(), "Encrypted": False})


def put_record_batch_answer(is_accepted: list[bool]) -> bytes:
    """Return the answer to a PutRecordBatch: one result per record, in the request's order."""
    results = [
        {"RecordId": _make_record_id()}
        if accepted
        else {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
        for accepted in is_accepted
    ]
    failed = is_accepted.count(False)
    return orjson.dumps({"FailedPutCount": failed, "Encrypted": False, "RequestResponses": results})


def _make_record_id() -> str:
    return f"{uuid.uuid4().hex}{uuid.uuid4().hex}"


def _read_stream_name(request: dict[str, Any]) -> str:
    name = request.get("DeliveryStreamName")
    if not isinstance(name, str):
        raise _describe_violation("deliveryStreamName", "Member must not be null")
    if not _STREAM_NAME.fullmatch(name):
        raise _describe_violation(
            "deliveryStreamName",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+, and have length "
            "less than or equal to 64",
        )
    return name


def _decode_data(record: object, path: str) -> bytes:
    encoded = record.get("Data") if isinstance(record, dict) else None
    if not isinstance(encoded, str):
        raise _describe_violation(f"{path}.data", "Member must not be null")
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError as error:
        raise WireError("SerializationException", f"{path}.data is not base64") from error
    if len(data) > RECORD_MAX_BYTES:
        raise _describe_violation(
            f"{path}.data", f"Member must have length less than or equal to {RECORD_MAX_BYTES}"
        )
    return data


def _describe_violation(path: str, constraint: str) -> WireError:
    return WireError(
        "ValidationException",
        f"1 validation error detected: Value at '{path}' failed to satisfy constraint: "
        f"{constraint}",
    )
