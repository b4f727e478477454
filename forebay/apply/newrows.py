"""Copies rows with new keys straight into their table, which is the fastest way.

COPY fails on an existing row, where an upsert would update it. So rows whose keys exist, or that
conflict with other rows, are returned to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from forebay.apply.conflicts import Conflicts
from forebay.apply.copytext import copy_text
from forebay.apply.probe import key_array
from forebay.apply.rows import RowsEncoder
from forebay.apply.rowset import PIECE, Encoded, Pieces, RowSet
from forebay.apply.staging import Refusal, input_faults, refused, unreadable
from forebay.apply.statements import Statements
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import (
    failed_line,
    is_conflict_with_neighbours,
    is_data_fault,
    needs_newer_code,
)
from forebay.resource.spec import ResourceSpec


@dataclass(slots=True)
class Inserted:
    """The result of an insert of new rows."""

    rows: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    #: Rows that must be staged instead: their key exists, or they conflict with other rows.
    others: list[RowSet] = field(default_factory=list)


class NewRows:
    """Inserts new rows into a table over a connection."""

    def __init__(self, connection: Connection, spec: ResourceSpec, statements: Statements) -> None:
        self._connection = connection
        self._spec = spec
        self._names = [column.name for column in spec.columns]
        self._encode = RowsEncoder(spec)
        self._sql = statements
        self._conflicts = Conflicts(connection, spec)

    def insert(self, fresh: Sequence[Command]) -> Inserted:
        """Insert commands whose keys are expected to be new, in the order of their keys.

        Raises:
            psycopg.Error: not the data's fault.
        """
        inserted = Inserted()
        lacking: list[Encoded] = []
        if fresh:
            self._insert_pieces(
                [Pieces(self._encode_rows(fresh, lacking, inserted.refusals))], inserted
            )
        by_missing_columns: dict[tuple[bool, ...], list[Encoded]] = {}
        for item in lacking:
            by_missing_columns.setdefault(tuple([value is None for value in item.row]), []).append(
                item
            )
        for group in by_missing_columns.values():
            self._insert_lacking(group, inserted)
        return inserted

    def _encode_rows(
        self, commands: Sequence[Command], lacking: list[Encoded], refusals: list[Refusal]
    ) -> Iterator[RowSet]:
        """Yield complete rows in pieces, encoded while Postgres processes the piece before."""
        for start in range(0, len(commands), PIECE):
            rows = self._encode(commands[start : start + PIECE])
            refusals += [Refusal(command, exc.code, str(exc)) for command, exc in rows.unfit]
            lacking += rows.lacking
            yield from rows.whole

    def _insert_lacking(self, rows: Sequence[Encoded], inserted: Inserted) -> None:
        """Try rows that all lack values in the same columns that the declaration requires.

        Only the table decides whether it accepts them, so the first row is tried alone. A refusal
        of a missing value holds for all rows, unless a trigger may fill the column, or the columns'
        types can't read another value of a row.
        """
        unreadable_places = input_faults(self._connection, self._sql, self._names, rows)
        readable = [item for place, item in enumerate(rows) if place not in unreadable_places]
        unreadable_rows = [item for place, item in enumerate(rows) if place in unreadable_places]
        if readable:
            first, *others = readable
            self._insert_pieces([Pieces([RowSet.of([first])])], inserted)
            refusal = inserted.refusals[-1] if inserted.refusals else None
            if refusal is None or refusal.command is not first.command:
                self._insert_pieces([Pieces([RowSet.of(others)])] if others else [], inserted)
            elif refusal.null_column is None or (others and self._has_triggers()):
                unreadable_rows += others
            else:
                detail = f"{refusal.null_column} must have a value; column {refusal.null_column}"
                inserted.refusals[-1:] = [
                    replace(refusal, command=item.command, detail=detail) for item in readable
                ]
        self._insert_pieces(
            [Pieces([RowSet.of([item])]) for item in reversed(unreadable_rows)], inserted
        )

    def _insert_pieces(self, pieces: list[Pieces], inserted: Inserted) -> None:
        """Insert pieces, the last piece first, and smaller parts of pieces that fail."""
        uncopied: list[Encoded] = []
        while pieces:
            piece = pieces.pop()
            try:
                with self._connection.transaction():
                    copied, uncopied_rows = self._copy_rows(piece)
            except psycopg.Error as exc:
                pieces += self._split_failed(piece.whole(), exc, inserted)
            else:
                inserted.rows += copied
                uncopied += uncopied_rows
        if uncopied:
            inserted.refusals += unreadable(self._connection, self._sql, self._names, uncopied)

    def _has_triggers(self) -> bool:
        row = self._connection.execute(self._sql.has_triggers).fetchone()
        return row is None or bool(row[0])

    def _copy_rows(self, piece: Pieces) -> tuple[int, list[Encoded]]:
        """Copy rows; return how many the table has accepted, and the rows that it has not.

        Postgres leaves out rows that the columns' types can't read, and rows that a trigger drops.
        """
        with self._connection.cursor() as cursor:
            with cursor.copy(self._sql.copy_new) as copy:
                for rows in piece:
                    copy.write(copy_text(rows.columns))
            copied = cursor.rowcount
        missing = sum(map(len, piece.made)) - copied
        return copied, self._find_uncopied(piece, missing) if missing else []

    def _split_failed(
        self, rows: RowSet, error: psycopg.Error, inserted: Inserted
    ) -> Iterable[Pieces]:
        """Settle the rows of a failed COPY, or return the pieces to try next, the last piece first.

        Raises:
            psycopg.Error: the same error, not the data's fault.
        """
        if not rows or not is_data_fault(error) or needs_newer_code(error, self._spec):
            raise error
        line = failed_line(error)
        if self._is_there_by_now(error):
            inserted.others.append(rows)
        elif conflicts := self._conflicts.find(list(rows), error):
            inserted.others.append(RowSet.of([rows.at(place) for place in conflicts]))
            remaining = rows.without(conflicts)
            return [Pieces([remaining])] if remaining else []
        elif line is None or line > len(rows):
            inserted.others.append(rows)
        elif len(rows) > 1:
            return self._split_around(rows, line - 1)
        elif is_conflict_with_neighbours(error):
            inserted.others.append(rows)
        else:
            inserted.refusals.append(refused(rows.commands[0], error, self._spec))
        return ()

    def _find_uncopied(self, piece: Pieces, missing: int) -> list[Encoded]:
        """The rows that are not in the table, most likely rows with texts that are too long."""
        absent = self._select_absent(
            [rows.at(place) for rows in piece.made for place in sorted(self._find_too_long(rows))]
        )
        if len(absent) == missing:
            return absent
        return self._select_absent([item for rows in piece.made for item in rows])

    def _find_too_long(self, rows: RowSet) -> set[int]:
        """The places of rows with a text that is longer than declared."""
        limits = [column.max_length for column in self._spec.columns]
        return {
            place
            for limit, values in zip(limits, rows.columns, strict=False)
            if limit is not None
            for place, value in enumerate(values)
            if isinstance(value, str) and len(value) > limit
        }

    def _select_absent(self, items: Sequence[Encoded]) -> list[Encoded]:
        if not items:
            return []
        commands = [command for command, _ in items]
        parameters = {
            "keys": key_array(self._spec, commands),
            "versions": "{" + ",".join([command.id for command in commands]) + "}",
        }
        return [
            items[place] for (place,) in self._connection.execute(self._sql.not_copied, parameters)
        ]

    def _is_there_by_now(self, error: psycopg.Error) -> bool:
        """Return whether another consumer has inserted a key since; it may have inserted more."""
        return (
            isinstance(error, psycopg.errors.UniqueViolation)
            and error.diag.constraint_name == f"{self._spec.table}_pkey"
        )

    def _split_around(self, rows: RowSet, guilty: int) -> Iterator[Pieces]:
        """Split rows into parts, the last part to be tried first; the guilty row is alone.

        The parts are small: a bad row is often followed by more, and each failure wastes the rows
        that were copied before it.
        """
        for start in reversed(range(guilty + 1, len(rows), PIECE)):
            yield Pieces([rows.part(start, start + PIECE)])
        yield Pieces([rows.part(guilty, guilty + 1)])
        if guilty:
            yield Pieces([rows.part(0, guilty)])
