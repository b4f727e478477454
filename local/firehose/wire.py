"""Firehose's AWS JSON 1.1: parses requests, and formats answers and errors.

The limits are those of the service (API reference, PutRecord and PutRecordBatch).
"""

import binascii
import uuid
from dataclasses import dataclass
from typing import Annotated

import orjson
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

TARGET_PREFIX = "Firehose_20150804."
CONTENT_TYPE = "application/x-amz-json-1.1"

RECORD_MAX_BYTES = 1_024_000  # "up to 1,000 KiB in size", before base64
BATCH_MAX_RECORDS = 500
BATCH_MAX_BYTES = 4 * 1024 * 1024  # of data, before base64
REQUEST_MAX_BYTES = 16 * 1024 * 1024  # of the HTTP body: any valid batch fits, with any whitespace


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


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic's protocol
    return binascii.a2b_base64(text, strict_mode=True)


class _Record(BaseModel):
    data: Annotated[
        bytes, BeforeValidator(_decode), Field(alias="Data", max_length=RECORD_MAX_BYTES)
    ]


class _Request(BaseModel):
    stream: str = Field(alias="DeliveryStreamName", pattern="^[a-zA-Z0-9_.-]{1,64}$")


class _PutRecord(_Request):
    record: _Record = Field(alias="Record")


class _PutRecordBatch(_Request):
    records: list[_Record] = Field(alias="Records", min_length=1, max_length=BATCH_MAX_RECORDS)


def parse_put(operation: str, body: bytes) -> Put:
    """Decode and check a put.

    Raises:
        WireError: the service would have refused the put.
    """
    try:
        if operation == "PutRecord":
            put = _PutRecord.model_validate_json(body)
            return Put(put.stream, [put.record.data], is_batch=False)
        batch = _PutRecordBatch.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        raise WireError("ValidationException", f"{place}: {fault['msg']}") from error
    records = [record.data for record in batch.records]
    if sum(map(len, records)) > BATCH_MAX_BYTES:
        raise WireError("InvalidArgumentException", "Records size exceeds 4 MB limit")
    return Put(batch.stream, records, is_batch=True)


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
