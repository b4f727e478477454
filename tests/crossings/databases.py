"""The databases of a history: emptied, copied, compared and read by SQL alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from forebay.codec import decode
from forebay.command import Command
from local.postgres.config import OWNER, SUPERUSER
from tests.crossings.releases import LAST, NARROW, RELEASES, WIDE
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.tables import create_tables, open_connection

#: The tables that a history compares byte for byte: resources, tombstones and effects.
CONTENT = (
    ("public", "owners"),
    ("public", "extras"),
    ("public", "things"),
    ("forebay", "tombstones"),
    ("forebay", "effects"),
)
_HAS_WIDTH = """
    SELECT FROM pg_attribute WHERE attrelid = 'public.things'::regclass AND attname = 'label'
    AND format_type(atttypid, atttypmod) = %s
"""
#: The content of every table and sequence, in COPY format.
Dump = Mapping[tuple[str, str], bytes]

_TABLES = """
    SELECT schemaname::text, tablename::text FROM pg_tables
    WHERE schemaname IN ('public', 'forebay') ORDER BY 1, 2
"""
_SEQUENCES = """
    SELECT schemaname::text, sequencename::text FROM pg_sequences
    WHERE schemaname IN ('public', 'forebay') ORDER BY 1, 2
"""


@dataclass
class Database:
    """A database, and a superuser's connection outside the scheduler's control."""

    name: str
    url: str
    admin: psycopg.Connection[tuple[Any, ...]]

    def __post_init__(self) -> None:
        self._tables = [(schema, name) for schema, name in self.rows(_TABLES)]
        self._sequences = [(schema, name) for schema, name in self.rows(_SEQUENCES)]
        self._pristine = self.dump()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return self.admin.execute(query.encode(), parameters).fetchall()

    def dump(self) -> Dump:
        """Return a backup of everything that is committed."""
        with self.admin.transaction():
            self.admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            dump = {table: self._copy_out(table) for table in self._tables}
            for name in self._sequences:
                query = sql.SQL("SELECT last_value, is_called FROM {}")
                row = self.admin.execute(query.format(sql.Identifier(*name))).fetchone()
                assert row is not None
                dump[name] = f"{row[0]} {row[1]}".encode()
            return dump

    def restore(self, dump: Dump) -> None:
        """Restore the content of a backup; no session may be writing."""
        with self.admin.transaction():
            full = self._list_full_tables()
            # Disables triggers and foreign keys, so the order of tables doesn't matter.
            self.admin.execute("SET LOCAL session_replication_role = replica")
            for table in self._tables:
                if table in full:
                    self.admin.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table)))
                if dump[table]:
                    copy = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*table))
                    with self.admin.cursor().copy(copy) as writing:
                        writing.write(dump[table])
            for schema, name in self._sequences:
                value, called = dump[schema, name].decode().split()
                self.admin.execute(
                    "SELECT setval(%s::regclass, %s, %s)",
                    [f"{schema}.{name}", int(value), called == "True"],
                )

    def _list_full_tables(self) -> set[tuple[str, str]]:
        """The tables that have rows."""
        is_full = sql.SQL(", ").join(
            sql.SQL("EXISTS (SELECT FROM {})").format(sql.Identifier(*table))
            for table in self._tables
        )
        row = self.admin.execute(sql.SQL("SELECT {}").format(is_full)).fetchone()
        assert row is not None
        return {table for table, has_rows in zip(self._tables, row, strict=True) if has_rows}

    def empty(self) -> None:
        """Restore the state after the migrations, with the narrow column."""
        self.restore(self._pristine)
        self.set_label(NARROW)

    def set_label(self, width: int) -> None:
        """Set the length of `things.label`; a change makes every session read the catalog again."""
        if not self.rows(_HAS_WIDTH, f"character varying({width})"):
            self.admin.execute(widening(width))

    def content(self) -> dict[str, bytes]:
        """The sorted rows of resources, tombstones and effects, in COPY format; and the edits."""
        content = {
            f"{schema}.{name}": b"\n".join(sorted(self._copy_out((schema, name)).splitlines()))
            for schema, name in CONTENT
        }
        edits = [repr((key, *of_key)).encode() for key, of_key in sorted(self.edits().items())]
        return {**content, "forebay.edits": b"\n".join(edits)}

    def edits(self) -> dict[tuple[str, str], tuple[dict[str, str], dict[str, list[str]]]]:
        """The patches of each key: those of its fields, and the fields of those that are kept."""
        rows = self.rows("SELECT resource, key, fields, kept FROM forebay.edits")
        found = {}
        for path, key, fields, lines in rows:
            kept = {patch.id: sorted(patch.body or {}) for patch in map(_decode, lines)}
            found[path, key] = (dict(sorted(fields.items())), dict(sorted(kept.items())))
        return found

    def effects(self) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """The place and the body of each decided command that has passed, by id."""
        rows = self.rows("SELECT id::text, effective_id::text, body FROM forebay.effects")
        return {command_id: (place, body) for command_id, place, body in rows}

    def rejections(self) -> dict[str, str]:
        """The code of each rejection, by command id."""
        return dict(self.rows("SELECT id::text, code FROM forebay.rejections"))

    def versions(self) -> dict[tuple[str, str], str]:
        """The version of each row, by resource and key."""
        versions_by_key: dict[tuple[str, str], str] = {}
        for path, spec in RELEASES[LAST].items():
            query = f"SELECT {spec.key.name}::text, _version::text FROM public.{spec.table}"
            versions_by_key |= {(path, key): version for key, version in self.rows(query)}
        return versions_by_key

    def tombstones(self) -> dict[tuple[str, str], str]:
        """The version of each tombstone, by resource and key."""
        rows = self.rows("SELECT resource, key, version::text FROM forebay.tombstones")
        return {(resource, key): version for resource, key, version in rows}

    def ledger(self) -> dict[str, dict[str, Any]]:
        """The ledger rows, by object key."""
        with self.admin.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            rows = cursor.execute("SELECT * FROM forebay.ledger").fetchall()
        return {row["object"]: row for row in rows}

    def _copy_out(self, table: tuple[str, str]) -> bytes:
        query = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*table))
        with self.admin.cursor().copy(query) as copy:
            return b"".join(bytes(block) for block in copy)


def _decode(line: str) -> Command:
    return decode(line.encode())


def widening(width: int) -> str:
    """The statement by which an operator widens the labels of things, or a test undoes that."""
    assert width in {NARROW, WIDE}
    return f"ALTER TABLE public.things ALTER label TYPE varchar({width})"


@contextmanager
def new_database(cluster: PostgresServer) -> Iterator[Database]:
    """A migrated database with the tables of the histories."""
    with cloned_database(cluster) as name:
        url = cluster.url(OWNER, name)
        with psycopg.connect(cluster.url(SUPERUSER, name), autocommit=True) as admin:
            with open_connection(url) as owner:
                create_tables(owner, _ordered())
            setting = sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '5ms'")
            admin.execute(setting.format(sql.Identifier(name)))
            yield Database(name, url, admin)


def _ordered() -> dict[str, Any]:
    paths: Sequence[str] = ("owners", "extras", "things")
    return {path: RELEASES[LAST][path] for path in paths}
