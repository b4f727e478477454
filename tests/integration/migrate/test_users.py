"""The users that a migration creates on AWS: their privileges, and logins without a password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lambdas.migrate.app import make_users_of, migrate
from lambdas.migrate.users import make_users
from local.postgres.config import SUPERUSER, Cluster
from tests.fixtures.postgres import cloned_database


@dataclass(frozen=True, slots=True)
class Users:
    """Addresses of one database, as its three users."""

    owner: str
    writer: str
    reader: str


@pytest.fixture
def users(postgres_cluster: Cluster) -> Iterator[Users]:
    """A database with the roles of RDS: an owner that may create roles, and `rds_iam`.

    The users get passwords here, as there is no RDS to accept tokens.
    """
    mark = uuid4().hex[:8]
    owner, writer, reader = (f"{name}_{mark}" for name in ("owner", "writer", "reader"))
    with (
        cloned_database(postgres_cluster) as name,
        psycopg.connect(postgres_cluster.url(SUPERUSER, name), autocommit=True) as admin,
    ):
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'p' IN ROLE forebay").format(
                sql.Identifier(owner)
            )
        )
        if admin.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'").fetchone() is None:
            admin.execute("CREATE ROLE rds_iam")
        admin.execute(
            sql.SQL("GRANT rds_iam TO {} WITH ADMIN OPTION").format(sql.Identifier(owner))
        )
        superuser = postgres_cluster.url(SUPERUSER, name)
        urls = [
            make_conninfo(superuser, user=user, password="p") for user in (owner, writer, reader)
        ]
        make_users_of(urls[0], writer=writer, reader=reader)
        for user in (writer, reader):
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD 'p'").format(sql.Identifier(user)))
        yield Users(*urls)
        for user in (writer, reader, owner):
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(user)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


def test_the_users_log_in_by_token_only(users: Users) -> None:
    with psycopg.connect(users.owner) as connection:
        for user in (users.writer, users.reader):
            name = psycopg.conninfo.conninfo_to_dict(user)["user"]
            row = connection.execute(
                "SELECT pg_has_role(%s, 'rds_iam', 'member')", [name]
            ).fetchone()
            assert row == (True,)


def test_the_writer_may_change_rows_and_no_table(users: Users) -> None:
    with psycopg.connect(users.writer, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE batch (LIKE cities)")
        connection.execute("DELETE FROM cities")
        connection.execute("DELETE FROM forebay.tombstones")
        for statement in ("DROP TABLE cities", "CREATE TABLE public.other ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_reader_may_look_and_touch_nothing(users: Users) -> None:
    with psycopg.connect(users.reader, autocommit=True) as connection:
        connection.execute("SELECT FROM cities")
        for table in ("ledger", "edits", "effects"):
            connection.execute(f"SELECT FROM forebay.{table}".encode())
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM cities")
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM cities")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE made ()",
        "CREATE TABLE public.made ()",
        "CREATE SCHEMA made",
    ],
)
def test_the_reader_can_make_nothing(users: Users, statement: str) -> None:
    """Users of RDS have PUBLIC's privileges, and can set their session to read-write."""
    with psycopg.connect(users.reader, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_no_role_gets_temporary_tables_in_other_databases_of_the_owner(
    users: Users, postgres_cluster: Cluster
) -> None:
    """RDS creates `postgres` and `template1` as well, with the same owner."""
    names = {user: str(conninfo_to_dict(url)["user"]) for user, url in asdict(users).items()}
    with cloned_database(postgres_cluster) as other:
        elsewhere = make_conninfo(users.reader, dbname=other)
        with psycopg.connect(postgres_cluster.url(SUPERUSER, other), autocommit=True) as admin:
            granting = "GRANT TEMPORARY ON DATABASE {} TO PUBLIC"
            admin.execute(sql.SQL(granting).format(sql.Identifier(other)))
        with psycopg.connect(elsewhere, autocommit=True) as reader:
            reader.execute("SET default_transaction_read_only = off")
            reader.execute("CREATE TEMPORARY TABLE made ()")

        with psycopg.connect(users.owner, autocommit=True) as owner:
            make_users(
                owner,
                writer=names["writer"],
                reader=names["reader"],
                other_databases=[other, "postgres"],
            )

        with psycopg.connect(elsewhere, autocommit=True) as reader:
            reader.execute("SET default_transaction_read_only = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("CREATE TEMPORARY TABLE made ()")


def test_sessions_that_can_not_send_set_have_the_right_parameters(users: Users) -> None:
    """RDS Proxy refuses a session's own settings, so they are set for the user."""
    statement = "SELECT current_setting('TimeZone'), current_setting('search_path')"
    for user in (users.writer, users.reader):
        with psycopg.connect(user) as connection:
            assert connection.execute(statement).fetchone() == ("UTC", "public")


def test_making_them_again_changes_nothing(users: Users) -> None:
    names = [
        str(psycopg.conninfo.conninfo_to_dict(user)["user"])
        for user in (users.writer, users.reader)
    ]
    make_users_of(users.owner, writer=names[0], reader=names[1])
    with psycopg.connect(users.writer) as connection:
        connection.execute("SELECT FROM cities")


def test_a_new_table_is_open_to_them_after_its_migration(users: Users) -> None:
    with psycopg.connect(users.owner, autocommit=True) as owner:
        owner.execute("SET ROLE forebay")
        owner.execute("CREATE TABLE public.rivers (id int)")
    names = [
        str(psycopg.conninfo.conninfo_to_dict(user)["user"])
        for user in (users.writer, users.reader)
    ]
    make_users_of(users.owner, writer=names[0], reader=names[1])
    with psycopg.connect(users.writer) as connection:
        connection.execute("INSERT INTO rivers VALUES (1)")
    with psycopg.connect(users.reader) as connection:
        connection.execute("SELECT FROM rivers")


def test_migrating_again_is_nothing(database_url: str) -> None:
    assert migrate(database_url) == "migrated"
