"""The permissions of the stack's two logins, and a check that the replica is really a replica."""

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres.config import DATABASE, OWNER, READER, REPLICATION, SUPERUSER
from tests.fixtures.postgres import PostgresServer, ReplicatedCluster


@pytest.fixture
def owner(replicated_database_urls: tuple[str, str]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(replicated_database_urls[0], autocommit=True) as connection:
        yield connection


def reader_url(cluster: PostgresServer, url: str) -> str:
    return cluster.url(READER, url.rpartition("/")[2])


def test_the_reader_sees_later_tables_of_the_owner_in_any_schema(
    owner: psycopg.Connection,
    replicated_database_urls: tuple[str, str],
    replicated_cluster: ReplicatedCluster,
) -> None:
    owner.execute("CREATE SCHEMA later")
    owner.execute("CREATE TABLE later.things AS SELECT 42 AS answer")
    replicated_cluster.wait_for_replica()

    url = reader_url(replicated_cluster.replica, replicated_database_urls[1])
    with psycopg.connect(url) as reader:
        assert reader.execute("SELECT answer FROM later.things").fetchone() == (42,)


def test_the_reader_changes_nothing_on_the_primary(
    owner: psycopg.Connection,
    replicated_database_urls: tuple[str, str],
    replicated_cluster: ReplicatedCluster,
) -> None:
    owner.execute("CREATE TABLE public.things (answer int)")

    with (
        psycopg.connect(
            reader_url(replicated_cluster.primary, replicated_database_urls[0])
        ) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("INSERT INTO public.things VALUES (1)")


def test_the_owner_is_not_a_superuser(owner: psycopg.Connection) -> None:
    """So the same code also works with a managed database."""
    assert owner.execute("SHOW is_superuser").fetchone() == ("off",)


def test_the_replica_takes_no_writes(replicated_database_urls: tuple[str, str]) -> None:
    with (
        psycopg.connect(replicated_database_urls[1]) as replica,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        replica.execute("CREATE TABLE public.things (answer int)")


def test_a_read_holds_back_the_replica_only_for_a_bounded_time(
    replicated_database_urls: tuple[str, str],
) -> None:
    with psycopg.connect(replicated_database_urls[1]) as replica:
        assert replica.execute("SHOW max_standby_streaming_delay").fetchone() == ("3s",)
        assert replica.execute("SHOW hot_standby_feedback").fetchone() == ("on",)


#: Ways in which a login could run programs, or read and write files, as the server's user.
ESCAPES = {
    "a program is written to": "COPY (SELECT 1) TO PROGRAM 'true'",
    "a program is read": "COPY things FROM PROGRAM 'echo 1'",
    "a file is written": "COPY (SELECT 1) TO '/tmp/forebay-escape'",
    "a file is copied in": "COPY things FROM '/etc/passwd'",
    "a file is read": "SELECT pg_read_file('PG_VERSION')",
    "a folder is listed": "SELECT pg_ls_dir('.')",
    "a file becomes a large object": "SELECT lo_import('/etc/passwd')",
    "a large object becomes a file": "SELECT lo_export(1, '/tmp/forebay-escape')",
    "the archiver runs a program": "ALTER SYSTEM SET archive_command = 'true'",
    "a library is loaded": "LOAD '/tmp/forebay-escape.so'",
    "sessions load a library": "SET session_preload_libraries = 'x'",
    "a function of a library": "CREATE FUNCTION f() RETURNS int AS 'x', 'y' LANGUAGE C",
    "a function of the server": "CREATE FUNCTION f() RETURNS text AS 'pg_ls_dir' LANGUAGE internal",
    "the superuser's role is taken": f"SET ROLE {SUPERUSER}",
    "a role with programs is taken": "SET ROLE pg_execute_server_program",
    "a role with files is given": f"GRANT pg_read_server_files TO {OWNER}",
    "a role is made the superuser": f"ALTER ROLE {OWNER} SUPERUSER",
    "a password is changed": f"ALTER ROLE {SUPERUSER} PASSWORD 'x'",
}


@pytest.mark.parametrize("statement", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("role", [OWNER, READER, REPLICATION])
def test_no_login_of_the_stack_runs_programs_or_reaches_files(
    postgres_cluster: PostgresServer, database_url: str, role: str, statement: str
) -> None:
    """Not even with every privilege on a table of the database."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE things (line text)")
        owner.execute("GRANT ALL ON things TO PUBLIC")
    url = postgres_cluster.url(role, database_url.rpartition("/")[2])
    with (
        psycopg.connect(url, autocommit=True) as login,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        login.execute(statement.encode())


@pytest.mark.parametrize("language", ["plpython3u", "plperlu", "pltclu", "file_fdw", "dblink"])
def test_the_owner_adds_no_way_out_of_the_database(
    owner: psycopg.Connection, language: str
) -> None:
    # A server without the extension raises the second error.
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
        owner.execute(f"CREATE EXTENSION {language}".encode())


@pytest.mark.parametrize("role", [SUPERUSER, OWNER, READER, REPLICATION])
@pytest.mark.parametrize("database", ["postgres", DATABASE])
def test_no_role_logs_in_with_its_name_or_without_a_password(
    replicated_cluster: ReplicatedCluster, role: str, database: str
) -> None:
    """Every user of the machine could try this: the port is open to all of them."""
    for server in (replicated_cluster.primary, replicated_cluster.replica):
        for login in (f"{role}:{role}", role):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(f"postgresql://{login}@{server.host}:{server.port}/{database}")
