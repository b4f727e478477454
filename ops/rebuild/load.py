"""Loads folded rows into empty tables: COPY without an index, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from forebay.apply.rows import RowsEncoder
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import fault_detail, is_data_fault
from forebay.resource.spec import ResourceSpec
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts, Winners

_ROWS = 5_000
_PIECE = 500  # made into rows while Postgres works on those before


class Loader:
    """Writes rows, tombstones, rejections and ledger over one connection."""

    def __init__(self, connection: Connection, resources: Mapping[str, ResourceSpec]) -> None:
        self._connection = connection
        self._resources = resources
        self._encoders = {path: RowsEncoder(spec) for path, spec in resources.items()}
        self.rows = 0
        self.tombstones = 0

    def load(self, winners: Winners) -> None:
        """Writes what a bucket comes to.

        Raises:
            RefusedError: Postgres refuses a row that the live run has not rejected.
        """
        puts: dict[str, list[Command]] = {}
        deletes: list[Command] = []
        for (path, _), command in winners.applied.items():
            if command.op == "delete":
                deletes.append(command)
            else:
                puts.setdefault(path, []).append(command)
        for path, commands in puts.items():
            self._copy(self._resources[path], commands)
        self._bury(deletes)

    def reject(self, told: Iterable[Mapping[str, Any]]) -> int:
        """Writes the archive's rejections; how many."""
        names = ("id", "resource", "key", "op", "code", "sqlstate", "detail", "line", "object")
        with self._connection.cursor() as cursor:
            # An object of rejections is written again when its chunk is tried again.
            cursor.execute(
                "CREATE TEMP TABLE told (LIKE forebay.rejections INCLUDING DEFAULTS) ON COMMIT DROP"
            )
            with cursor.copy(f"COPY told ({', '.join(names)}) FROM STDIN".encode()) as copy:
                for one in told:
                    line = str(one["line"]).encode("utf-8", "surrogatepass")
                    copy.write_row([one[name] if name != "line" else line for name in names])
            cursor.execute(
                "INSERT INTO forebay.rejections SELECT DISTINCT ON (id) * FROM told"
                " ORDER BY id, object ON CONFLICT (id) DO NOTHING"
            )
            return cursor.rowcount

    def note(self, ledger: Path, counts: ObjectCounts) -> None:
        """Writes the ledger.

        Args:
            ledger: a line per object, in the order of their numbers: key, lines, first and last id.
            counts: what became of the lines.
        """
        columns = "object, lines, applied, superseded, duplicates, rejected, first_id, last_id"
        with (
            ledger.open(encoding="utf-8") as lines,
            self._connection.cursor() as cursor,
            cursor.copy(
                f"COPY forebay.ledger ({columns}, completed_at, replays) FROM STDIN".encode()
            ) as copy,
        ):
            for number, line in enumerate(lines):
                key, total, first, last, complete = line.rstrip("\n").split("\t")
                if complete != "1":
                    continue
                row = (
                    *(key, total, counts.applied[number], counts.superseded[number]),
                    *(counts.duplicates[number], counts.rejected[number]),
                    *(first or None, last or None, "now", 1),
                )
                copy.write_row(row)

    def _copy(self, spec: ResourceSpec, commands: list[Command]) -> None:
        names = [*(column.name for column in spec.columns), "_version", "_by_create"]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FREEZE)").format(
            sql.Identifier("public", spec.table), sql.SQL(", ").join(map(sql.Identifier, names))
        )
        encode = self._encoders[spec.path]
        for group in _pieces(commands, _ROWS):
            try:
                with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
                    for piece in _pieces(group, _PIECE):
                        for item in encode(piece).encoded:
                            copy.write_row(item.row)
            except psycopg.Error as exc:
                if not is_data_fault(exc):
                    raise
                first = group[0]
                raise RefusedError(
                    f"Postgres refuses a row of {spec.path} that the live run has not rejected: "
                    f"{fault_detail(exc)} (among {len(group):,} commands from {first.id}, key "
                    f"{first.key}); nothing was changed. Look at it, then rebuild with "
                    "--allow-new-rejections"
                ) from None
            self.rows += len(group)

    def _bury(self, deletes: list[Command]) -> None:
        if not deletes:
            return
        with (
            self._connection.cursor() as cursor,
            cursor.copy("COPY forebay.tombstones (resource, key, version) FROM STDIN") as copy,
        ):
            for command in deletes:
                copy.write_row((command.resource, str(command.key), command.id))
        self.tombstones += len(deletes)


def _pieces(commands: list[Command], size: int) -> Iterator[list[Command]]:
    for start in range(0, len(commands), size):
        yield commands[start : start + size]
