"""A kept connection: the conditions under which it is reused or replaced."""

from __future__ import annotations

from typing import cast

import psycopg
import pytest

from forebay.db.connect import Connection
from forebay.db.session import RECONSIDER_SECONDS, Session


class Server:
    """A server that reports whether it is a standby, and counts its connections."""

    def __init__(self, *, standby: bool) -> None:
        self.standby = standby
        self.opened = 0
        self.now = 0.0

    def connect(self) -> Connection:
        self.opened += 1
        return cast("Connection", _Link(self))

    def session(self, *, prefers_standby: bool = True) -> Session:
        return Session(self.connect, prefers_standby=prefers_standby, clock=lambda: self.now)

    def parameter_status(self, name: bytes) -> bytes:
        assert name == b"in_hot_standby"
        return b"on" if self.standby else b"off"


class _Link:
    def __init__(self, server: Server) -> None:
        self.pgconn = server
        self.closed = False

    def close(self) -> None:
        self.closed = True


def use(session: Session) -> None:
    with session.connection():
        pass


def test_a_connection_is_kept() -> None:
    server = Server(standby=True)
    session = server.session()
    for _ in range(3):
        use(session)
    assert server.opened == 1


def test_a_promoted_server_is_left_at_the_next_use() -> None:
    server = Server(standby=True)
    session = server.session()
    use(session)
    server.standby = False
    assert not session.is_open
    use(session)
    assert server.opened == 2


def test_a_primary_that_had_to_do_is_kept_for_a_minute() -> None:
    server = Server(standby=False)
    session = server.session()
    use(session)
    server.now = RECONSIDER_SECONDS
    use(session)
    assert server.opened == 1
    server.now += 1
    use(session)
    use(session)
    assert server.opened == 2


def test_a_session_that_requires_the_primary_stays_there() -> None:
    server = Server(standby=False)
    session = server.session(prefers_standby=False)
    use(session)
    server.now = 10 * RECONSIDER_SECONDS
    use(session)
    assert server.opened == 1


def test_a_connection_that_an_error_broke_is_replaced() -> None:
    server = Server(standby=True)
    session = server.session()
    with pytest.raises(psycopg.OperationalError), session.connection():
        raise psycopg.OperationalError("gone")
    assert not session.is_open
    use(session)
    assert server.opened == 2
