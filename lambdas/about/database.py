"""The function's view of the database: the health questions, asked on a replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from forebay.db.session import Session
from forebay.errors import TransientError
from lambdas.about.sql import LAGS, REPLICATION, ROWS, UNAPPLIED


class DatabaseAwayError(TransientError):
    """The database can't be asked now."""


@dataclass(frozen=True, slots=True)
class Replication:
    """What the database that was asked says of itself."""

    #: Whether it is a replica.
    replica: bool
    #: Whether its primary feeds it at the moment.
    streaming: bool
    #: Seconds; None on a primary, and on a replica that has not replayed any change yet.
    lag_seconds: float | None


class HealthDatabase:
    """Asks the health questions. Every method raises DatabaseAwayError."""

    def __init__(self, replica: Session) -> None:
        self._replica = replica

    def replication(self) -> Replication:
        """How far behind its primary the database is."""
        return Replication(*self._rows(REPLICATION)[0])

    def lags(self, window_seconds: float) -> list[int]:
        """The histogram (`forebay.lag`) of all commands whose objects were finished lately."""
        found = dict(self._rows(LAGS, [window_seconds]))
        return [int(found.get(bucket + 1, 0)) for bucket in range(max(found, default=0))]

    def estimated_rows(self, tables: Sequence[str]) -> Mapping[str, int | None]:
        """About how many rows the tables have; None where nobody has counted yet."""
        return dict(self._rows(ROWS, [list(tables)]))

    def unapplied(self, objects: Sequence[str]) -> set[str]:
        """Those of the archive's objects that the ledger does not show as applied."""
        return {key for (key,) in self._rows(UNAPPLIED, [list(objects)])}

    def _rows(self, query: LiteralString, parameters: Sequence[object] = ()) -> list[Any]:
        """A connection that was lost since the last time is replaced, once."""
        try:
            try:
                return self._fetch(query, parameters)
            except psycopg.OperationalError:
                return self._fetch(query, parameters)
        except psycopg.Error as exc:
            raise DatabaseAwayError(str(exc)) from exc

    def _fetch(self, query: LiteralString, parameters: Sequence[object]) -> list[Any]:
        with self._replica.connection() as connection:
            return connection.execute(query, parameters).fetchall()
