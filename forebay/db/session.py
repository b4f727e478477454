"""One connection, kept while it is well: what a warm function has instead of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from forebay.db.connect import Connection


class Session:
    """Opens its connection when first asked, and again after it was lost.

    A function serves one request at a time, so one connection is all that it needs, and the
    primary's connections are bounded by the function's concurrency.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection; one that an error broke is closed, and the next call opens another.

        Raises:
            psycopg.OperationalError: no server, or it refuses us.
        """
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = self._connect()
        try:
            yield connection
        except psycopg.OperationalError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
