"""The DynamoDB table of idempotency records: creates, locks, finishes and reads records.

Limits and rules: Amazon DynamoDB API reference, PutItem and UpdateItem ("Return values on condition
check failure"); developer guide, "Constraints" (an item has at most 400 KB) and "Using time to
live" (expired items are deleted within days, so each read checks the time).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import BotoCoreError, ClientError

from forebay.breaker import CircuitBreaker
from forebay.errors import TransientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

#: Larger contents are stored as items of their own. The limit of an item leaves room for the names
#: and the other attributes.
MAX_INLINE_BYTES: Final = 360 * 1024

#: How long the table is skipped after it did not answer: at first, and at most. A client repeats a
#: refused request after some seconds (`Retry-After`).
_FIRST_PAUSE_SECONDS: Final = 1.0
_GREATEST_PAUSE_SECONDS: Final = 8.0

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
#: The table's partition key, and the attribute by which DynamoDB deletes expired items.
KEY: Final = "id"
EXPIRY: Final = "expires_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The stored state of a request with an idempotency key."""

    #: Identifies the caller and the idempotency key.
    name: str
    #: Equal for equal requests.
    fingerprint: bytes
    #: The attempt that has, or had, the lock.
    attempt: str
    #: Milliseconds since the Unix epoch; 0 after a release.
    locked_until_ms: int
    #: Seconds since the Unix epoch.
    expires_at: int
    #: The encoded answer.
    answer: bytes
    #: The encoded commands; empty in a finished record.
    lines: bytes
    #: True if all commands are accepted.
    is_finished: bool = False


class RecordTable:
    """The table. Every method raises TransientError if DynamoDB does not do the call.

    After a call without an answer the table is skipped for some seconds: the time-out is a tenth of
    the time that a client waits.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        max_inline_bytes: int = MAX_INLINE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._table = table
        self._max_inline_bytes = max_inline_bytes
        self._breaker = CircuitBreaker(
            first_seconds=_FIRST_PAUSE_SECONDS,
            greatest_seconds=_GREATEST_PAUSE_SECONDS,
            clock=clock,
        )

    def create(self, record: Record, *, now_ms: int) -> Record | None:
        """Store a record, unless an unexpired record has its name.

        Returns:
            That other record; None if the given record is stored.
        """
        parts = self._write_parts(record)
        refused = self._call(
            "put_item",
            Item=_encode(record, parts),
            ConditionExpression=f"attribute_not_exists({KEY}) OR {EXPIRY} <= :now",
            ExpressionAttributeValues={":now": {"N": str(now_ms // 1000)}},
        )
        return self._read_other(refused, record.attempt)

    def take_over(self, record: Record, *, attempt: str, locked_until_ms: int) -> Record | None:
        """Lock a record for another attempt, if it is unchanged and unfinished.

        Returns:
            The changed record; None if the lock is the attempt's.
        """
        refused = self._call(
            "update_item",
            Key={KEY: {"S": record.name}},
            UpdateExpression="SET attempt = :attempt, locked_until = :until",
            ConditionExpression="attempt = :old AND attribute_not_exists(finished)",
            ExpressionAttributeValues={
                ":attempt": {"S": attempt},
                ":until": {"N": str(locked_until_ms)},
                ":old": {"S": record.attempt},
            },
        )
        if refused is not None and not refused:
            raise TransientError(f"the record {record.name} was deleted")
        return self._read_other(refused, attempt)

    def finish(self, record: Record) -> None:
        """Mark a record as finished, and remove its commands."""
        self._call(
            "update_item",
            Key={KEY: {"S": record.name}},
            UpdateExpression="SET finished = :true REMOVE commands",
            # An update would otherwise create an item in the place of a deleted one.
            ConditionExpression="fingerprint = :fingerprint",
            ExpressionAttributeValues={
                ":true": {"BOOL": True},
                ":fingerprint": {"B": record.fingerprint},
            },
        )

    def release(self, record: Record, *, attempt: str) -> None:
        """End an attempt's lock, so that the next repetition takes over at once."""
        self._call(
            "update_item",
            Key={KEY: {"S": record.name}},
            UpdateExpression="SET locked_until = :zero",
            ConditionExpression="attempt = :attempt",
            ExpressionAttributeValues={":zero": {"N": "0"}, ":attempt": {"S": attempt}},
        )

    def find(self, name: str, *, now_ms: int) -> Record | None:
        """Return the unexpired record with that name."""
        item = self._get(name)
        if not item or int(item[EXPIRY]["N"]) <= now_ms // 1000:
            return None
        return self._decode(item)

    def _read_other(self, refused: Mapping[str, Any] | None, attempt: str) -> Record | None:
        """Return the record that prevented a call.

        A call that the SDK repeats, because its first answer was lost, is prevented by itself.
        """
        if refused is None or refused["attempt"]["S"] == attempt:
            return None
        return self._decode(refused)

    def _write_parts(self, record: Record) -> Sequence[str]:
        """Store a large content as items before its record; return their names."""
        content = record.answer + record.lines
        size = self._max_inline_bytes
        if len(content) <= size:
            return ()
        names: list[str] = []
        for start in range(0, len(content), size):
            names.append(f"{record.name}.{record.attempt}.{len(names)}")
            part = {
                KEY: {"S": names[-1]},
                EXPIRY: {"N": str(record.expires_at)},
                "content": {"B": content[start : start + size]},
            }
            self._call("put_item", Item=part)
        return names

    def _decode(self, item: Mapping[str, Any]) -> Record:
        answer, lines = item.get("answer", {"B": b""})["B"], item.get("commands", {"B": b""})["B"]
        if "parts" in item:
            content = b"".join(self._read_part(name["S"]) for name in item["parts"]["L"])
            size = int(item["answer_size"]["N"])
            answer, lines = content[:size], content[size:]
        return Record(
            name=item[KEY]["S"],
            fingerprint=item["fingerprint"]["B"],
            attempt=item["attempt"]["S"],
            locked_until_ms=int(item["locked_until"]["N"]),
            expires_at=int(item[EXPIRY]["N"]),
            answer=answer,
            lines=lines,
            is_finished="finished" in item,
        )

    def _read_part(self, name: str) -> bytes:
        item = self._get(name)
        if not item:
            raise TransientError(f"the part {name} of a record is missing")
        content: bytes = item["content"]["B"]
        return content

    def _get(self, name: str) -> Mapping[str, Any]:
        """Return the item with that name; empty without one."""
        try:
            answer = self._request("get_item", Key={KEY: {"S": name}}, ConsistentRead=True)
        except ClientError as exc:
            raise TransientError(f"idempotency records: {exc}") from exc
        item: Mapping[str, Any] = answer.get("Item", {})
        return item

    def _call(self, operation: str, **arguments: object) -> Mapping[str, Any] | None:
        """Write an item; return the old item if it does not fit the condition, else None."""
        if "ConditionExpression" in arguments:
            arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            self._request(operation, **arguments)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") != _CONDITION_FAILED:
                raise TransientError(f"idempotency records: {exc}") from exc
            # A modeled member of this error, which the type of errors in general lacks.
            return cast("Mapping[str, Any]", exc.response.get("Item", {}))
        return None

    def _request(self, operation: str, **arguments: object) -> Mapping[str, Any]:
        """Send a request, unless DynamoDB has just failed to answer one.

        Raises:
            ClientError: DynamoDB has refused it.
            TransientError: there is no answer, or the table is skipped.
        """
        if self._breaker.is_open:
            raise TransientError("idempotency records: skipped after a call without an answer")
        try:
            answer: Mapping[str, Any] = getattr(self._client, operation)(
                TableName=self._table, **arguments
            )
        except BotoCoreError as exc:
            self._breaker.record_failure()
            raise TransientError(f"idempotency records: {exc}") from exc
        except ClientError:
            self._breaker.record_success()
            raise
        self._breaker.record_success()
        return answer


def _encode(record: Record, parts: Sequence[str]) -> dict[str, Any]:
    item: dict[str, Any] = {
        KEY: {"S": record.name},
        "fingerprint": {"B": record.fingerprint},
        "attempt": {"S": record.attempt},
        "locked_until": {"N": str(record.locked_until_ms)},
        EXPIRY: {"N": str(record.expires_at)},
    }
    if parts:
        item["parts"] = {"L": [{"S": name} for name in parts]}
        item["answer_size"] = {"N": str(len(record.answer))}
    else:
        item["answer"] = {"B": record.answer}
        item["commands"] = {"B": record.lines}
    return item
