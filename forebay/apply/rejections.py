"""Rejections: the durable form of a decision that a command can never apply."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Self

from forebay.apply.outcome import BadLine, Undecided
from forebay.codec import encode
from forebay.db.connect import Connection

_LINE_NAMESPACE = uuid.UUID("5b2f6f0e-6c0a-5d39-9a0f-64d3a3a4f7b1")
# A strange line may name anything, and still must become a rejection: longer names than any of
# ours would not fit the index.
_MAX_NAME = 255  # characters, which is a key's limit too
_MAX_DETAIL = 2000  # characters
_BATCH = 1_000  # rejections
_BATCH_BYTES = 1024 * 1024  # of their lines


@dataclass(frozen=True, slots=True)
class Rejection:
    """The decision that a command, or a line that is none, can never apply."""

    id: str
    resource: str | None
    key: str | None
    op: str | None
    code: str
    sqlstate: str | None
    detail: str
    line: bytes
    #: The archive object in which it was met.
    object: str
    rejected_at: dt.datetime

    @classmethod
    def of(cls, undecided: Undecided, object_key: str, at: dt.datetime) -> Self:
        """The rejection of a command or a line that could not be applied."""
        entry, detail = undecided.entry, undecided.detail
        if isinstance(entry, BadLine):
            names: tuple[str | None, str | None, str | None] = (None, None, None)
            rejection_id, line = line_id(object_key, entry), entry.raw
            # Nothing else in a rejection says where in the object the line is.
            detail = f"line {entry.number + 1}: {detail}"
        else:
            resource, key = noted(entry.resource), noted(str(entry.key))
            names = (resource, key, entry.op)
            rejection_id, line = entry.id, encode(entry)
        return cls(
            rejection_id,
            *names,
            code=undecided.code,
            sqlstate=undecided.sqlstate,
            detail=_storable(detail, _MAX_DETAIL),
            line=line,
            object=object_key,
            rejected_at=at,
        )

    @classmethod
    def from_archive(cls, members: Mapping[str, Any]) -> Self:
        """The rejection that a line of the decision log holds."""
        values = {name: members[name] for name in _NAMES if name not in {"line", "rejected_at"}}
        line = str(members["line"]).encode("utf-8", "surrogatepass")
        return cls(
            **values, line=line, rejected_at=dt.datetime.fromisoformat(members["rejected_at"])
        )

    def to_archive(self) -> dict[str, Any]:
        """Its members in the decision log."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {**values, "line": self.line.decode("utf-8", "backslashreplace")}


def line_id(object_key: str, bad: BadLine) -> str:
    """The id of an unreadable line's rejection: the same in every replay."""
    digest = f"{object_key}\n{bad.number}\n".encode() + bad.raw
    return str(uuid.uuid5(_LINE_NAMESPACE, digest.hex()))


def find_rejected(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that were rejected before: a rejected command stays rejected."""
    # As text: the driver takes as long for a list of ten thousand as all else for the chunk.
    asked = "{" + ",".join(ids) + "}"
    rows = connection.execute(
        "SELECT id::text FROM forebay.rejections WHERE id = ANY(%s::uuid[])", [asked]
    ).fetchall()
    return {row[0] for row in rows}


def insert_rejections(
    connection: Connection, rejections: Sequence[Rejection], slot: int | None
) -> None:
    """Writes rejections; one that is there gets the members of the decision log.

    Args:
        connection: in a transaction.
        rejections: each id once.
        slot: of their entry in the decision log; None for those of this database alone.
    """
    for batch in _batches(rejections):
        columns = [list(column) for column in zip(*map(_MEMBERS, batch), strict=True)]
        connection.execute(_INSERT, [slot, *columns])


def _batches(rejections: Sequence[Rejection]) -> Iterator[list[Rejection]]:
    """Some at a time: a line may be of a MiB, and becomes several times that on its way."""
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


def noted_keys(keys: Sequence[str]) -> Sequence[str]:
    """The keys as the rejections of their commands have them."""
    if max(map(len, keys), default=0) <= _MAX_NAME:
        joined = "".join(keys)
        if joined.isascii() and "\x00" not in joined:  # as mostly
            return keys
    return list(map(noted, keys))


def noted(name: str) -> str:
    """The name of a resource, or a key, as a rejection has it."""
    return _storable(name, _MAX_NAME)


def _storable(text: str, limit: int) -> str:
    """The beginning of the text, as Postgres and UTF-8 can hold it."""
    return text[:limit].replace("\x00", "\ufffd").encode(errors="replace").decode()


_NAMES = [member.name for member in fields(Rejection)]
_MEMBERS: Callable[[Rejection], tuple[object, ...]] = attrgetter(*_NAMES)
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
