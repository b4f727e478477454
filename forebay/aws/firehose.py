"""The delivery stream: packs lines into records and puts them, looking at every record's answer.

Limits and rules: Amazon Data Firehose API reference, PutRecord and PutRecordBatch. A put that
failed may still have been stored; sending it again makes duplicates, which apply ignores.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from forebay.codec import MAX_LINE_BYTES

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

MAX_RECORD_BYTES = MAX_LINE_BYTES
MAX_CALL_RECORDS = 500
MAX_CALL_BYTES = 4 * 1024 * 1024

ATTEMPTS = 4
BACKOFF_SECONDS = 0.1  # doubles with each attempt, with full jitter
DEADLINE_SECONDS = 5.0  # no attempt begins after it; leaves time for the fallback

#: Answers that trying again can't change; everything else is worth it.
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
    """Some lines in one record: costs and quotas are counted by records of up to 5 KB."""

    data: bytes
    lines: range


class FirehoseSink:
    """Puts lines to one delivery stream."""

    def __init__(
        self,
        client: FirehoseClient,
        stream: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._stream = stream
        self._sleep = sleep
        self._clock = clock
        #: Why the last put failed, for the log.
        self.last_error: str | None = None

    def put(self, lines: Sequence[bytes]) -> set[int]:
        """Puts every line; the indexes of those that the stream did not acknowledge.

        Args:
            lines: encoded commands, newline included, each within `MAX_RECORD_BYTES`.
        """
        pending = list(_pack(lines))
        deadline = self._clock() + DEADLINE_SECONDS
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(random.uniform(0, BACKOFF_SECONDS * 2**attempt))
            pending, final = self._put_once(pending)
            if not pending or final or self._clock() >= deadline:
                break
        return {index for record in pending for index in record.lines}

    def _put_once(self, records: Sequence[_Record]) -> tuple[list[_Record], bool]:
        """The records that failed, and whether trying again is pointless."""
        failed: list[_Record] = []
        final = False
        for call in _calls(records):
            try:
                failed += self._call(call)
            except ClientError as exc:
                self.last_error = str(exc)
                failed += call
                final = final or exc.response.get("Error", {}).get("Code") in _FINAL
            except BotoCoreError as exc:
                self.last_error = str(exc)
                failed += call
        return failed, final

    def _call(self, records: Sequence[_Record]) -> list[_Record]:
        if len(records) == 1:
            self._client.put_record(
                DeliveryStreamName=self._stream, Record={"Data": records[0].data}
            )
            return []
        answer = self._client.put_record_batch(
            DeliveryStreamName=self._stream, Records=[{"Data": record.data} for record in records]
        )
        if not answer["FailedPutCount"]:
            return []
        outcomes = answer["RequestResponses"]  # one per record, in the request's order
        failed = [
            (record, outcome)
            for record, outcome in zip(records, outcomes, strict=True)
            if outcome.get("ErrorCode") or not outcome.get("RecordId")
        ]
        self.last_error = failed[0][1].get("ErrorMessage") if failed else None
        return [record for record, _ in failed]


def _pack(lines: Sequence[bytes]) -> Iterator[_Record]:
    start = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) > MAX_RECORD_BYTES:
            yield _Record(b"".join(lines[start:index]), range(start, index))
            start, size = index, 0
        size += len(line)
    if size:
        yield _Record(b"".join(lines[start:]), range(start, len(lines)))


def _calls(records: Sequence[_Record]) -> Iterator[list[_Record]]:
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
