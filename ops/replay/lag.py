"""How far the replica is behind: the age of the oldest position that it has not replayed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

import psycopg

from forebay.db.connect import Connection

_EVERY_SECONDS = 0.5


class ReplicaLag:
    """Watches one replica in the background.

    Notes the primary's position every half second, and which of the noted ones the replica has
    replayed: that needs no privilege, and an idle primary is no lag, as it would be by the time of
    the last transaction. A server that went away is connected to again when it is back.
    """

    def __init__(
        self,
        primary: Callable[[], Connection],
        replica: Callable[[], Connection],
        *,
        limit_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects to nobody yet.

        Args:
            primary: opens a connection to the primary.
            replica: opens one to the replica.
            limit_seconds: the lag with which nothing may be applied.
            clock: in seconds.
        """
        self._primary = _Kept(primary)
        self._replica = _Kept(replica)
        self._limit = limit_seconds
        self._clock = clock
        self._behind: deque[tuple[float, str]] = deque()
        self._ended = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._watch, name="replica-lag", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._primary.close()
        self._replica.close()

    @property
    def seconds(self) -> float:
        """The age of the oldest position that the replica has not replayed."""
        oldest = next(iter(self._behind), None)
        return self._clock() - oldest[0] if oldest else 0.0

    def hold(self) -> str | None:
        """Why nothing may be applied just now: the replica is too far behind, or not there."""
        if self._lost:
            return self._lost
        lag = self.seconds
        return f"the replica is {lag:.0f} s behind" if lag > self._limit else None

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            try:
                self._look()
                self._lost = None
            except psycopg.Error as exc:
                # Who asks for this throttle wants no writes whose lag nobody can see.
                self._lost = f"the replica's lag can't be measured ({' '.join(str(exc).split())})"

    def _look(self) -> None:
        now = self._clock()
        position = self._primary.one("SELECT pg_current_wal_lsn()::text")
        self._behind.append((now, position))
        while self._behind:
            done = self._replica.one(
                "SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, true)::text",
                self._behind[0][1],
            )
            if done != "true":
                return
            self._behind.popleft()


class _Kept:
    """A connection that is opened when it is needed, and again after an error."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def one(self, query: str, *parameters: object) -> str:
        """The one value of a query.

        Raises:
            psycopg.Error: the server is not there, or ended the connection.
        """
        if self._connection is None:
            self._connection = self._connect()
        try:
            row = self._connection.execute(query.encode(), parameters).fetchone()
        except psycopg.Error:
            self.close()
            raise
        assert row is not None  # noqa: S101 - the queries give one row
        return str(row[0])

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
