"""The messages of the replay queue: S3 events, as the consumer knows them, with what to replay.

A message names one object. `forebay` in its record says which run it belongs to and which of the
object's commands are wanted; events of S3 itself have no such member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote_plus

import orjson

from forebay.aws.archive import COMMANDS_PREFIX
from forebay.aws.events import EventRefusedError, object_records
from forebay.replay.selection import Selection

_MEMBER = "forebay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """What a message of the replay queue asks for."""

    #: The run to note the object in.
    run: str
    selection: Selection

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self | None:
        """What a record of an event asks for; None for an event of S3.

        Raises:
            ValueError: it is malformed, or asks for what this release does not know.
        """
        told = record.get(_MEMBER)
        if told is None:
            return None
        try:
            return cls(run=str(told["run"]), selection=Selection.from_json(told["selection"]))
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"the replay message is malformed: {exc!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMessage:
    """One object to replay."""

    run: str
    bucket: str
    key: str
    selection: Selection

    def to_body(self) -> str:
        """The message's body; keys in events are form-encoded."""
        record = {
            "eventName": "Replay",
            "s3": {
                "bucket": {"name": self.bucket},
                "object": {"key": quote_plus(self.key, safe="/")},
            },
            _MEMBER: {"run": self.run, "selection": self.selection.to_json()},
        }
        return orjson.dumps({"Records": [record]}).decode()


def keys_of_run(body: str, *, run: str, bucket: str) -> list[str]:
    """The objects that a message of the replay queue asks for, if it belongs to the run."""
    try:
        records = list(object_records(body, bucket=bucket, prefix=COMMANDS_PREFIX))
        return [key for key, record in records if _run_of(record) == run]
    except (EventRefusedError, ValueError):
        return []


def _run_of(record: Mapping[str, Any]) -> str | None:
    replaying = Replaying.of(record)
    return replaying.run if replaying else None
