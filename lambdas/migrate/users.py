"""The database's users other than its owner: a writer that applies commands, and a reader.

On RDS they log in with IAM tokens only: they have the role `rds_iam` and no password. All
statements can be repeated. They run after each migration, to include its new tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

_SCHEMAS: Final = ("public", "forebay")
#: The databases that RDS creates in addition to the project's. A user that may log in to the
#: project's database may log in to them too: RDS Proxy needs the first, so CONNECT is not revoked.
_OTHER_DATABASES: Final = ("postgres", "template1")

# The session settings that forebay/db/connect.py sends at connect. RDS Proxy refuses them, so
# here they are the roles' defaults. Without RDS Proxy, the session's settings override them.
_SESSION: Final[Mapping[str, str]] = {
    "search_path": "public",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "idle_in_transaction_session_timeout": "60s",
}
_WRITER_SESSION: Final[Mapping[str, str]] = {
    **_SESSION,
    "statement_timeout": "60s",
    "lock_timeout": "30s",
}
_READER_SESSION: Final[Mapping[str, str]] = {
    **_SESSION,
    # Longer than API Gateway's time-out.
    "statement_timeout": "30s",
    "default_transaction_read_only": "on",
}


def make_users(
    connection: psycopg.Connection[Any],
    *,
    writer: str,
    reader: str,
    other_databases: Sequence[str] = _OTHER_DATABASES,
) -> None:
    """Create the two users, grant the privileges that they need, and revoke the others.

    Only the writer may create temporary tables: the privilege is revoked from PUBLIC in each
    database of the server that the owner owns.

    Args:
        connection: a connection as the owner of the tables, with the right to create roles.
        writer: name of the user that applies commands; it may change rows but no table.
        reader: name of the user that may read everything.
        other_databases: databases of the server; those that the owner does not own are skipped.

    Raises:
        psycopg.Error: the owner lacks a privilege, or the database can't be reached.
    """
    with connection.transaction():
        for user, session in ((writer, _WRITER_SESSION), (reader, _READER_SESSION)):
            _make_user(connection, user, session)
        _allow(connection, writer, "SELECT, INSERT, UPDATE, DELETE")
        _allow(connection, reader, "SELECT")
        database_name = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(
                database_name, sql.Identifier(writer)
            )
        )
        for database in (
            database_name,
            *map(sql.Identifier, _filter_owned(connection, other_databases)),
        ):
            connection.execute(
                sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC, {}").format(
                    database, sql.Identifier(reader)
                )
            )


def _make_user(connection: psycopg.Connection[Any], user: str, session: Mapping[str, str]) -> None:
    name = sql.Identifier(user)
    if not _has_role(connection, user):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    if _has_role(connection, "rds_iam"):
        connection.execute(sql.SQL("GRANT rds_iam TO {}").format(name))
    for key, value in session.items():
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                name, sql.Identifier(key), sql.Literal(value)
            )
        )


def _allow(connection: psycopg.Connection[Any], user: str, rights: LiteralString) -> None:
    name = sql.Identifier(user)
    for schema in map(sql.Identifier, _SCHEMAS):
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name))
        connection.execute(
            sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA {} TO {}").format(
                sql.SQL(rights), schema, name
            )
        )
        if rights != "SELECT":
            connection.execute(
                sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO {}").format(schema, name)
            )


def _filter_owned(connection: psycopg.Connection[Any], databases: Sequence[str]) -> list[str]:
    """Filter the databases to those that this user owns, itself or by a role that it has."""
    rows = connection.execute(
        "SELECT datname FROM pg_database"
        " WHERE datname = ANY(%s) AND pg_has_role(datdba, 'USAGE') ORDER BY datname",
        [list(databases)],
    ).fetchall()
    return [str(row[0]) for row in rows]


def _has_role(connection: psycopg.Connection[Any], role: str) -> bool:
    row = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return row is not None
