"""The database's users besides its owner: one who applies commands, one who reads.

Where the database is RDS they log in by IAM token only: the role `rds_iam` is theirs, and they have
no password. Everything here may be done again; after each migration it is, for the new tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

_SCHEMAS: Final = ("public", "forebay")
#: The databases that RDS makes beside ours. Who may log in to ours may log in to them: RDS Proxy
#: needs the first, so nobody is shut out of them.
_OTHER_DATABASES: Final = ("postgres", "template1")

# What a session is told at its start (forebay/db/connect.py). RDS Proxy refuses to be told, so here
# they are the users' own; elsewhere the session's win.
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
    # API Gateway has given up by then.
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
    """Makes the two users, gives them what they lack, and takes what they don't need.

    Temporary tables are for the writer only: PUBLIC can make none, in no database of the server
    that the owner owns.

    Args:
        connection: as the owner of the tables, who may make roles.
        writer: applies commands; may change rows and no table.
        reader: may look at everything.
        other_databases: of the server; those that the owner does not own are left alone.

    Raises:
        psycopg.Error: the owner may not, or the database is not there.
    """
    with connection.transaction():
        for user, session in ((writer, _WRITER_SESSION), (reader, _READER_SESSION)):
            _make(connection, user, session)
        _allow(connection, writer, "SELECT, INSERT, UPDATE, DELETE")
        _allow(connection, reader, "SELECT")
        own = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(own, sql.Identifier(writer))
        )
        for database in (own, *map(sql.Identifier, _owned(connection, other_databases))):
            connection.execute(
                sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC, {}").format(
                    database, sql.Identifier(reader)
                )
            )


def _make(connection: psycopg.Connection[Any], user: str, session: Mapping[str, str]) -> None:
    name = sql.Identifier(user)
    if not _exists(connection, user):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    if _exists(connection, "rds_iam"):
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


def _owned(connection: psycopg.Connection[Any], databases: Sequence[str]) -> list[str]:
    """Those of the databases whose owner this user is, or may act as."""
    rows = connection.execute(
        "SELECT datname FROM pg_database"
        " WHERE datname = ANY(%s) AND pg_has_role(datdba, 'USAGE') ORDER BY datname",
        [list(databases)],
    ).fetchall()
    return [str(row[0]) for row in rows]


def _exists(connection: psycopg.Connection[Any], role: str) -> bool:
    found = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return found is not None
