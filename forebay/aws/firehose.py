"""The delivery streams: packs lines into records and puts them, checking each record's result.

Limits and rules: Amazon Data Firehose API reference, PutRecord and PutRecordBatch. A failed put may
have stored its records; repeating it creates duplicates, which apply ignores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from forebay.codec import MAX_LINE_BYTES
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
        #: Why the last put failed, for the log.
        self.last_error: str | None = None

    def put(self, lines: Sequence[bytes]) -> set[int]:
        """Put all lines; return the indexes of lines that no stream acknowledged.

        Args:
            lines: encoded commands, newline included, each within `MAX_RECORD_BYTES`.
        """
        pending = list(_pack(lines))
        deadline = self._clock() + DEADLINE_SECONDS
        first_stream = _CHANCE.randrange(len(self._streams)) if len(self._streams) > 1 else 0
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(compute_backoff_seconds(attempt, first=FIRST_PAUSE_SECONDS))
            stream = self._streams[(first_stream + attempt) % len(self._streams)]
            pending, final = self._put_once(stream, pending)
            if not pending or final or self._clock() >= deadline:
                break
        return {index for record in pending for index in record.lines}

    def _put_once(self, stream: str, records: Sequence[_Record]) -> tuple[list[_Record], bool]:
        """Put records; return those that failed, and whether a retry is pointless."""
        failed_records: list[_Record] = []
        final = False
        for call in _split_calls(records):
            try:
                failed_records += self._call_stream(stream, call)
            except ClientError as exc:
                self.last_error = str(exc)
                failed_records += call
                final = final or exc.response.get("Error", {}).get("Code") in _FINAL
            except BotoCoreError as exc:
                self.last_error = str(exc)
                failed_records += call
        return failed_records, final

    def _call_stream(self, stream: str, records: Sequence[_Record]) -> list[_Record]:
        if len(records) == 1:
            self._client.put_record(DeliveryStreamName=stream, Record={"Data": records[0].data})
            return []
        answer = self._client.put_record_batch(
            DeliveryStreamName=stream, Records=[{"Data": record.data} for record in records]
        )
        if not answer["FailedPutCount"]:
            return []
        outcomes = answer["RequestResponses"]  # one per record, in the request's order
        failures = [
            (record, outcome)
            for record, outcome in zip(records, outcomes, strict=True)
            if outcome.get("ErrorCode") or not outcome.get("RecordId")
        ]
        self.last_error = failures[0][1].get("ErrorMessage") if failures else None
        return [record for record, _ in failures]


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
