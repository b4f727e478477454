"""The privileges of each database role, and the revocation of PUBLIC's privileges by a migration.

A database's own privileges are not copied with a template, so these tests migrate an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from psycopg import sql

from lambdas.migrate.app import migrate
from local.postgres.config import OWNER, READER, SUPERUSER
from migrations.chains import CORE
from tests.fixtures.postgres import PostgresServer, empty_database

#: The revision before the one that revokes PUBLIC's privileges.
BEFORE = "5d7a1c0e93b4"
#: Statements that create an object in the database. The last two create large objects.
MAKING = (
    "CREATE TEMPORARY TABLE made ()",
    "CREATE TEMPORARY SEQUENCE made",
    "SELECT 1 AS made INTO TEMPORARY made",
    "CREATE TABLE public.made ()",
    "CREATE TABLE forebay.made ()",
    "CREATE SCHEMA made",
    "CREATE FUNCTION public.made() RETURNS int RETURN 1",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'made')",
)


@pytest.fixture(scope="module")
def migrated(postgres_cluster: PostgresServer) -> Iterator[str]:
    """The name of a database that its owner, not a superuser, has migrated; no test changes it."""
    with empty_database(postgres_cluster) as name:
        migrate(postgres_cluster.url(OWNER, name))
        yield name


@pytest.mark.parametrize("statement", MAKING)
def test_the_reader_can_make_nothing_on_the_primary(
    postgres_cluster: PostgresServer, migrated: str, statement: str
) -> None:
    """Not even in a session that is set to read-write."""
    with psycopg.connect(postgres_cluster.url(READER, migrated), autocommit=True) as reader:
        for table in ("ledger", "edits", "effects"):
            reader.execute(f"SELECT FROM forebay.{table}".encode())
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement)


@pytest.mark.parametrize("user", [READER, OWNER])
@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_only_the_superuser_connects_to_the_servers_own_databases(
    postgres_cluster: PostgresServer, database: str, user: str
) -> None:
    """Otherwise roles could create objects there, whatever the project's database forbids."""
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(postgres_cluster.url(user, database))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_logical_emit_message(false, 'made', 'x')",
        "COPY (SELECT 1) TO '/tmp/made'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "CREATE EXTENSION file_fdw",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "SELECT pg_switch_wal()",
        "SELECT pg_reload_conf()",
        "SET session_replication_role = replica",
        "SET ROLE forebay",
        "CREATE ROLE made",
    ],
)
@pytest.mark.parametrize("user", [READER, OWNER])
def test_no_role_reaches_files_programs_or_the_server(
    postgres_cluster: PostgresServer, migrated: str, user: str, statement: str
) -> None:
    """Neither the reader nor the owner of the tables is a superuser or may act as one."""
    if (user, statement) == (OWNER, "SET ROLE forebay"):
        statement = f"SET ROLE {SUPERUSER}"
    with psycopg.connect(postgres_cluster.url(user, migrated), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        # An extension that is not installed, as in the wheel, is refused before the privilege
        # check.
        wrong = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
        with pytest.raises(wrong):
            connection.execute(statement)


def test_the_owner_goes_on_making_temporary_tables(
    postgres_cluster: PostgresServer, migrated: str
) -> None:
    with psycopg.connect(postgres_cluster.url(OWNER, migrated), autocommit=True) as owner:
        owner.execute("CREATE TEMPORARY TABLE made ()")


def test_a_role_that_applies_commands_keeps_its_temporary_tables(
    postgres_cluster: PostgresServer,
) -> None:
    """If the users are made by other means, the writer may have this privilege from PUBLIC only."""
    writer = f"writer_{uuid4().hex[:8]}"
    with (
        empty_database(postgres_cluster) as name,
        psycopg.connect(postgres_cluster.url(SUPERUSER, name), autocommit=True) as admin,
    ):
        config = CORE.configure(postgres_cluster.url(OWNER, name))
        command.upgrade(config, BEFORE)
        role = sql.Identifier(writer)
        admin.execute(sql.SQL("CREATE ROLE {}").format(role))
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA forebay TO {}").format(role))
        admin.execute(sql.SQL("GRANT SELECT, INSERT ON forebay.ledger TO {}").format(role))

        command.upgrade(config, "head")

        admin.execute(sql.SQL("SET ROLE {}").format(role))
        admin.execute("CREATE TEMPORARY TABLE made ()")
        admin.execute("RESET ROLE")
        admin.execute("DROP TABLE pg_temp.made")
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def test_an_owner_of_tables_that_does_not_own_the_database_can_migrate_it(
    postgres_cluster: PostgresServer,
) -> None:
    """Only the database's owner can revoke privileges from PUBLIC; other owners get a warning."""
    with empty_database(postgres_cluster, owner=SUPERUSER) as name:
        with psycopg.connect(postgres_cluster.url(SUPERUSER, name), autocommit=True) as admin:
            admin.execute(
                sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                    sql.Identifier(name), sql.Identifier(OWNER)
                )
            )
            admin.execute(
                sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(OWNER))
            )

        assert migrate(postgres_cluster.url(OWNER, name)) == "migrated"
