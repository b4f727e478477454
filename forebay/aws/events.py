"""S3 events as SQS carries them, one or several in a message: read, and made anew.

Source: Amazon S3 User Guide, "Event message structure".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import orjson

from forebay.errors import PermanentError

#: An id of IAM, and for a role the session's name behind it: 2 to 64 of these characters (IAM User
#: Guide, "IAM identifiers"; AWS STS, AssumeRole). The limit leaves room for more.
_PRINCIPAL = re.compile(r"[\w+=,.@:-]{1,256}", re.ASCII)


class EventRefusedError(PermanentError):
    """The message names nothing that we apply; it belongs in the dead-letter queue."""


def object_keys(body: str, *, bucket: str, prefix: str) -> Iterator[str]:
    """The keys of the archive objects that a message tells of; none for a test event.

    Raises:
        EventRefusedError: as `object_records`.
    """
    return (key for key, _ in object_records(body, bucket=bucket, prefix=prefix))


def object_records(
    body: str, *, bucket: str, prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The archive objects that a message tells of: each one's key, and what the event says of it.

    Raises:
        EventRefusedError: no S3 event, or one of another bucket or prefix: somebody else's data
            must not get into the tables.
    """
    try:
        event: Any = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise EventRefusedError(f"the message is not JSON: {exc}") from None
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
        return  # S3 sends one whenever the notification is configured
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        raise EventRefusedError("the message is no S3 event: it has no Records")
    for record in records:
        yield _key(record, bucket, prefix), record


def principal_of(record: Mapping[str, Any]) -> str | None:
    """Who stored the object that a record tells of, as IAM numbers principals.

    Such as `AWS:AIDA…` for a user and `AWS:AROA…:<session>` for a role; None where the record names
    nobody, or names them in a way that IAM does not.
    """
    identity = record.get("userIdentity")
    principal = identity.get("principalId") if isinstance(identity, Mapping) else None
    if not isinstance(principal, str) or _PRINCIPAL.fullmatch(principal) is None:
        return None
    return principal


def object_event(bucket: str, key: str) -> str:
    """A message that tells of one object as S3 would, as far as the consumer looks at it."""
    entity = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity}
    return orjson.dumps({"Records": [record]}).decode()


def _key(record: object, bucket: str, prefix: str) -> str:
    try:
        entity = record["s3"]  # type: ignore[index]
        name, encoded = entity["bucket"]["name"], entity["object"]["key"]
    except (KeyError, TypeError):
        raise EventRefusedError("a record of the S3 event names no bucket and object") from None
    if not isinstance(name, str) or not isinstance(encoded, str):
        raise EventRefusedError("a record of the S3 event names no bucket and object")
    key = unquote_plus(encoded)  # keys in events are form-encoded: a space is a plus
    if name != bucket or not key.startswith(prefix):
        raise EventRefusedError(f"s3://{name}/{key} is not under s3://{bucket}/{prefix}")
    if "\x00" in key:  # the ledger could not be asked about it, nor about others with it
        raise EventRefusedError(f"a record of the S3 event names no key of an object: {key!a}")
    return key
