"""The about function's access to the database: the health queries, run on a replica."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Timer
from typing import Any, LiteralString

import psycopg

from forebay.db.connect import Connection
from forebay.db.session import Session
from forebay.errors import TransientError
from forebay.waiting import WAITING, Waiting
from lambdas.about.sql import LAGS, OPEN_REJECTIONS, REPLAYED, REPLICATION, ROWS, UNAPPLIED

#: Time-out of a query on the client: a frozen server enforces no statement time-out.
SILENCE_SECONDS = 2.5
#: A replica that replays its received log within this time is not behind.
_REPLAY_SECONDS = 0.1


class DatabaseAwayError(TransientError):
    """The database can't be queried now."""


@dataclass(frozen=True, slots=True)
class Replication:
    """The replication state of the database that answered."""

    #: True for a replica.
    replica: bool
    #: True if it is receiving changes from its primary now.
    streaming: bool
    #: Seconds; None on a primary, and on a replica that has not replayed any change yet.
    lag_seconds: float | None


class HealthDatabase:
    """Runs the health queries. Every method raises DatabaseAwayError."""

    def __init__(self, replica: Session, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        """Use the replica's session; no query runs yet.

        Args:
            replica: the session of the replica.
            silence_seconds: the time-out of a query that gets no answer.
        """
        self._replica = replica
        self._silence_seconds = silence_seconds

    def read_replication(self) -> Replication:
        """How far the database is behind its primary."""
        *values, received = self._query_rows(REPLICATION)[0]
        state = Replication(*values)
        if state.streaming and state.lag_seconds and self._replays_soon(received):
            return replace(state, lag_seconds=0.0)
        return state

    def read_lags(self, window_seconds: float) -> list[int]:
        """The histogram (`forebay.lag`) of all commands in objects completed in the window."""
        counts = dict(self._query_rows(LAGS, [window_seconds]))
        return [int(counts.get(bucket + 1, 0)) for bucket in range(max(counts, default=0))]

    def estimate_rows(self, tables: Sequence[str]) -> Mapping[str, int | None]:
        """The tables' approximate numbers of rows; None for a table that was never analyzed."""
        return dict(self._query_rows(ROWS, [list(tables)]))

    def count_open_rejections(self) -> int:
        """The number of rejections that no operator has resolved."""
        return int(self._query_rows(OPEN_REJECTIONS)[0][0])

    def read_waiting(self) -> Waiting:
        """The commands that wait for their item."""
        return Waiting.of_row(self._query_rows(WAITING)[0])

    def find_unapplied(self, objects: Sequence[str]) -> set[str]:
        """The objects that the ledger does not show as applied."""
        return {key for (key,) in self._query_rows(UNAPPLIED, [list(objects)])}

    def _replays_soon(self, received: str) -> bool:
        """Return True if a position of the log is replayed within a moment.

        Log without a commit (a vacuum's, a checkpoint's) is received and replayed all the time. The
        age of the last commit is not a lag then.
        """
        time.sleep(_REPLAY_SECONDS)
        return bool(self._query_rows(REPLAYED, [received])[0][0])

    def _query_rows(self, query: LiteralString, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query.

        A connection that broke since the last query is replaced, once. A new connection that fails,
        or one that timed out, is not replaced: the caller is waiting.
        """
        was_open = self._replica.is_open
        started = time.monotonic()
        try:
            try:
                return self._fetch(query, parameters)
            except psycopg.OperationalError:
                if not was_open or time.monotonic() - started >= self._silence_seconds:
                    raise
                return self._fetch(query, parameters)
        except psycopg.Error as exc:
            raise DatabaseAwayError(str(exc)) from exc

    def _fetch(self, query: LiteralString, parameters: Sequence[object]) -> list[Any]:
        with (
            self._replica.connection() as connection,
            _cut_after(connection, self._silence_seconds),
        ):
            return connection.execute(query, parameters).fetchall()


@contextmanager
def _cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """End the connection after that time, so that its query fails."""
    timer = Timer(seconds, _cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: Connection) -> None:
    # `close` would free memory that the waiting thread uses; only the socket is shut down.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=connection.fileno()) as server:
        try:
            server.shutdown(socket.SHUT_RDWR)
        finally:
            server.detach()
