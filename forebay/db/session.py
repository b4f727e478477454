"""A single connection, kept open while it works; replaces a pool in a warm function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from forebay.db.connect import Connection, Cursor

#: How long a session that prefers standbys stays with a primary before it looks for a standby.
RECONSIDER_SECONDS = 60.0


class Session:
    """Opens its connection at the first use, and again after it was lost.

    A function serves one request at a time, so a single connection is enough. The function's
    concurrency bounds the primary's connections.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        prefers_standby: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a session without opening a connection.

        Args:
            connect: opens a connection.
            prefers_standby: replace a connection at its next use if its standby has been promoted,
                and a connection to a primary (no standby was available) after a minute.
            clock: seconds of a monotonic clock.
        """
        self._connect = connect
        self._prefers_standby = prefers_standby
        self._clock = clock
        self._connection: Connection | None = None
        self._cursor: Cursor | None = None
        self._began_on_standby = False
        self._opened_at = 0.0

    @property
    def is_open(self) -> bool:
        """True if there is a connection that is not known to be lost or outdated."""
        connection = self._connection
        return (
            connection is not None and not connection.closed and not self._is_outdated(connection)
        )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection; closed after an OperationalError, so that the next call opens another.

        Raises:
            psycopg.OperationalError: no server answers, or it refuses the login.
        """
        connection = self._connection
        if connection is None or not self.is_open:
            connection = self._open()
        try:
            yield connection
        except psycopg.OperationalError:
            self.close()
            raise

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """A cursor of that connection, the same at each call: a new cursor takes 16 µs.

        Raises:
            psycopg.OperationalError: as `connection`.
        """
        with self.connection() as connection:
            cursor = self._cursor
            if cursor is None or cursor.connection is not connection:
                cursor = self._cursor = connection.cursor()
            yield cursor

    def _open(self) -> Connection:
        self.close()
        connection = self._connection = self._connect()
        self._began_on_standby = _is_standby(connection) is True
        self._opened_at = self._clock()
        return connection

    def _is_outdated(self, connection: Connection) -> bool:
        if not self._prefers_standby or _is_standby(connection) is not False:
            return False
        return self._began_on_standby or self._clock() - self._opened_at > RECONSIDER_SECONDS

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._cursor = None


def _is_standby(connection: Connection) -> bool | None:
    """The server's state at its last report, sent with an answer; None before PostgreSQL 14."""
    status = connection.pgconn.parameter_status(b"in_hot_standby")
    return None if status is None else status == b"on"
