"""Measures a replica's lag: the age of the oldest position that it has not replayed."""

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
    """Measures the lag of a replica in a thread.

    Every half second, the thread records the primary's position, and removes the recorded positions
    that the replica has replayed. This needs no privilege. An idle primary causes no lag, unlike in
    a measurement by the time of the last transaction. After a lost connection, the thread connects
    again.
    """

    def __init__(
        self,
        primary: Callable[[], Connection],
        replica: Callable[[], Connection],
        *,
        limit_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the measurement; the connections are opened later.

        Args:
            primary: opens a connection to the primary.
            replica: opens a connection to the replica.
            limit_seconds: the lag above which the replay waits.
            clock: returns a monotonic time in seconds.
        """
        self._primary = _Reconnecting(primary)
        self._replica = _Reconnecting(replica)
        self._limit = limit_seconds
        self._clock = clock
        self._positions: deque[tuple[float, str]] = deque()
        self._ended = threading.Event()
        self._error: str | None = None
        self._thread = threading.Thread(target=self._watch, name="replica-lag", daemon=True)

    def __enter__(self) -> Self:
        self._measure()
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
        oldest = next(iter(self._positions), None)
        return self._clock() - oldest[0] if oldest else 0.0

    def find_delay(self) -> str | None:
        """Return the reason why the replay must wait: the lag, or a failed measurement."""
        if self._error:
            return self._error
        lag = self.seconds
        return f"the replica is {lag:.0f} s behind" if lag > self._limit else None

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            try:
                self._measure()
                self._error = None
            except psycopg.Error as exc:
                # Without a measurement the lag may be above the limit, so the replay must wait.
                self._error = f"the replica's lag can't be measured ({' '.join(str(exc).split())})"

    def _measure(self) -> None:
        now = self._clock()
        position = self._primary.query("SELECT pg_current_wal_lsn()::text")
        self._positions.append((now, position))
        while self._positions:
            is_replayed = self._replica.query(
                "SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, true)::text",
                self._positions[0][1],
            )
            if is_replayed != "true":
                return
            self._positions.popleft()


class _Reconnecting:
    """A connection that is opened at its first use, and again after an error."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def query(self, statement: str, *parameters: object) -> str:
        """Return the single value of a query's result.

        Raises:
            psycopg.Error: the server did not answer, or ended the connection.
        """
        if self._connection is None:
            self._connection = self._connect()
        try:
            row = self._connection.execute(statement.encode(), parameters).fetchone()
        except psycopg.Error:
            self.close()
            raise
        assert row is not None  # noqa: S101 - the queries return one row
        return str(row[0])

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
