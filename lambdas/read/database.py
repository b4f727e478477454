"""The read function's two sessions: the replicas', and the primary's as a fallback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from forebay.db.connect import Cursor
from forebay.db.faults import is_connection_lost, is_recovery_conflict
from forebay.db.session import Session
from lambdas.read.sql.statement import Query

Rows: TypeAlias = Sequence[tuple[Any, ...]]
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Texts:
    """The rows of a query as Postgres sent them: each value as text, in UTF-8."""

    result: PGresult

    def __len__(self) -> int:
        return self.result.ntuples

    def column(self, column: int, rows: int) -> list[bytes | None]:
        """The values of a column in the first rows."""
        value = self.result.get_value
        return [value(row, column) for row in range(rows)]

    def value(self, row: int, column: int) -> bytes | None:
        """A single value."""
        return self.result.get_value(row, column)

    def row(self, row: int, first: int) -> list[str | None]:
        """The values of a row from the column `first` on."""
        values = [self.value(row, column) for column in range(first, self.result.nfields)]
        return [None if value is None else value.decode() for value in values]


class ReadDatabase:
    """Runs SELECTs."""

    def __init__(self, replica: Session, primary: Session) -> None:
        self._replica = replica
        self._primary = primary
        #: How often another server or connection than before has answered in a replica's place.
        self.changes = 0

    def fetch(self, query: Query) -> Rows:
        """Return every row of a query, from a replica unless the query conflicts with replication.

        A connection that broke since the last request (a restart, a failover) is replaced and the
        query repeated once: reads are safe to repeat. A query that was cancelled because it
        conflicts with recovery runs once on the primary. The replica would cancel it again, and
        each repetition there delays replication (PostgREST issue 3673).

        Raises:
            psycopg.Error: no server can be reached, or it could not answer.
        """
        return self._read(query, _fetch_rows)

    def fetch_texts(self, query: Query) -> Texts:
        """Like `fetch`, but leave the values as text: for rows of which few values are inspected.

        Raises:
            psycopg.Error: as `fetch`.
        """
        return self._read(query, _read_texts)

    def fetch_from_primary(self, query: Query) -> Rows:
        """Return every row of a query on the primary; for single rows only, to shelter the primary.

        Raises:
            psycopg.Error: the primary can't be reached, or could not answer.
        """
        return _fetch(self._primary, query, _fetch_rows)

    def release(self) -> None:
        """Close the connection to the replica, if it is open; the next query opens a new one."""
        self._replica.close()

    def _read(self, query: Query, take: Callable[[Cursor], _Found]) -> _Found:
        try:
            return self._read_from_replica(query, take)
        except psycopg.OperationalError as exc:
            if not is_recovery_conflict(exc):
                raise
        self.changes += 1
        return _fetch(self._primary, query, take)

    def _read_from_replica(self, query: Query, take: Callable[[Cursor], _Found]) -> _Found:
        was_open = self._replica.is_open
        self.changes += not was_open
        try:
            return _fetch(self._replica, query, take)
        except psycopg.OperationalError as exc:
            # A connection that is new, or that could not be opened, would fail again.
            if not was_open or not is_connection_lost(exc):
                raise
        self.changes += 1
        return _fetch(self._replica, query, take)


def _fetch(session: Session, query: Query, take: Callable[[Cursor], _Found]) -> _Found:
    with session.cursor() as cursor:
        return take(cursor.execute(query.text, query.values))


def _fetch_rows(cursor: Cursor) -> Rows:
    return cursor.fetchall()


def _read_texts(cursor: Cursor) -> Texts:
    assert cursor.pgresult is not None  # noqa: S101 - each statement sets it
    return Texts(cursor.pgresult)
