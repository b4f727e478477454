"""Connections to Postgres that stop at every statement.

The sessions of closed connections are used again, because a new session takes as long as a dozen
statements. `DISCARD ALL` makes them new: no locks, temporary tables or settings are left.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import ExecStatus, PGconn, TransactionStatus
from psycopg.pq.abc import PGconn as Session

from tests.crossings.scheduler import Actor, Scheduler

_OPTIONS = {
    "lock_timeout": "20000",
    "search_path": "public",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
}

#: Unused sessions, by the address of the database and whether they are for reading only.
_IDLE: dict[tuple[str, bool], list[Session]] = {}


class _Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection of an actor; every exchange with the server is a point."""

    scheduler: Scheduler | None = None
    actor: Actor
    what: str | None = None
    #: Unused sessions with the same settings.
    idle: list[Session]

    def close(self) -> None:
        """Close the connection, and keep its session if that is intact."""
        if self.closed:
            return
        session, scheduler, self.scheduler = self.pgconn, self.scheduler, None
        if _is_made_new(session):
            self.idle.append(session)
            self.pgconn = _make_closed_session()
        super().close()
        if scheduler is not None:
            scheduler.note_release()

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        scheduler = self.scheduler
        if scheduler is None:
            return super().wait(gen, *args, **kwargs)
        what, self.what = self.what or _name_of(gen), None
        fault = None
        if what != "copy_to":
            fault = scheduler.enter(self.actor, f"sql {what}")
        elif self.actor.is_dead:
            scheduler.crash(self.actor)
        pid = self.pgconn.backend_pid
        if fault == "cut":
            scheduler.end_backends(pid)
        try:
            answer = scheduler.run(self.actor, gen, self.pgconn.socket, pid)
        finally:
            if not self._keeps_locks(what):
                scheduler.note_release()
        if fault == "lost":
            scheduler.end_backends(pid)
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the connection broke after: {what}")
        return answer

    def _keeps_locks(self, what: str) -> bool:
        """Return whether the session still holds every lock after the action."""
        is_within = self.pgconn.transaction_status == TransactionStatus.INTRANS
        return is_within and what != "commit or roll back" and "unlock" not in what


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """Passes its statement's text to the connection, for the trace."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> _Cursor:
        self._name(query)
        super().execute(query, *args, **kwargs)
        return self

    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        self._name(statement)
        return super().copy(statement, *args, **kwargs)

    def _name(self, query: Any) -> None:
        text = query if isinstance(query, str) else self._text(query)
        self.connection.what = " ".join(text.split())[:110]  # type: ignore[attr-defined]

    def _text(self, query: Any) -> str:
        if isinstance(query, bytes):
            return query.decode()
        return str(query.as_string(None))


def connect(url: str, scheduler: Scheduler, actor: Actor, *, read_only: bool = False) -> _Link:
    """Open an actor's connection with the settings of `forebay.db.connect`."""
    scheduler.enter(actor, "connect")
    idle = _IDLE.setdefault((url, read_only), [])
    link = _open_again(idle, actor.name) or _open(url, actor.name, read_only=read_only)
    link.idle = idle
    link.prepare_threshold = None
    link.cursor_factory = _Cursor
    actor.links.append(link)
    link.actor = actor
    link.scheduler = scheduler
    return link


def _open(url: str, name: str, *, read_only: bool) -> _Link:
    only = "on" if read_only else "off"
    settings = {**_OPTIONS, "default_transaction_read_only": only}
    return _Link.connect(
        url,
        autocommit=True,
        client_encoding="UTF8",
        application_name=name,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
    )


def _open_again(idle: list[Session], name: str) -> _Link | None:
    while idle:
        session = idle.pop()
        if _has_done(session, f"SET application_name = $${name}$$"):
            link = _Link(session)
            link.autocommit = True
            return link
    return None


def _is_made_new(session: Session) -> bool:
    """Return whether the session is now as a new session."""
    status = session.transaction_status
    if status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        return _has_done(session, "ROLLBACK") and _has_done(session, "DISCARD ALL")
    return status == TransactionStatus.IDLE and _has_done(session, "DISCARD ALL")


def _has_done(session: Session, statement: str) -> bool:
    """Return whether the session has executed the statement; False if it was terminated."""
    return session.exec_(statement.encode()).status == ExecStatus.COMMAND_OK


def _make_closed_session() -> Session:
    session = PGconn.connect_start(b"hostaddr=127.0.0.1 port=1")
    session.finish()
    return session


def _name_of(gen: Any) -> str:
    """The action of a driver's generator, such as `commit` or `copy_to`."""
    name: str = getattr(gen, "__name__", type(gen).__name__)
    return {"_enter_gen": "begin", "_exit_gen": "commit or roll back"}.get(name, name)
