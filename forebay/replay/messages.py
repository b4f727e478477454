"""The messages of the replay queue: S3 events with an additional member `forebay`.

A message names one object. `forebay` in its record contains the run and the selection of commands;
events from S3 itself lack this member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote_plus

import orjson

from forebay.archive.layout import COMMANDS_PREFIX
from forebay.aws.events import EventRefusedError, iterate_records
from forebay.replay.selection import Selection

_MEMBER = "forebay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """The content of `forebay` in a message of the replay queue."""

    #: The id of the run that records the object.
    run: str
    selection: Selection

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self | None:
        """Decode a record of an event; return None for an event from S3.

        Raises:
            ValueError: the member is malformed, or has conditions unknown to this release.
        """
        member = record.get(_MEMBER)
        if member is None:
            return None
        try:
            return cls(run=str(member["run"]), selection=Selection.from_json(member["selection"]))
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"the replay message is malformed: {exc!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMessage:
    """A message that requests the replay of one object."""

    run: str
    bucket: str
    key: str
    selection: Selection

    def to_body(self) -> str:
        """Encode the message's body; keys in S3 events are form-encoded."""
        record = {
            "eventName": "Replay",
            "s3": {
                "bucket": {"name": self.bucket},
                "object": {"key": quote_plus(self.key, safe="/")},
            },
            _MEMBER: {"run": self.run, "selection": self.selection.to_json()},
        }
        return orjson.dumps({"Records": [record]}).decode()


def list_keys_of_run(body: str, *, run: str, bucket: str) -> list[str]:
    """Return the keys of the objects in a message of the replay queue that belong to the run."""
    try:
        records = list(iterate_records(body, bucket=bucket, prefix=COMMANDS_PREFIX))
        return [key for key, record in records if _find_run(record) == run]
    except (EventRefusedError, ValueError):
        return []


def _find_run(record: Mapping[str, Any]) -> str | None:
    replaying = Replaying.of(record)
    return replaying.run if replaying else None
