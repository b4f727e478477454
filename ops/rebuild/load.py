"""Loads folded rows into empty tables by COPY, without indexes, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import orjson
import psycopg
from psycopg import sql

from forebay.archive.decisions import LogEntry
from forebay.archive.layout import COMMANDS_PREFIX
from forebay.db.connect import Connection
from forebay.db.faults import fault_detail, is_data_fault
from forebay.decisions.rejections import Rejection
from forebay.resource.spec import ResourceSpec
from ops.archive.strays import is_stray
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts
from ops.folding.scan import Numbers, select_up_to
from ops.rebuild.share import Block, Folded

_REJECTION = ("slot", *(member.name for member in fields(Rejection)))


class Loader:
    """Writes rows, tombstones, rejections and the ledger over one connection."""

    def __init__(self, connection: Connection, resources: Mapping[str, ResourceSpec]) -> None:
        self._connection = connection
        self._statements = {path: _build_copy(spec) for path, spec in resources.items()}
        self.rows = 0
        self.tombstones = 0
        #: Objects with rejected commands whose ledger rows are not written yet.
        self.awaited: set[str] = set()

    def load(self, folded: Folded) -> None:
        """Write the rows and tombstones of some keys.

        Raises:
            RefusedError: Postgres refuses a row whose command the live run has not rejected.
        """
        for block in folded.blocks:
            self._copy_rows(block)
        self._copy_tombstones(folded.tombstones)

    def load_rejections(self, entries: Iterable[LogEntry], cut: str) -> int:
        """Write the archive's rejections up to the cut, and return their number."""
        with self._connection.cursor() as cursor:
            # Older releases could archive the same rejection twice.
            cursor.execute(
                "CREATE TEMP TABLE found (LIKE forebay.rejections INCLUDING DEFAULTS)"
                " ON COMMIT DROP"
            )
            with cursor.copy(f"COPY found ({', '.join(_REJECTION)}) FROM STDIN".encode()) as copy:
                for entry in entries:
                    for members in select_up_to(cut, entry):
                        rejection = Rejection.from_archive(members)
                        self._add_awaited(rejection.object)
                        copy.write_row(
                            [entry.slot, *(getattr(rejection, name) for name in _REJECTION[1:])]
                        )
            cursor.execute(
                "INSERT INTO forebay.rejections SELECT DISTINCT ON (id) * FROM found"
                " ORDER BY id, slot, object ON CONFLICT (id) DO NOTHING"
            )
            return cursor.rowcount

    def _add_awaited(self, key: str) -> None:
        if key.startswith(COMMANDS_PREFIX) and not is_stray(key, 1):
            self.awaited.add(key)

    def load_ledger(self, ledger: Path, numbers: Numbers, counts: ObjectCounts) -> None:
        """Write the ledger rows of one reader's objects.

        Args:
            ledger: a file with a JSON array per object; see `Share.ledger`.
            numbers: the numbers of the reader's objects.
            counts: the counts of all objects by status.
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
                if not is_complete:
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
                f"its command: {fault_detail(exc)} (among {block.rows:,} commands from "
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
