"""The decisions in the archive: one line each, from which the table can be made again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import orjson

from forebay.aws.archive import AUDIT_PREFIX, Archive
from forebay.codec import decode
from forebay.db.connect import Connection
from ops.archive.store import ObjectStore
from ops.errors import RefusedError
from ops.rejections import store
from ops.rejections.store import Decision

_MEMBERS = ("run", "at", "by", "rejection", "decision", "command", "rule", "reason")


def write(archive: Archive, name: str, decisions: Sequence[Decision]) -> None:
    """Stores decisions that hold.

    Raises:
        TransientError: not stored, as far as we know.
    """
    archive.write_audit(name, decisions[0].at, [_line(decision) for decision in decisions])


def restore(
    connection: Connection, archive: ObjectStore, *, until: dt.datetime | None = None
) -> int:
    """Makes the table of decisions again from the archive, beside whatever it holds.

    Args:
        connection: to the primary.
        archive: holds what was decided.
        until: only what had been decided by then; None for everything.

    Returns:
        How many rows that changed.

    Raises:
        RefusedError: an object of decisions can't be read.
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
        RefusedError: an object of decisions can't be read.
        TransientError: the archive did not answer.
    """
    for found in archive.list(AUDIT_PREFIX):
        try:
            for text in b"".join(archive.read(found.key)).splitlines():
                line: dict[str, Any] = orjson.loads(text)
                dt.datetime.fromisoformat(line["at"])
                yield {name: line[name] for name in _MEMBERS}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
            raise RefusedError(
                f"{archive.url}/{found.key} is no object of decisions ({exc!r}); "
                "restore its first version, for nothing rewrites it"
            ) from None


def _line(decision: Decision) -> bytes:
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
