"""Rejections: the durable form of a decision that a command can never apply."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Self

from forebay.archive.lines import Entry, InvalidLine
from forebay.codec import encode
from forebay.db.arrays import write_plain_array
from forebay.db.connect import Connection
from forebay.decisions.refusals import Refusal

_LINE_NAMESPACE = uuid.UUID("5b2f6f0e-6c0a-5d39-9a0f-64d3a3a4f7b1")
# An archived line may contain any resource and key. Truncated, because the line must become a
# rejection, and longer names would not fit the index.
_MAX_NAME = 255  # characters, also a key's limit
_MAX_DETAIL = 2000  # characters
_BATCH = 1_000  # rejections
_BATCH_BYTES = 1024 * 1024  # of their lines


@dataclass(frozen=True, slots=True)
class Rejection:
    """The decision that a command, or an invalid line, can never apply."""

    id: str
    resource: str | None
    key: str | None
    op: str | None
    code: str
    sqlstate: str | None
    detail: str
    line: bytes
    #: The archive object that contains the line.
    object: str
    rejected_at: dt.datetime

    @classmethod
    def of(cls, refusal: Refusal, archived: Entry, object_key: str, at: dt.datetime) -> Self:
        """The rejection of a command or a line that could not be applied.

        Args:
            refusal: the reason.
            archived: the refused entry as it was archived.
            object_key: of the archive object that contains it.
            at: time of the decision.
        """
        entry, detail = archived, refusal.detail
        if isinstance(entry, InvalidLine):
            names: tuple[str | None, str | None, str | None] = (None, None, None)
            rejection_id, line = derive_line_id(object_key, entry), entry.raw
            # No other member of a rejection has the line's position in the object.
            detail = f"line {entry.number + 1}: {detail}"
        else:
            resource, key = truncate_name(entry.resource), truncate_name(str(entry.key))
            names = (resource, key, entry.op)
            rejection_id, line = entry.id, encode(entry)
        return cls(
            rejection_id,
            *names,
            code=refusal.code,
            sqlstate=refusal.sqlstate,
            detail=_make_storable(detail, _MAX_DETAIL),
            line=line,
            object=object_key,
            rejected_at=at,
        )

    @classmethod
    def from_archive(cls, members: Mapping[str, Any]) -> Self:
        """The rejection in a line of the decision log."""
        values = {name: members[name] for name in _NAMES if name not in {"line", "rejected_at"}}
        line = str(members["line"]).encode("utf-8", "surrogatepass")
        return cls(
            **values, line=line, rejected_at=dt.datetime.fromisoformat(members["rejected_at"])
        )

    def to_archive(self) -> dict[str, Any]:
        """The rejection's members in the decision log."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {**values, "line": self.line.decode("utf-8", "backslashreplace")}


def derive_line_id(object_key: str, line: InvalidLine) -> str:
    """The id of an invalid line's rejection: the same in every replay."""
    digest = f"{object_key}\n{line.number}\n".encode() + line.raw
    return str(uuid.uuid5(_LINE_NAMESPACE, digest.hex()))


def find_rejected(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The ids that were rejected before: a rejected command stays rejected."""
    # As text: to adapt a list of ten thousand takes the driver as long as the rest of the chunk.
    if not ids:
        return set()
    values = {"ids": write_plain_array(ids), "first": min(ids), "last": max(ids)}
    rows = connection.execute(_FIND, values).fetchall()
    return {row[0] for row in rows}


def insert_rejections(
    connection: Connection, rejections: Sequence[Rejection], slot: int | None
) -> None:
    """Insert rejections; an existing private rejection is replaced.

    Args:
        connection: in a transaction.
        rejections: each id once.
        slot: the number of their entry in the decision log; None for private decisions.
    """
    for batch in _split_batches(rejections):
        columns = [list(column) for column in zip(*map(_MEMBERS, batch), strict=True)]
        connection.execute(_INSERT, [slot, *columns])


def _split_batches(rejections: Sequence[Rejection]) -> Iterator[list[Rejection]]:
    """Split into statements: a line may have a MiB, and takes several times that when sent."""
    batch: list[Rejection] = []
    size = 0
    for rejection in rejections:
        batch.append(rejection)
        size += len(rejection.line)
        if size > _BATCH_BYTES or len(batch) == _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def truncate_keys(keys: Sequence[str]) -> Sequence[str]:
    """Return the keys in the form that rejections store."""
    if max(map(len, keys), default=0) <= _MAX_NAME:
        joined = "".join(keys)
        if joined.isascii() and "\x00" not in joined:  # the common case
            return keys
    return list(map(truncate_name, keys))


def truncate_name(name: str) -> str:
    """Return the name of a resource, or a key, in the form that rejections store."""
    return _make_storable(name, _MAX_NAME)


def _make_storable(text: str, limit: int) -> str:
    """The beginning of the text, without characters that Postgres or UTF-8 can't store."""
    return text[:limit].replace("\x00", "\ufffd").encode(errors="replace").decode()


_NAMES = [member.name for member in fields(Rejection)]
_MEMBERS: Callable[[Rejection], tuple[object, ...]] = attrgetter(*_NAMES)
# The common case: none in this range of ids. Then no id is looked up.
_FIND = """
    SELECT id::text FROM forebay.rejections
    WHERE id = ANY(%(ids)s::uuid[])
      AND EXISTS (SELECT FROM forebay.rejections WHERE id BETWEEN %(first)s AND %(last)s)
"""
_INSERT = """
    INSERT INTO forebay.rejections AS r
      (slot, id, resource, key, op, code, sqlstate, detail, line, object, rejected_at)
    SELECT %s::bigint, * FROM unnest(
      %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
      %s::bytea[], %s::text[], %s::timestamptz[])
    ON CONFLICT (id) DO UPDATE SET
      slot = excluded.slot, resource = excluded.resource, key = excluded.key, op = excluded.op,
      code = excluded.code, sqlstate = excluded.sqlstate, detail = excluded.detail,
      line = excluded.line, object = excluded.object, rejected_at = excluded.rejected_at
    WHERE r.slot IS NULL
"""
