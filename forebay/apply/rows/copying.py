"""Copies rows: new rows into the resource's table, others into its staging table.

`COPY … ON_ERROR ignore` (PostgreSQL 17, documentation of COPY) skips a row that the columns' types
can't read, instead of failing. So such rows need no bisecting, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import psycopg

from forebay.apply.results import Counts, Result
from forebay.apply.rows.conflicts import find_conflicts
from forebay.apply.rows.encoding import Rows, RowStream
from forebay.apply.rows.table import Table
from forebay.command import Command
from forebay.db.copy_text import PIECE, copy_text, copy_texts
from forebay.db.faults import (
    choose_fault_code,
    find_failed_line,
    find_null_column,
    is_conflict_with_neighbours,
    is_data_fault,
    needs_newer_code,
)
from forebay.decisions.refusals import Refusal


def insert_new(table: Table, commands: Sequence[Command]) -> Result:
    """Insert commands with keys that are expected to be new, in the order of their keys.

    Rows are copied straight into their table, which is the fastest way. COPY fails on an existing
    row, where an upsert would update it. So commands with existing keys, or that conflict with
    other rows, are deferred.

    Raises:
        psycopg.Error: not the data's fault.
    """
    refusals: list[Refusal] = []
    incomplete: list[Rows] = []
    result = _insert(table, table.encoder.stream(commands, refusals, incomplete))
    if incomplete:  # apart: they probably fail
        result += _insert(table, RowStream(incomplete))
    return result + Result(refusals=refusals) if refusals else result


def _insert(table: Table, stream: RowStream) -> Result:
    """Insert rows; if that fails, insert smaller parts of them."""
    result, streams = Result(), [stream]
    while streams:
        stream = streams.pop()
        try:
            with table.connection.transaction():
                result += _copy_new(table, stream)
        except psycopg.Error as exc:
            failed, parts = _examine_failure(table, stream.collect(), exc)
            result += failed
            streams += [RowStream([rows]) for rows in parts]
    return result


def _copy_new(table: Table, stream: RowStream) -> Result:
    """Copy rows into the table, and refuse the rows that it does not accept.

    Postgres leaves out rows that the columns' types can't read, and rows that a trigger drops.
    """
    with table.connection.cursor() as cursor:
        with cursor.copy(table.sql.copy_new) as copy:
            for rows in stream:
                copy.write(copy_text(rows.columns))
        copied = cursor.rowcount
    missing = sum(map(len, stream.sent_pieces)) - copied
    refusals = (
        table.refuse_left_out(_find_uncopied(table, stream.sent_pieces, missing)) if missing else ()
    )
    return Result(Counts(applied=copied), refusals)


def _find_uncopied(table: Table, sent_pieces: Sequence[Rows], missing: int) -> Rows:
    """The rows that are not in the table, most likely rows with texts that are too long."""
    suspects = Rows.joined([rows.at(_find_too_long(table, rows)) for rows in sent_pieces])
    absent = table.find_absent(suspects)
    return absent if len(absent) == missing else table.find_absent(Rows.joined(sent_pieces))


def _find_too_long(table: Table, rows: Rows) -> Sequence[int]:
    """The places of rows with a text that is longer than declared."""
    limits = [column.max_length for column in table.spec.columns]
    return sorted(
        {
            place
            for limit, values in zip(limits, rows.columns, strict=False)
            if limit is not None
            for place, value in enumerate(values)
            if isinstance(value, str) and len(value) > limit
        }
    )


def _examine_failure(
    table: Table, rows: Rows, error: psycopg.Error
) -> tuple[Result, Iterable[Rows]]:
    """The result for rows of a failed COPY, and the parts to try next, the last part first.

    Raises:
        psycopg.Error: the same error, not the data's fault.
    """
    if not rows or not is_data_fault(error) or needs_newer_code(error, table.spec):
        raise error
    # Another consumer has inserted a key since; it may have inserted more.
    is_there = isinstance(error, psycopg.errors.UniqueViolation) and (
        error.diag.constraint_name == f"{table.spec.table}_pkey"
    )
    conflicts = {} if is_there else find_conflicts(table, rows, error)
    nulls = _refuse_nulls(table, rows, error)
    if conflicts or nulls:
        deferred = [rows.commands[place] for place in conflicts]
        remaining = rows.without(conflicts or nulls)
        return Result(refusals=list(nulls.values()), deferred=deferred), filter(None, [remaining])
    line = find_failed_line(error)
    is_conflict_of_one = len(rows) == 1 and is_conflict_with_neighbours(error)
    if is_there or is_conflict_of_one or line is None or line > len(rows):
        return Result(deferred=rows.commands), ()
    if len(rows) > 1:
        return Result(), _split_around(rows, line - 1)
    return Result(refusals=[Refusal.of_row(rows.commands[0], error)]), ()


def _refuse_nulls(table: Table, rows: Rows, error: psycopg.Error) -> dict[int, Refusal]:
    """Refuse all rows that lack values in the same required columns as a row that was refused.

    Not if a trigger may fill the column. A row with another value that the columns' types can't
    read is refused for that value, as if it was alone.
    """
    name, line = find_null_column(error, table.spec.table), find_failed_line(error)
    required = {column.name for column in table.spec.columns if not column.nullable}
    if name not in required or line is None or table.has_triggers():
        return {}
    columns = [
        values
        for column, values in zip(table.spec.columns, rows.columns, strict=False)
        if column.name in required
    ]
    gaps = [tuple([value is None for value in row]) for row in zip(*columns, strict=True)]
    places = [place for place, gap in enumerate(gaps) if gap == gaps[line - 1]]
    unreadable = table.find_unreadable(rows.at(places))
    detail = f"{name} must have a value; column {name}"
    return {
        place: unreadable.get(number)
        or Refusal(rows.commands[place], choose_fault_code(error), detail, error.sqlstate)
        for number, place in enumerate(places)
    }


def stage_rows(table: Table, stream: RowStream) -> list[Refusal]:
    """Copy rows into the staging table; return the refusals of rows that its types can't read.

    Raises:
        psycopg.Error: the COPY failed as a whole.
    """
    with table.connection.cursor() as cursor:
        with cursor.copy(table.sql.copy_staged) as copy:
            for rows in stream:
                deletes = [command.op == "delete" for command in rows.commands]
                for text in copy_texts([*rows.columns, deletes]):
                    copy.write(text)
        if cursor.rowcount == sum(map(len, stream.sent_pieces)):
            return []
    keys = {key for (key,) in table.connection.execute(table.sql.staged_keys)}
    rows = stream.collect()
    unstaged = [n for n, command in enumerate(rows.commands) if str(command.key) not in keys]
    if len(rows) - len(unstaged) != len(keys):
        # Only possible if the key column has another type than declared. Going on would reject
        # commands that are applied.
        raise RuntimeError(f"{table.spec.path}: keys come back from their column in another form")
    return table.refuse_left_out(rows.at(unstaged))


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
