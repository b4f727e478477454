"""One upsert and one commit per row, as in a synchronous API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from bench import orders
from forebay.db.connect import Connection


class RowByRow:
    """Upserts rows individually over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        names = orders.columns()
        self._upsert = sql.SQL(
            "INSERT INTO orders ({names}) VALUES ({values})"
            " ON CONFLICT (id) DO UPDATE SET {changes}"
            " WHERE excluded._version > orders._version"
        ).format(
            names=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(sql.Placeholder() * len(names)),
            changes=sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names[1:]
            ),
        )

    def load(self, rows: Sequence[Sequence[Any]]) -> None:
        """Upsert each row in its own transaction, with a statement that is prepared once."""
        for row in rows:
            self._connection.execute(self._upsert, row, prepare=True)
