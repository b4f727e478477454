"""The read function's two sessions: the replicas', and the primary's for when they can't answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import psycopg

from forebay.db.faults import is_connection_lost, is_recovery_conflict
from forebay.db.session import Session
from lambdas.read.sql.statement import Query

Rows: TypeAlias = Sequence[tuple[Any, ...]]


class ReadDatabase:
    """Runs SELECTs."""

    def __init__(self, replica: Session, primary: Session) -> None:
        self._replica = replica
        self._primary = primary

    def fetch(self, query: Query) -> Rows:
        """Every row of a query, on a replica if it can be.

        A connection that broke since the last request (a restart, a failover) is replaced and the
        query run once more: reads are safe to repeat. A query that got into the way of replication
        is run once on the primary; the replica would cancel it again, and each repetition there
        holds replication up (PostgREST issue 3673).

        Raises:
            psycopg.Error: no server is there, or it could not answer.
        """
        try:
            return self._fetch_from_replica(query)
        except psycopg.OperationalError as exc:
            if not is_recovery_conflict(exc):
                raise
        return _fetch(self._primary, query)

    def fetch_from_primary(self, query: Query) -> Rows:
        """Every row of a query on the primary; for single rows only: the primary is sheltered.

        Raises:
            psycopg.Error: the primary is not there, or could not answer.
        """
        return _fetch(self._primary, query)

    def _fetch_from_replica(self, query: Query) -> Rows:
        was_open = self._replica.is_open
        try:
            return _fetch(self._replica, query)
        except psycopg.OperationalError as exc:
            # What has just been opened, or could not be, is not going to be better at once.
            if not was_open or not is_connection_lost(exc):
                raise
        return _fetch(self._replica, query)


def _fetch(session: Session, query: Query) -> Rows:
    with session.connection() as connection:
        return connection.execute(query.text, query.values).fetchall()
