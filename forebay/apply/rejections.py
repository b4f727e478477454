"""Rejections: written beside the tables and to the archive before the chunk commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from forebay.apply.outcome import BadLine, Rejection, Source
from forebay.codec import encode
from forebay.command import Command
from forebay.db.connect import Connection

# A strange line may name anything, and still must become a rejection: longer names than any of
# ours would not fit the index.
_MAX_NAME = 255  # characters, which is a key's limit too
_MAX_DETAIL = 2000  # characters
_BATCH = 1_000  # rejections
_BATCH_BYTES = 1024 * 1024  # of their lines


class RejectionBook:
    """The rejections of one chunk: `open`, then any number of `reject`, then `close`."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        archive: Callable[[Sequence[Rejection]], None],
    ) -> None:
        self._connection = connection
        self._source = source
        self._archive = archive
        self._new: dict[str, Rejection] = {}
        self._repeated = 0

    def open(self) -> None:
        """Begins a chunk."""
        self._new, self._repeated = {}, 0

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that were rejected before: a rejected command stays rejected."""
        # Mostly there are none of that time, and the ids need not travel.
        if not ids or self._connection.execute(_ANY_BETWEEN, [min(ids), max(ids)]).rowcount == 0:
            return set()
        # As text: the driver takes as long for a list of ten thousand as all else for the chunk.
        asked = "{" + ",".join(ids) + "}"
        rows = self._connection.execute(
            "SELECT id::text FROM forebay.rejections WHERE id = ANY(%s::uuid[])", [asked]
        ).fetchall()
        return {row[0] for row in rows}

    def reject(
        self, command: Command, code: str, detail: str, *, sqlstate: str | None = None
    ) -> None:
        """Notes that a command can never apply."""
        self._add(
            Rejection(
                id=command.id,
                resource=command.resource,
                key=str(command.key),
                op=command.op,
                code=code,
                sqlstate=sqlstate,
                detail=detail,
                line=encode(command),
                object=self._source.object,
            )
        )

    def reject_line(self, bad: BadLine) -> None:
        """Notes that a line is no command."""
        self._add(Rejection.of_line(bad, self._source))

    def close(self) -> tuple[int, int]:
        """Writes what was noted: how many were new, and how many had been rejected before.

        The archive comes first: should the commit fail, the next try writes the same object again.
        """
        if not self._new:
            return 0, self._repeated
        rejections = list(self._new.values())
        ids = [rejection.id for rejection in rejections]
        known = self.known(ids)
        fresh = [rejection for rejection in rejections if rejection.id not in known]
        if fresh:
            self._archive(fresh)
            _insert(self._connection, list(map(_MEMBERS, fresh)))
        return len(fresh), len(known) + self._repeated

    def _add(self, rejection: Rejection) -> None:
        if rejection.id in self._new:
            self._repeated += 1
        else:
            self._new[rejection.id] = replace(
                rejection,
                resource=rejection.resource and _storable(rejection.resource, _MAX_NAME),
                key=rejection.key and _storable(rejection.key, _MAX_NAME),
                detail=_storable(rejection.detail, _MAX_DETAIL),
            )


def restore(connection: Connection, told: Iterable[Mapping[str, Any]]) -> int:
    """Takes over rejections that the archive tells of and the table may not have.

    The archive is written first, so what was to commit them may have failed since. Without this,
    the next try could find such a command superseded, where every rebuild finds it rejected.

    Args:
        connection: to the primary.
        told: lines of archived rejections, decoded.

    Returns:
        How many the table did not have.
    """
    rows = [
        [
            *(one[name] for name in ("id", "resource", "key", "op", "code", "sqlstate", "detail")),
            str(one["line"]).encode("utf-8", "surrogatepass"),
            one["object"],
        ]
        for one in told
    ]
    if not rows:
        return 0
    return _insert(connection, rows)


def _insert(connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
    """Writes rejections, many by one statement; how many there were none of."""
    inserted = 0
    for some in _batches(rows):
        columns = [list(column) for column in zip(*some, strict=True)]
        inserted += connection.execute(_INSERT, columns).rowcount
    return inserted


def _batches(rows: Sequence[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Some rows at a time: a line may be of a MiB, and becomes several times that on its way."""
    batch: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[_LINE])
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
    return [_storable(key, _MAX_NAME) for key in keys]


def _storable(text: str, limit: int) -> str:
    """The beginning of the text, as Postgres and UTF-8 can hold it."""
    return text[:limit].replace("\x00", "\ufffd").encode(errors="replace").decode()


_ANY_BETWEEN = "SELECT FROM forebay.rejections WHERE id BETWEEN %s AND %s LIMIT 1"
_NAMES = [member.name for member in fields(Rejection)]
_LINE = _NAMES.index("line")
_MEMBERS: Callable[[Rejection], tuple[object, ...]] = attrgetter(*_NAMES)
_INSERT = """
    INSERT INTO forebay.rejections
      (id, resource, key, op, code, sqlstate, detail, line, object)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::text[], %s::bytea[], %s::text[])
    ON CONFLICT (id) DO NOTHING
"""
