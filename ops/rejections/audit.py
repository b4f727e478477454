"""The operators' decisions in the archive, one per line; the table is restored from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import orjson

from forebay.archive.layout import AUDIT_PREFIX
from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.db.connect import Connection
from ops.archive.store import ObjectStore
from ops.errors import RefusedError
from ops.rejections import store
from ops.rejections.store import Decision

_MEMBERS = ("run", "at", "by", "rejection", "decision", "command", "rule", "reason")


def write(archive: Archive, name: str, decisions: Sequence[Decision]) -> None:
    """Store an audit object with final decisions.

    Raises:
        TransientError: S3 did not acknowledge the object; it may be stored nevertheless.
    """
    archive.write_audit(name, decisions[0].at, [_encode_line(decision) for decision in decisions])


def restore(
    connection: Connection, archive: ObjectStore, *, until: dt.datetime | None = None
) -> int:
    """Add the archived decisions to the table of decisions; newer rows of the table stay.

    Args:
        connection: a connection to the primary.
        archive: the archive with the audit objects.
        until: decisions after this time are ignored; None restores all of them.

    Returns:
        The number of rows that were added or changed.

    Raises:
        RefusedError: an audit object is damaged.
        TransientError: the archive did not answer.
    """
    lines = (
        line
        for line in read_lines(archive)
        if until is None or dt.datetime.fromisoformat(line["at"]) <= until
    )
    changed = 0
    while page := list(islice(lines, store.PAGE)):
        changed += store.restore(connection, page)
    return changed


def read_lines(archive: ObjectStore) -> Iterator[dict[str, Any]]:
    """Yield every archived decision.

    Raises:
        RefusedError: an audit object is damaged.
        TransientError: the archive did not answer.
    """
    for audit_object in archive.list(AUDIT_PREFIX):
        try:
            for text in b"".join(archive.read(audit_object.key)).splitlines():
                line: dict[str, Any] = orjson.loads(text)
                dt.datetime.fromisoformat(line["at"])
                yield {name: line[name] for name in _MEMBERS}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
            raise RefusedError(
                f"{archive.url}/{audit_object.key} is not a valid audit object ({exc!r}); "
                "restore its first version, as audit objects are never rewritten"
            ) from None


def _encode_line(decision: Decision) -> bytes:
    members: dict[str, Any] = {
        "run": decision.run,
        "at": decision.at,
        "by": decision.by,
        "rejection": decision.rejection,
        "decision": decision.decision,
        "command": decode(decision.line).id if decision.line else None,
        "rule": decision.rule,
        "reason": decision.reason,
    }
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
