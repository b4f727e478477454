"""The Postgres of a run: durable (fsync on, synchronous commits), with the measured table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from bench import orders
from forebay.db.connect import Connection, connect
from forebay.db.schema import metadata
from forebay.resource import ResourceSpec
from local.postgres.config import OWNER, SUPERUSER, Cluster
from local.postgres.server import Servers
from local.postgres.throwaway import make_throwaway_cluster, open_folder
from local.supervisor import Supervisor
from migrations.chains import upgrade

#: For other keys and commands: without any rows, apply would omit the joins with these tables.
OLD_TOMBSTONES = OLD_REJECTIONS = 1_000

_PIPELINE = (
    "forebay.tombstones",
    "forebay.rejections",
    "forebay.ledger",
    "forebay.edits",
    "forebay.effects",
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database with all migrations and the table of orders."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        """The URL for the owner, which applies."""
        return self.cluster.url(OWNER, self.name)

    def connect(self) -> Connection:
        """A connection like the consumer's."""
        return connect(
            self.url, application_name="forebay-bench", statement_timeout_ms=0, lock_timeout_ms=0
        )

    def empty(self) -> None:
        """Empty the tables, except for old tombstones and rejections."""
        with self.connect() as connection:
            connection.execute(f"TRUNCATE orders, {', '.join(_PIPELINE)}".encode())
            connection.execute(_TOMBSTONES, [OLD_TOMBSTONES])
            connection.execute(_REJECTIONS, [OLD_REJECTIONS])
        self.settle()

    def fill(self, rows: bytes) -> None:
        """Empty the tables, then copy rows into the table of orders."""
        self.empty()
        with self.connect() as connection:
            copy_rows(connection, rows)
        self.settle()

    def settle(self, table: str = "orders") -> None:
        """Run vacuum, analyze and a checkpoint, so that earlier work delays no measurement."""
        with psycopg.connect(self.cluster.url(SUPERUSER, self.name), autocommit=True) as admin:
            admin.execute(f"VACUUM (ANALYZE) {table}".encode())
            admin.execute(f"VACUUM (ANALYZE) {', '.join(_PIPELINE)}".encode())
            admin.execute("CHECKPOINT")

    def count(self, table: str) -> int:
        """The number of a table's rows."""
        return int(self.rows("SELECT count(*) FROM " + table)[0][0])  # noqa: S608 - our own names

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Every row of a query, run as superuser."""
        with psycopg.connect(self.cluster.url(SUPERUSER, self.name), autocommit=True) as admin:
            return admin.execute(query.encode(), parameters).fetchall()


def copy_rows(connection: Connection, rows: bytes, table: str = "orders") -> None:
    """Copy rows in text format by a plain COPY, in a transaction."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, orders.columns()))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rows)


@contextmanager
def running_server() -> Iterator[Cluster]:
    """A primary with durable storage, in a temporary folder, stopped at the end of the block."""
    with open_folder() as folder:
        primary = make_throwaway_cluster(folder, "primary", durable=True)
        unused = make_throwaway_cluster(folder, "replica", durable=True)
        with Supervisor() as supervisor:
            Servers(supervisor, primary, unused).start_primary()
            yield primary


@contextmanager
def new_database(
    cluster: Cluster, resources: Mapping[str, ResourceSpec] = orders.RESOURCES
) -> Iterator[Database]:
    """A database with the migrations, and with the tables of the given resources."""
    name = f"bench_{uuid4().hex[:8]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(cluster.url(SUPERUSER, "postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(identifier, sql.Identifier(OWNER))
        )
        database = Database(cluster, name)
        upgrade(database.url)
        with database.connect() as connection:
            create_tables(connection, resources)
        yield database
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def create_tables(connection: Connection, resources: Mapping[str, ResourceSpec]) -> None:
    """Create the resources' tables with their indexes, as a migration would."""
    tables = metadata(resources)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for spec in resources.values():
        table = tables.tables[spec.table]
        connection.execute(str(CreateTable(table).compile(dialect=dialect)).encode())
        for index in table.indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)).encode())


def settings_of(cluster: Cluster, names: Sequence[str]) -> dict[str, str]:
    """The present values of server parameters, for the results."""
    with psycopg.connect(cluster.url(SUPERUSER, "postgres"), autocommit=True) as admin:
        cursor = admin.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(names)]
        )
        return dict(cursor.fetchall())


_TOMBSTONES = """
    INSERT INTO forebay.tombstones (resource, key, version)
    SELECT 'orders', gen_random_uuid()::text, gen_random_uuid() FROM generate_series(1, %s)
"""
_REJECTIONS = """
    INSERT INTO forebay.rejections (id, resource, key, op, code, detail, line, object)
    SELECT gen_random_uuid(), 'orders', gen_random_uuid()::text, 'put', 'wrong_type', '', '', ''
    FROM generate_series(1, %s)
"""
