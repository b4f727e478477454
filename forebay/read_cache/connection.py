"""A connection for programs that change tables as well as the consumer: operators' tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from forebay.db.connect import Connection
from forebay.read_cache.positions import HAS_WRITTEN
from forebay.read_cache.writer import Announcer


def make_announcing_class(announcer: Announcer) -> type[Connection]:
    """A class of connections that announce every transaction with a change.

    These programs change too much to name it, so each transaction makes every answer invalid.
    """

    class AnnouncingConnection(psycopg.Connection[tuple[Any, ...]]):
        @contextmanager
        def transaction(
            self,
            savepoint_name: str | None = None,
            force_rollback: bool = False,  # noqa: FBT001, FBT002 - as of psycopg
        ) -> Iterator[psycopg.Transaction]:
            is_outermost = self.info.transaction_status == TransactionStatus.IDLE
            with super().transaction(savepoint_name, force_rollback) as transaction:
                yield transaction
                if is_outermost and not force_rollback and _has_written(self):
                    announcer.announce_everything(self)

        def close(self) -> None:
            super().close()
            announcer.close()

    return AnnouncingConnection


def _has_written(connection: Connection) -> bool:
    row = connection.execute(HAS_WRITTEN.encode()).fetchone()
    return row is not None and bool(row[0])
