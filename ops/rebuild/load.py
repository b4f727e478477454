"""Loads folded rows into empty tables by COPY, without indexes, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql

from forebay.apply.edits.storage import write_edits
from forebay.apply.rows.table import Table
from forebay.archive.decisions import LogEntry
from forebay.archive.layout import COMMANDS_PREFIX
from forebay.db.connect import Connection
from forebay.db.faults import describe_fault, is_data_fault
from forebay.decisions.effects import Effect
from forebay.decisions.rejections import Rejection
from forebay.resource.spec import ResourceSpec
from ops.archive.strays import is_stray
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts
from ops.folding.scan import Numbers, select_effects_up_to, select_rejections_up_to
from ops.rebuild.share import Block, Folded

_REJECTION = ("slot", *(member.name for member in fields(Rejection)))
_EFFECT = ("slot", *Effect._fields)


class Loader:
    """Writes rows, tombstones, patches, decisions and the ledger over one connection."""

    def __init__(self, connection: Connection, resources: Mapping[str, ResourceSpec]) -> None:
        self._connection = connection
        self._resources = resources
        self._statements = {path: _build_copy(spec) for path, spec in resources.items()}
        self.rows = 0
        self.tombstones = 0
        self.edits = 0
        #: Objects with rejected commands and without a ledger row yet.
        self.awaited: set[str] = set()

    def load(self, folded: Folded) -> None:
        """Write the rows and tombstones of some keys.

        Raises:
            RefusedError: Postgres refuses a row of a command that the live run has not rejected.
        """
        for block in folded.blocks:
            self._copy_rows(block)
        self._copy_tombstones(folded.tombstones)
        for path, states in folded.edits.items():
            write_edits(Table(self._connection, self._resources[path]), states)
            self.edits += len(states)

    def load_rejections(self, entries: Iterable[LogEntry], cut: str) -> int:
        """Write the archive's rejections up to the cut, and return their number."""
        rows = self._list_rejections(entries, cut)
        return self._copy_decisions("rejections", _REJECTION, rows, ("id", "slot", "object"))

    def load_effects(self, entries: Iterable[LogEntry], cut: str) -> int:
        """Write the archive's effects up to the cut, and return their number."""
        effects = (
            (entry.slot, Effect.from_archive(members))
            for entry in entries
            for members in select_effects_up_to(cut, entry)
        )
        rows = (
            [slot, *(_write_value(getattr(effect, name)) for name in _EFFECT[1:])]
            for slot, effect in effects
        )
        return self._copy_decisions("effects", _EFFECT, rows, ("id", "slot"))

    def _list_rejections(self, entries: Iterable[LogEntry], cut: str) -> Iterator[list[Any]]:
        for entry in entries:
            for members in select_rejections_up_to(cut, entry):
                rejection = Rejection.from_archive(members)
                self._add_awaited(rejection.object)
                yield [entry.slot, *(getattr(rejection, name) for name in _REJECTION[1:])]

    def _copy_decisions(
        self,
        table: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        order: Sequence[str],
    ) -> int:
        """Write rows, of those with one id only the first in the order of these columns.

        Returns:
            The number of written rows.
        """
        parts = {
            "table": sql.Identifier("forebay", table),
            "found": sql.Identifier(f"found_{table}"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
            "order": sql.SQL(", ").join(map(sql.Identifier, order)),
        }
        with self._connection.cursor() as cursor:
            # Older releases could archive the same rejection twice.
            cursor.execute(_CREATE_FOUND.format(**parts))
            with cursor.copy(_COPY_FOUND.format(**parts)) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(_INSERT_FOUND.format(**parts))
            return cursor.rowcount

    def _add_awaited(self, key: str) -> None:
        if key.startswith(COMMANDS_PREFIX) and not is_stray(key, 1):
            self.awaited.add(key)

    def load_ledger(
        self, ledger: Path, numbers: Numbers, counts: ObjectCounts, incomplete: AbstractSet[int]
    ) -> None:
        """Write the ledger rows of one reader's objects.

        Args:
            ledger: a file with a JSON array per object; see `Share.ledger`.
            numbers: the numbers of the reader's objects.
            counts: the counts of all objects by status.
            incomplete: the numbers of objects that are not applied completely; they get no row.
        """
        columns = (
            "object, lines, applied, superseded, duplicates, rejected, skipped, first_id, last_id, "
            "completed_at, replays"
        )
        with (
            ledger.open("rb") as lines,
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY forebay.ledger ({columns}) FROM STDIN".encode()) as copy,
        ):
            for place, line in enumerate(lines):
                number = numbers.of(place)
                key, total, first, last, is_complete = orjson.loads(line)
                self.awaited.discard(key)
                if not is_complete or number in incomplete:
                    continue
                row = (
                    *(key, total, counts.applied[number], counts.superseded[number]),
                    *(counts.duplicates[number], counts.rejected[number], counts.skipped[number]),
                    *(first, last, "now", 1),
                )
                copy.write_row(row)

    def _copy_rows(self, block: Block) -> None:
        statement = self._statements[block.resource]
        try:
            with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(block.text)
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            raise RefusedError(
                f"Postgres refuses a row of {block.resource}, and the live run has not rejected "
                f"its command: {describe_fault(exc)} (among {block.rows:,} commands from "
                f"{block.first}); nothing was changed. Examine the command, then rebuild with "
                "--allow-new-rejections"
            ) from None
        self.rows += block.rows

    def _copy_tombstones(self, tombstones: Sequence[tuple[str, str, str]]) -> None:
        if not tombstones:
            return
        with (
            self._connection.cursor() as cursor,
            cursor.copy("COPY forebay.tombstones (resource, key, version) FROM STDIN") as copy,
        ):
            for tombstone in tombstones:
                copy.write_row(tombstone)
        self.tombstones += len(tombstones)


def _build_copy(spec: ResourceSpec) -> sql.Composed:
    names = [*(column.name for column in spec.columns), "_version", "_by_create"]
    return sql.SQL("COPY {} ({}) FROM STDIN (FREEZE)").format(
        sql.Identifier("public", spec.table), sql.SQL(", ").join(map(sql.Identifier, names))
    )


def _write_value(value: object) -> object:
    """The value of a column; an object is sent as JSON."""
    return orjson.dumps(value).decode() if isinstance(value, dict) else value


_CREATE_FOUND = sql.SQL(
    "CREATE TEMP TABLE {found} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP"
)
_COPY_FOUND = sql.SQL("COPY {found} ({columns}) FROM STDIN")
_INSERT_FOUND = sql.SQL(
    "INSERT INTO {table} SELECT DISTINCT ON (id) * FROM {found} ORDER BY {order}"
    " ON CONFLICT (id) DO NOTHING"
)
