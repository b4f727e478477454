"""A database that tests reuse is in the state of the migrated template."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres.config import OWNER, SUPERUSER
from tests.fixtures.clones import Clones
from tests.fixtures.commands import city
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.tables import TABLES, Database, open_connection

_SET = "DO $$ BEGIN EXECUTE format('{}', current_database()); END $$"
#: Statements after which a database is not reused.
_CHANGES = {
    "a new table": "CREATE TABLE extra (id int)",
    "a missing table": "DROP TABLE announcements",
    "a new column": "ALTER TABLE cities ADD extra int",
    "a wider column": "ALTER TABLE cities ALTER name TYPE varchar(999)",
    "a default": "ALTER TABLE cities ALTER name SET DEFAULT ''",
    "an index": "CREATE INDEX ON countries (name)",
    "a missing index": "DROP INDEX forebay.effects_effective_id_idx",
    "a constraint": "ALTER TABLE countries ADD CHECK (name <> '')",
    "a disabled trigger": "ALTER TABLE forebay.run_objects DISABLE TRIGGER ALL",
    "a function": "CREATE FUNCTION extra() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a sequence": "CREATE SEQUENCE extra",
    "row security": "ALTER TABLE cities ENABLE ROW LEVEL SECURITY",
    "a schema": "CREATE SCHEMA extra",
    "a privilege on a schema": "REVOKE USAGE ON SCHEMA forebay FROM forebay_read",
    "a privilege on a table": "REVOKE SELECT ON cities FROM forebay_read",
    "a privilege on the database": _SET.format("GRANT TEMPORARY ON DATABASE %I TO PUBLIC"),
    "a setting of the database": _SET.format("ALTER DATABASE %I SET work_mem = 64"),
    "statistics": "ANALYZE cities",
    "a rewritten table": "TRUNCATE cities",
    "a large table": "INSERT INTO forebay.failures SELECT n, repeat(' ', 9999) || n "
    "FROM generate_series(1, 3000) AS n",
}


@pytest.fixture(scope="module")
def clones(postgres_cluster: PostgresServer) -> Iterator[Clones]:
    """Clones that no other test uses."""
    unshared = Clones(postgres_cluster)
    yield unshared
    unshared.drop()


def test_a_database_in_which_only_rows_changed_is_reused_as_it_was(
    clones: Clones, postgres_cluster: PostgresServer
) -> None:
    with clones.lend() as name, _connect(postgres_cluster, name) as connection:
        content = _read(connection)
    with clones.lend() as second, open_connection(postgres_cluster.url(OWNER, second)) as owner:
        Database("", owner).apply([city(1, key=1), city(2, name="x" * 300)])
        owner.execute("UPDATE forebay.alembic_version SET version_num = 'another'")
        owner.execute("DELETE FROM forebay.resources_version")
        owner.execute("CREATE TEMP TABLE extra (id serial)")
        assert _read(owner) != content
    with clones.lend() as third, _connect(postgres_cluster, third) as connection:
        assert name == second == third
        assert _read(connection) == content


def test_an_open_transaction_is_rolled_back(
    clones: Clones, postgres_cluster: PostgresServer
) -> None:
    with clones.lend() as name:
        left = _connect(postgres_cluster, name, autocommit=False)
        left.execute("CREATE TABLE extra (id int)")
        left.execute("SELECT pg_advisory_lock(1, 1)")
    with clones.lend() as second, _connect(postgres_cluster, second) as connection:
        assert second == name
        assert connection.execute("SELECT pg_try_advisory_lock(1, 1)").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT")


@pytest.mark.parametrize("change", _CHANGES)
def test_a_database_is_not_reused_after(
    clones: Clones, postgres_cluster: PostgresServer, change: str
) -> None:
    with clones.lend() as name, _connect(postgres_cluster, name) as connection:
        connection.execute(_CHANGES[change].encode())
    with clones.lend() as second:
        assert second != name
    with _connect(postgres_cluster, "postgres") as admin:
        query = "SELECT FROM pg_database WHERE datname = %s"
        assert admin.execute(query, [name]).fetchone() is None


def test_a_database_may_be_dropped_meanwhile(
    clones: Clones, postgres_cluster: PostgresServer
) -> None:
    with clones.lend() as name, _connect(postgres_cluster, "postgres") as admin:
        admin.execute(f"DROP DATABASE {name}".encode())
    with clones.lend() as second:
        assert second != name


def test_the_database_of_a_failed_block_is_not_reused(clones: Clones) -> None:
    with pytest.raises(RuntimeError), clones.lend() as name:
        raise RuntimeError
    with clones.lend() as second:
        assert second != name


def _connect(
    server: PostgresServer, name: str, *, autocommit: bool = True
) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server.url(SUPERUSER, name), autocommit=autocommit)


def _read(connection: psycopg.Connection[tuple[object, ...]]) -> list[list[tuple[object, ...]]]:
    names = (*TABLES, "forebay.alembic_version", "forebay.resources_version")
    return [connection.execute(f"SELECT * FROM {name}".encode()).fetchall() for name in names]
