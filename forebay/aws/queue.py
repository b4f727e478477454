"""A queue of archive events: counts its messages, and moves them without loss.

Limits and rules: Amazon SQS API reference. Counts are approximate, and a message may be delivered
twice; applying an object twice makes no change.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from forebay.errors import TransientError
from forebay.retry import compute_backoff_seconds

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

BATCH = 10  # maximum number of messages in a call
_SEND_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.8
#: How long a received message is hidden from other receivers, if this process dies.
_HIDDEN_SECONDS = 60
#: A long poll queries all servers of the queue; a short poll queries only some, and so misses
#: messages.
_WAIT_SECONDS = 1
#: Long polls in a row without a new message after which a queue counts as read.
_EMPTY_POLLS = 2


@dataclass(frozen=True, slots=True)
class Depth:
    """The approximate number of messages in a queue."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """The sum of all messages."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True, slots=True)
class Message:
    """A received message."""

    id: str
    receipt: str
    body: str
    sent_at: dt.datetime
    receives: int


class Queue:
    """A queue. Every method raises TransientError if SQS refuses the call or does not answer."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self.url = url

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.url.rpartition("/")[2]

    def depth(self) -> Depth:
        """The number of messages in the queue."""
        with self._translate_errors():
            attributes = self._client.get_queue_attributes(
                QueueUrl=self.url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )["Attributes"]
        return Depth(
            int(attributes["ApproximateNumberOfMessages"]),
            int(attributes["ApproximateNumberOfMessagesNotVisible"]),
            int(attributes["ApproximateNumberOfMessagesDelayed"]),
        )

    def gives_up(self) -> bool:
        """Return whether the queue moves messages that were received too often to another queue."""
        with self._translate_errors():
            answer = self._client.get_queue_attributes(
                QueueUrl=self.url, AttributeNames=["RedrivePolicy"]
            )
        return bool(answer.get("Attributes", {}).get("RedrivePolicy"))

    def send(self, bodies: Sequence[str]) -> None:
        """Send messages; SQS has acknowledged all of them when the call returns."""
        for start in range(0, len(bodies), BATCH):
            self._send(list(bodies[start : start + BATCH]))

    def receive(self, *, hidden_seconds: int = _HIDDEN_SECONDS) -> list[Message]:
        """Receive up to ten messages, hidden from other receivers; empty after a second's wait."""
        with self._translate_errors():
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=hidden_seconds,
                WaitTimeSeconds=_WAIT_SECONDS,
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
        return [
            Message(
                id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                sent_at=dt.datetime.fromtimestamp(
                    int(message["Attributes"]["SentTimestamp"]) / 1000, dt.UTC
                ),
                receives=int(message["Attributes"]["ApproximateReceiveCount"]),
            )
            for message in answer.get("Messages", [])
        ]

    def drain(self, *, hidden_seconds: int = _HIDDEN_SECONDS) -> Iterator[list[Message]]:
        """Yield every visible message, in batches; each stays hidden until its time-out."""
        message_ids: set[str] = set()
        empty = 0
        while empty < _EMPTY_POLLS:
            batch = self.receive(hidden_seconds=hidden_seconds)
            unseen = [message for message in batch if message.id not in message_ids]
            message_ids.update(message.id for message in unseen)
            empty = 0 if unseen else empty + 1
            if unseen:
                yield unseen

    def peek(self, limit: int) -> list[Message]:
        """The visible messages, up to a limit; all of them are visible again afterwards."""
        messages: list[Message] = []
        if self.depth().visible == 0:
            return messages
        try:
            for batch in self.drain():
                messages += batch
                if len(messages) >= limit:
                    break
        finally:
            self.release(messages)
        return messages[:limit]

    def release(self, messages: Sequence[Message]) -> None:
        """Make received messages visible again immediately."""
        for start in range(0, len(messages), BATCH):
            with self._translate_errors():
                self._client.change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {
                            "Id": str(number),
                            "ReceiptHandle": message.receipt,
                            "VisibilityTimeout": 0,
                        }
                        for number, message in enumerate(messages[start : start + BATCH])
                    ],
                )

    def hide(self, receipt: str, seconds: int) -> None:
        """Deliver a received message again after so many seconds, not after the queue's time."""
        with self._translate_errors():
            self._client.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=seconds
            )

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete received messages."""
        for start in range(0, len(messages), BATCH):
            with self._translate_errors():
                answer = self._client.delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": message.receipt}
                        for number, message in enumerate(messages[start : start + BATCH])
                    ],
                )
            if answer.get("Failed"):
                raise TransientError(f"{self.url} did not delete: {answer['Failed']}")

    def _send(self, bodies: list[str]) -> None:
        reason: object = None
        for attempt in range(_SEND_ATTEMPTS):
            if attempt:
                time.sleep(compute_backoff_seconds(attempt, first=_FIRST_PAUSE_SECONDS))
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)
            ]
            with self._translate_errors():
                answer = self._client.send_message_batch(QueueUrl=self.url, Entries=entries)
            # A batch with status 200 may have failed in part.
            failed_entries = answer.get("Failed", [])
            if not failed_entries:
                return
            reason = failed_entries
            bodies = [bodies[int(entry["Id"])] for entry in failed_entries]
        raise TransientError(f"{self.url} did not accept {len(bodies)} messages: {reason}")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as exc:
            raise TransientError(f"the queue {self.url}: {exc}") from exc
