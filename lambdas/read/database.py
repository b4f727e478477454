"""The read function's two sessions: the replicas', and the primary's for when they are behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import psycopg

from forebay.db.session import Session
from lambdas.read.sql import Query

Rows: TypeAlias = Sequence[tuple[Any, ...]]


class ReadDatabase:
    """Runs SELECTs."""

    def __init__(self, replica: Session, primary: Session) -> None:
        self._replica = replica
        self._primary = primary

    def fetch(self, query: Query) -> Rows:
        """Every row of a query on a replica.

        A connection that broke since the last request (a restart, a failover) is replaced and the
        query run once more: reads are safe to repeat.

        Raises:
            psycopg.Error: the replica is not there, or could not answer.
        """
        try:
            return _fetch(self._replica, query)
        except psycopg.OperationalError as exc:
            if exc.sqlstate is not None and not exc.sqlstate.startswith(("57P", "08")):
                raise
            return _fetch(self._replica, query)

    def fetch_from_primary(self, query: Query) -> Rows:
        """Every row of a query on the primary; for single rows only: the primary is sheltered.

        Raises:
            psycopg.Error: the primary is not there, or could not answer.
        """
        return _fetch(self._primary, query)


def _fetch(session: Session, query: Query) -> Rows:
    with session.connection() as connection:
        return connection.execute(*query).fetchall()
