"""The database that is rebuilt: its tables, and the indexes that are created after loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from psycopg import sql

from forebay.db.connect import Connection
from forebay.resource.spec import ResourceSpec
from ops.errors import RefusedError

PIPELINE = ("tombstones", "rejections", "decisions", "edits", "effects", "ledger")


class PutOff(NamedTuple):
    """An index or a constraint that is dropped before the rows are loaded, and created after."""

    name: str
    drop: sql.Composed
    make: sql.Composed
    #: Whether it is an enforced reference, which depends on the key of another table.
    is_reference: bool = False


def list_tables(resources: Mapping[str, ResourceSpec]) -> list[sql.Identifier]:
    """Return the tables that a rebuild fills."""
    return [
        *(sql.Identifier("public", spec.table) for spec in resources.values()),
        *(sql.Identifier("forebay", name) for name in PIPELINE),
    ]


def check_empty(
    connection: Connection, resources: Mapping[str, ResourceSpec], *, may_lack_tables: bool = False
) -> None:
    """Refuse a database with rows.

    Args:
        connection: a connection to the database.
        resources: the declarations, by path.
        may_lack_tables: whether tables may be missing, as in a database without the newest schema.

    Raises:
        RefusedError: tables have rows; the message names them.
    """
    full = [
        table.as_string(connection)
        for table in list_tables(resources)
        if not (may_lack_tables and _is_missing(connection, table))
        and connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone()
    ]
    if full:
        raise RefusedError(
            f"the database is not empty: {', '.join(full)} have rows; rebuild into a new database, "
            "or update this one with `forebay replay`"
        )


def _is_missing(connection: Connection, table: sql.Identifier) -> bool:
    name = table.as_string(connection)
    return connection.execute("SELECT to_regclass(%s) IS NULL", [name]).fetchone() == (True,)


def put_off(connection: Connection, spec: ResourceSpec) -> list[PutOff]:
    """Return the constraints of a resource's table, then its other indexes."""
    table = sql.Identifier("public", spec.table)
    items: list[PutOff] = []
    for name, definition, kind in connection.execute(_CONSTRAINTS, [f"public.{spec.table}"]):
        identifier = sql.Identifier(name)
        items.append(
            PutOff(
                name,
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, identifier),
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    table, identifier, sql.SQL(definition)
                ),
                is_reference=kind == "f",
            )
        )
    for name, definition in connection.execute(_INDEXES, [f"public.{spec.table}"]):
        items.append(
            PutOff(
                name,
                sql.SQL("DROP INDEX {}").format(sql.Identifier("public", name)),
                sql.Composed([sql.SQL(definition)]),
            )
        )
    return items


# References come first: they depend on keys, so they are dropped first and created last.
_CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(oid), contype::text FROM pg_constraint
    WHERE conrelid = %s::regclass AND contype IN ('f', 'p', 'u', 'x')
    ORDER BY contype <> 'f', conname
"""
_INDEXES = """
    SELECT i.relname, pg_get_indexdef(i.oid)
    FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid
    WHERE indrelid = %s::regclass
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid AND contype <> 'f')
    ORDER BY i.relname
"""
