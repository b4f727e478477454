"""Reads and makes S3 events, as SQS delivers them; a message may contain several.

The format: Amazon S3 User Guide, "Event message structure".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import orjson

from forebay.errors import PermanentError

#: A unique id of IAM, with the session's name for a role: 2 to 64 of these characters (IAM User
#: Guide, "IAM identifiers"; AWS STS, AssumeRole). The limit leaves room for more.
_PRINCIPAL = re.compile(r"[\w+=,.@:-]{1,256}", re.ASCII)


class EventRefusedError(PermanentError):
    """The message names no object that apply accepts; it belongs in the dead-letter queue."""


def iterate_keys(body: str, *, bucket: str, prefix: str) -> Iterator[str]:
    """The keys of the archive objects that a message names; empty for a test event.

    Raises:
        EventRefusedError: as `iterate_records`.
    """
    return (key for key, _ in iterate_records(body, bucket=bucket, prefix=prefix))


def iterate_records(
    body: str, *, bucket: str, prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the key and the event record of each archive object that a message names.

    Raises:
        EventRefusedError: not an S3 event, or an event of another bucket or prefix: objects outside
            the archive must not get into the tables.
    """
    try:
        event: Any = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise EventRefusedError(f"the message is not JSON: {exc}") from None
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
        return  # S3 sends a test event when the notification is configured
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        raise EventRefusedError("the message is not an S3 event: it has no Records")
    for record in records:
        yield _read_key(record, bucket, prefix), record


def read_principal(record: Mapping[str, Any]) -> str | None:
    """The principal that stored a record's object, by its unique id in IAM.

    `AWS:AIDA…` for a user, `AWS:AROA…:<session>` for a role; None if the record names no principal,
    or not in IAM's format.
    """
    identity = record.get("userIdentity")
    principal = identity.get("principalId") if isinstance(identity, Mapping) else None
    if not isinstance(principal, str) or _PRINCIPAL.fullmatch(principal) is None:
        return None
    return principal


def build_event(bucket: str, key: str) -> str:
    """A message about an object, with the members of S3's event that the consumer reads."""
    entity = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity}
    return orjson.dumps({"Records": [record]}).decode()


def _read_key(record: object, bucket: str, prefix: str) -> str:
    try:
        entity = record["s3"]  # type: ignore[index]
        name, encoded = entity["bucket"]["name"], entity["object"]["key"]
    except (KeyError, TypeError):
        raise EventRefusedError(
            "a record of the S3 event contains no bucket or no object"
        ) from None
    if not isinstance(name, str) or not isinstance(encoded, str):
        raise EventRefusedError("a record of the S3 event contains no bucket or no object")
    key = unquote_plus(encoded)  # keys in events are form-encoded: a space becomes a plus
    if name != bucket or not key.startswith(prefix):
        raise EventRefusedError(f"s3://{name}/{key} is not under s3://{bucket}/{prefix}")
    if "\x00" in key:  # the query of the ledger would fail, for other objects of the query too
        raise EventRefusedError(f"a record of the S3 event contains an invalid object key: {key!a}")
    return key
