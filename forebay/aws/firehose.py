"""The delivery streams: packs lines into records and puts them, checking each record's result.

Limits and rules: Amazon Data Firehose API reference, PutRecord and PutRecordBatch. A failed put may
have stored its records; repeating it creates duplicates, which apply ignores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from forebay.codec import MAX_LINE_BYTES
from forebay.errors import UnacknowledgedError
from forebay.retry import compute_backoff_seconds

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

MAX_RECORD_BYTES = MAX_LINE_BYTES
MAX_CALL_RECORDS = 500
MAX_CALL_BYTES = 4 * 1024 * 1024

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2
DEADLINE_SECONDS = 5.0  # no attempt begins after it; leaves time for the fallback

# From the operating system: the state of `random` would be part of a Lambda snapshot, and all
# functions restored from it would choose the same stream and retry at the same time.
_CHANCE = SystemRandom()

#: Errors that a retry can't change; all others are retried.
_FINAL = frozenset(
    {
        "AccessDeniedException",
        "InvalidArgumentException",
        "InvalidKMSResourceException",
        "InvalidSourceException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)


@dataclass(frozen=True, slots=True)
class _Record:
    """A record of several lines: Firehose charges for each record in steps of 5 KB."""

    data: bytes
    lines: range


class _Failures(NamedTuple):
    """The failed records of one attempt."""

    records: Sequence[_Record]
    #: The last error, if Firehose gave one.
    reason: str | None = None
    #: True if a retry can't help.
    is_final: bool = False


_NO_FAILURES = _Failures(())


class FirehoseSink:
    """Puts lines to one of the delivery streams, and retries on the next stream.

    Quotas are per stream, and commands need no order, so any stream will do.
    """

    def __init__(
        self,
        client: FirehoseClient,
        streams: Sequence[str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._streams = streams
        self._sleep = sleep
        self._clock = clock

    def put(self, lines: Sequence[bytes]) -> None:
        """Put all lines.

        Args:
            lines: encoded commands, newline included, each within `MAX_RECORD_BYTES`.

        Raises:
            UnacknowledgedError: no stream acknowledged some of the lines.
        """
        pending: Sequence[_Record] = list(_pack(lines))
        reason: str | None = None
        deadline = self._clock() + DEADLINE_SECONDS
        first_stream = _CHANCE.randrange(len(self._streams)) if len(self._streams) > 1 else 0
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(compute_backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS))
            stream = self._streams[(first_stream + attempt) % len(self._streams)]
            pending, reason, is_final = self._put_once(stream, pending)
            if not pending:
                return
            if is_final or self._clock() >= deadline:
                break
        raise UnacknowledgedError({index for record in pending for index in record.lines}, reason)

    def _put_once(self, stream: str, records: Sequence[_Record]) -> _Failures:
        failed_records: list[_Record] = []
        reason: str | None = None
        is_final = False
        for call in _split_calls(records):
            try:
                failures = self._call_stream(stream, call)
            except ClientError as exc:
                code = exc.response.get("Error", {}).get("Code")
                failures = _Failures(call, str(exc), code in _FINAL)
            except BotoCoreError as exc:
                failures = _Failures(call, str(exc))
            if failures.records:
                failed_records += failures.records
                reason = failures.reason
                is_final = is_final or failures.is_final
        return _Failures(failed_records, reason, is_final)

    def _call_stream(self, stream: str, records: Sequence[_Record]) -> _Failures:
        if len(records) == 1:
            self._client.put_record(DeliveryStreamName=stream, Record={"Data": records[0].data})
            return _NO_FAILURES
        answer = self._client.put_record_batch(
            DeliveryStreamName=stream, Records=[{"Data": record.data} for record in records]
        )
        if not answer["FailedPutCount"]:
            return _NO_FAILURES
        outcomes = answer["RequestResponses"]  # one per record, in the request's order
        failed = [
            (record, outcome)
            for record, outcome in zip(records, outcomes, strict=True)
            if outcome.get("ErrorCode") or not outcome.get("RecordId")
        ]
        reason = failed[0][1].get("ErrorMessage") if failed else None
        return _Failures([record for record, _ in failed], reason)


def _pack(lines: Sequence[bytes]) -> Iterator[_Record]:
    start = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) > MAX_RECORD_BYTES:
            yield _Record(b"".join(lines[start:index]), range(start, index))
            start, size = index, 0
        size += len(line)
    if size:
        yield _Record(b"".join(lines[start:]), range(start, len(lines)))


def _split_calls(records: Sequence[_Record]) -> Iterator[list[_Record]]:
    call: list[_Record] = []
    size = 0
    for record in records:
        if call and (len(call) == MAX_CALL_RECORDS or size + len(record.data) > MAX_CALL_BYTES):
            yield call
            call, size = [], 0
        call.append(record)
        size += len(record.data)
    if call:
        yield call
