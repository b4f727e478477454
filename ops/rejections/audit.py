"""The decisions in the archive: one line each, from which the table can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import orjson

from forebay.aws.archive import AUDIT_PREFIX, Archive
from forebay.codec import decode
from forebay.db.connect import Connection
from ops.archive.store import ObjectStore
from ops.rejections import store
from ops.rejections.store import Decision


def write(archive: Archive, name: str, decisions: Sequence[Decision]) -> None:
    """Stores decisions that hold.

    Raises:
        TransientError: not stored, as far as we know.
    """
    archive.write_audit(name, decisions[0].at, [_line(decision) for decision in decisions])


def restore(connection: Connection, archive: ObjectStore) -> int:
    """Makes the table of decisions again from the archive, beside whatever it holds.

    Returns:
        How many rows that changed.

    Raises:
        TransientError: the archive did not answer.
    """
    lines = chain.from_iterable(
        b"".join(archive.read(found.key)).splitlines() for found in archive.list(AUDIT_PREFIX)
    )
    changed = 0
    while page := [orjson.loads(line) for line in islice(lines, store.PAGE)]:
        changed += store.restore(connection, page)
    return changed


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
