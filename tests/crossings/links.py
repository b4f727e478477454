"""Connections to Postgres that stop at every statement."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.crossings.scheduler import Actor, Scheduler

_OPTIONS = {
    "lock_timeout": "20000",
    "search_path": "public",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
}


class _Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection of an actor; every exchange with the server is a point."""

    scheduler: Scheduler | None = None
    actor: Actor
    what: str | None = None

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
        answer = scheduler.run(self.actor, gen, self.pgconn.socket, pid)
        if fault == "lost":
            scheduler.end_backends(pid)
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the connection broke after: {what}")
        return answer


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
    only = "on" if read_only else "off"
    settings = {**_OPTIONS, "default_transaction_read_only": only}
    link = _Link.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        client_encoding="UTF8",
        application_name=actor.name,
        cursor_factory=_Cursor,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
    )
    actor.links.append(link)
    link.actor = actor
    link.scheduler = scheduler
    return link


def _name_of(gen: Any) -> str:
    """The action of a driver's generator, such as `commit` or `copy_to`."""
    name: str = getattr(gen, "__name__", type(gen).__name__)
    return {"_enter_gen": "begin", "_exit_gen": "commit or roll back"}.get(name, name)
