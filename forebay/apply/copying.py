"""Copies rows: new rows into the resource's table, others into its staging table.

`COPY … ON_ERROR ignore` (PostgreSQL 17, documentation of COPY) skips a row that the columns' types
can't read, instead of failing. So such rows need no bisecting, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import psycopg

from forebay.apply.conflicts import Conflicts
from forebay.apply.results import Counts, Result
from forebay.apply.rows import PIECE, Encoder, Rows, RowStream, copy_text, copy_texts
from forebay.apply.statements import Table
from forebay.command import Command
from forebay.db.faults import (
    failed_line,
    is_conflict_with_neighbours,
    is_data_fault,
    needs_newer_code,
)
from forebay.decisions.refusals import Refusal


class NewRows:
    """Copies rows with new keys straight into their table, which is the fastest way.

    COPY fails on an existing row, where an upsert would update it. So commands whose keys exist, or
    that conflict with other rows, are deferred.
    """

    def __init__(self, table: Table, encoder: Encoder, conflicts: Conflicts) -> None:
        self._table = table
        self._encoder = encoder
        self._conflicts = conflicts

    def insert(self, fresh: Sequence[Command]) -> Result:
        """Insert commands whose keys are expected to be new, in the order of their keys.

        Raises:
            psycopg.Error: not the data's fault.
        """
        if not fresh:
            return Result()
        refusals: list[Refusal] = []
        incomplete: list[Rows] = []
        result = self._insert([RowStream(self._encode(fresh, incomplete, refusals))])
        result += Result(refusals=refusals)
        if incomplete:
            for rows in _group_by_missing(Rows.joined(incomplete)):
                result += self._insert_incomplete(rows)
        return result

    def _encode(
        self, commands: Sequence[Command], incomplete: list[Rows], refusals: list[Refusal]
    ) -> Iterator[Rows]:
        """Yield complete rows in pieces, encoded while Postgres processes the piece before."""
        for start in range(0, len(commands), PIECE):
            encoded = self._encoder.encode(commands[start : start + PIECE])
            refusals += encoded.refusals
            if encoded.incomplete:
                incomplete.append(encoded.incomplete)
            yield encoded.complete

    def _insert(self, streams: list[RowStream]) -> Result:
        """Insert rows, those of the last stream first, and smaller parts of streams that fail."""
        result = Result()
        uncopied: list[Rows] = []
        while streams:
            stream = streams.pop()
            try:
                with self._table.connection.transaction():
                    copied, missing_rows = self._copy(stream)
            except psycopg.Error as exc:
                failed, parts = self._examine_failure(stream.collect(), exc)
                result += failed
                streams += [RowStream([rows]) for rows in parts]
            else:
                result += Result(Counts(applied=copied))
                if missing_rows:
                    uncopied.append(missing_rows)
        if uncopied:
            result += Result(refusals=self._table.refuse_unread(Rows.joined(uncopied)))
        return result

    def _copy(self, stream: RowStream) -> tuple[int, Rows]:
        """Copy rows; return how many the table has accepted, and the rows that it has not.

        Postgres leaves out rows that the columns' types can't read, and rows that a trigger drops.
        """
        with self._table.connection.cursor() as cursor:
            with cursor.copy(self._table.sql.copy_new) as copy:
                for rows in stream:
                    copy.write(copy_text(rows.columns))
            copied = cursor.rowcount
        missing = sum(map(len, stream.sent)) - copied
        return copied, self._find_uncopied(stream.sent, missing) if missing else Rows()

    def _find_uncopied(self, sent: Sequence[Rows], missing: int) -> Rows:
        """The rows that are not in the table, most likely rows with texts that are too long."""
        suspects = Rows.joined([rows.at(self._find_too_long(rows)) for rows in sent])
        absent = self._table.find_absent(suspects)
        return absent if len(absent) == missing else self._table.find_absent(Rows.joined(sent))

    def _find_too_long(self, rows: Rows) -> Sequence[int]:
        """The places of rows with a text that is longer than declared."""
        limits = [column.max_length for column in self._table.spec.columns]
        return sorted(
            {
                place
                for limit, values in zip(limits, rows.columns, strict=False)
                if limit is not None
                for place, value in enumerate(values)
                if isinstance(value, str) and len(value) > limit
            }
        )

    def _examine_failure(self, rows: Rows, error: psycopg.Error) -> tuple[Result, Sequence[Rows]]:
        """The result for rows of a failed COPY, and the parts to try next, the last part first.

        Raises:
            psycopg.Error: the same error, not the data's fault.
        """
        if not rows or not is_data_fault(error) or needs_newer_code(error, self._table.spec):
            raise error
        line = failed_line(error)
        if self._is_there_by_now(error):
            return Result(deferred=rows.commands), ()
        if places := self._conflicts.find(rows, error):
            remaining = rows.without(places)
            deferred = [rows.commands[place] for place in places]
            return Result(deferred=deferred), [remaining] if remaining else []
        if line is None or line > len(rows):
            return Result(deferred=rows.commands), ()
        if len(rows) > 1:
            return Result(), list(_split_around(rows, line - 1))
        if is_conflict_with_neighbours(error):
            return Result(deferred=rows.commands), ()
        return Result(refusals=[Refusal.of_row(rows.commands[0], error, self._table.spec)]), ()

    def _is_there_by_now(self, error: psycopg.Error) -> bool:
        """Return whether another consumer has inserted a key since; it may have inserted more."""
        return (
            isinstance(error, psycopg.errors.UniqueViolation)
            and error.diag.constraint_name == f"{self._table.spec.table}_pkey"
        )

    def _insert_incomplete(self, rows: Rows) -> Result:
        """Try rows that all lack values in the same columns that the declaration requires.

        Only the table decides whether it accepts them, so the first row is tried alone. A refusal
        of a missing value holds for all rows, unless a trigger may fill the column, or the columns'
        types can't read another value of a row.
        """
        unread_places = self._table.find_input_faults(rows)
        singles = [rows.part(place, place + 1) for place in unread_places]
        readable = rows.without(unread_places)
        result = Result()
        if readable:
            others = readable.part(1)
            result = self._insert([RowStream([readable.part(0, 1)])])
            refusal = result.refusals[0] if result.refusals else None
            if refusal is None:
                result += self._insert([RowStream([others])]) if others else Result()
            elif refusal.null_column is None or (others and self._table.has_triggers()):
                singles += [others.part(place, place + 1) for place in range(len(others))]
            else:
                detail = f"{refusal.null_column} must have a value; column {refusal.null_column}"
                result = Result(
                    refusals=[
                        replace(refusal, entry=command, detail=detail)
                        for command in readable.commands
                    ]
                )
        return result + self._insert([RowStream([row]) for row in reversed(singles)])


class Stage:
    """The staging table of a resource, which is empty at the beginning of each transaction."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._is_used = False

    def begin(self, *, recreate: bool = False) -> None:
        """Begin a transaction: the last commit emptied the table, or it does not exist yet.

        Args:
            recreate: drop the table, because the types of the resource's columns may have changed.
        """
        self._is_used = False
        if recreate:
            self._table.connection.execute(self._table.sql.drop_stage)

    def clear(self) -> None:
        """Create or empty the table, if needed; call it outside any savepoint.

        Within a savepoint, Postgres creates a new file for each TRUNCATE, which takes longer than
        all other statements. Outside, it truncates the file in place from the second time on.
        """
        sql = self._table.sql
        self._table.connection.execute(sql.clear_stage if self._is_used else sql.create_stage)
        self._is_used = True

    def fill(self, stream: RowStream) -> list[Refusal]:
        """Copy rows into the table; return the refusals of rows that its types can't read.

        Raises:
            psycopg.Error: the COPY failed as a whole.
        """
        connection, sql = self._table.connection, self._table.sql
        with connection.cursor() as cursor:
            with cursor.copy(sql.copy) as copy:
                for rows in stream:
                    deletes = [command.op == "delete" for command in rows.commands]
                    for text in copy_texts([*rows.columns, deletes]):
                        copy.write(text)
            if cursor.rowcount == sum(map(len, stream.sent)):
                return []
        keys = {key for (key,) in connection.execute(sql.staged_keys)}
        rows = stream.collect()
        unstaged = [n for n, command in enumerate(rows.commands) if str(command.key) not in keys]
        if len(rows) - len(unstaged) != len(keys):
            # Only possible if the key column has another type than declared. Going on would reject
            # commands that are applied.
            path = self._table.spec.path
            raise RuntimeError(f"{path}: keys come back from their column in another form")
        return self._table.refuse_unread(rows.at(unstaged))


def _group_by_missing(rows: Rows) -> Iterator[Rows]:
    """Group rows by the columns in which they have no value."""
    places: dict[tuple[bool, ...], list[int]] = {}
    for place, row in enumerate(zip(*rows.columns, strict=True)):
        places.setdefault(tuple([value is None for value in row]), []).append(place)
    return map(rows.at, places.values())


def _split_around(rows: Rows, guilty: int) -> Iterator[Rows]:
    """Split rows into parts, the last part to be tried first; the guilty row is alone.

    The parts are small: a bad row is often followed by more, and each failure wastes the rows that
    were copied before it.
    """
    for start in reversed(range(guilty + 1, len(rows), PIECE)):
        yield rows.part(start, start + PIECE)
    yield rows.part(guilty, guilty + 1)
    if guilty:
        yield rows.part(0, guilty)
