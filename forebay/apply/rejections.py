"""Rejections: written beside the tables and to the archive before the chunk commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

from forebay.apply.outcome import BadLine, Rejection, Source
from forebay.codec import encode
from forebay.command import Command
from forebay.db.connect import Connection


class RejectionBook:
    """The rejections of one chunk: `open`, then any number of `reject`, then `close`."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        archive: Callable[[Sequence[Rejection]], None],
    ) -> None:
        self._connection = connection
        self._source = source
        self._archive = archive
        self._new: dict[str, Rejection] = {}
        self._repeated = 0

    def open(self) -> None:
        """Begins a chunk."""
        self._new, self._repeated = {}, 0

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that were rejected before: a rejected command stays rejected."""
        if self._connection.execute("SELECT FROM forebay.rejections LIMIT 1").fetchone() is None:
            return set()
        rows = self._connection.execute(
            "SELECT id::text FROM forebay.rejections WHERE id = ANY(%s::uuid[])", [list(ids)]
        ).fetchall()
        return {row[0] for row in rows}

    def reject(
        self, command: Command, code: str, detail: str, *, sqlstate: str | None = None
    ) -> None:
        """Notes that a command can never apply."""
        self._add(
            Rejection(
                id=command.id,
                resource=command.resource,
                key=str(command.key),
                op=command.op,
                code=code,
                sqlstate=sqlstate,
                detail=detail,
                line=encode(command),
                object=self._source.object,
            )
        )

    def reject_line(self, bad: BadLine) -> None:
        """Notes that a line is no command."""
        self._add(Rejection.of_line(bad, self._source))

    def close(self) -> tuple[int, int]:
        """Writes what was noted: how many were new, and how many had been rejected before.

        The archive comes first: should the commit fail, the next try writes the same object again.
        """
        if not self._new:
            return 0, self._repeated
        rejections = list(self._new.values())
        ids = [rejection.id for rejection in rejections]
        known = self.known(ids)
        fresh = [rejection for rejection in rejections if rejection.id not in known]
        if fresh:
            self._archive(fresh)
            with self._connection.cursor() as cursor:
                cursor.executemany(_INSERT, [astuple(rejection) for rejection in fresh])
        return len(fresh), len(known) + self._repeated

    def _add(self, rejection: Rejection) -> None:
        if rejection.id in self._new:
            self._repeated += 1
        else:
            self._new[rejection.id] = rejection


_INSERT = """
    INSERT INTO forebay.rejections
      (id, resource, key, op, code, sqlstate, detail, line, object)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING
"""
