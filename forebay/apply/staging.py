"""The staging table of a resource: loads rows, and explains which rows its types can't read.

`COPY … ON_ERROR ignore` (PostgreSQL 17, documentation of COPY) skips a row that the columns' types
can't read, instead of failing. So such rows need no bisecting, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from forebay.apply.copytext import copy_texts
from forebay.apply.rowset import Encoded, Pieces
from forebay.apply.statements import Statements
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import (
    code_of_state,
    fault_code,
    fault_detail,
    is_conflict_with_neighbours,
    null_column,
)
from forebay.resource.spec import ResourceSpec


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that Postgres or the declaration refuses."""

    command: Command
    code: str
    detail: str
    sqlstate: str | None = None
    #: The error, if other rows caused it: the command may apply after its neighbours.
    conflict: psycopg.Error | None = None
    #: The column that must have a value, if that is the reason.
    null_column: str | None = None


class Stage:
    """The staging table, which is empty at the beginning of each transaction."""

    def __init__(self, connection: Connection, spec: ResourceSpec, statements: Statements) -> None:
        self._connection = connection
        self._path = spec.path
        self._names = [column.name for column in spec.columns]
        self._sql = statements
        self._used = False

    def begin(self, *, anew: bool = False) -> None:
        """Begin a transaction: the last commit emptied the table, or it does not exist yet.

        Args:
            anew: drop the table, because the types of the resource's columns may have changed.
        """
        self._used = False
        if anew:
            self._connection.execute(self._sql.drop_stage)

    def clear(self) -> None:
        """Create or empty the table, if needed; call it outside any savepoint.

        Within a savepoint, Postgres creates a new file for each TRUNCATE, which takes longer than
        all other statements. Outside, it truncates the file in place from the second time on.
        """
        self._connection.execute(self._sql.clear_stage if self._used else self._sql.create_stage)
        self._used = True

    def fill(self, group: Pieces) -> tuple[Sequence[Command], list[Refusal]]:
        """Copy the rows; return the commands whose rows are staged, and refusals of the others.

        Raises:
            psycopg.Error: the COPY failed as a whole.
        """
        with self._connection.cursor() as cursor:
            with cursor.copy(self._sql.copy) as copy:
                for rows in group:
                    deletes = [command.op == "delete" for command in rows.commands]
                    for text in copy_texts([*rows.columns, deletes]):
                        copy.write(text)
            commands = [command for rows in group.made for command in rows.commands]
            if cursor.rowcount == len(commands):
                return commands, []
        keys = {key for (key,) in self._connection.execute(self._sql.staged_keys)}
        unstaged = [item for item in group.whole() if str(item.command.key) not in keys]
        staged = [command for command in commands if str(command.key) in keys]
        if len(staged) != len(keys):
            # Only possible if the key column has another type than declared. Going on would reject
            # commands that are applied.
            raise RuntimeError(f"{self._path}: keys come back from their column in another form")
        return staged, unreadable(self._connection, self._sql, self._names, unstaged)


def unreadable(
    connection: Connection, sql: Statements, names: Sequence[str], left_out: Sequence[Encoded]
) -> list[Refusal]:
    """The refusal of each of these rows, which COPY left out."""
    reasons = input_faults(connection, sql, names, left_out)
    return [
        _build_refusal(item.command, reasons.get(position))
        for position, item in enumerate(left_out)
    ]


def input_faults(
    connection: Connection, sql: Statements, names: Sequence[str], rows: Iterable[Encoded]
) -> dict[int, tuple[str, str]]:
    """The SQLSTATE and message of each row that the columns' types can't read, by place.

    Checks all values in one query.
    """
    values = [
        (position, name, as_copied(value))
        for position, item in enumerate(rows)
        for name, value in zip(names, item.row, strict=False)
        if value is not None
    ]
    positions, column_names, texts = zip(*values, strict=True)
    records = connection.execute(
        sql.input_errors,
        {"positions": list(positions), "names": list(column_names), "texts": list(texts)},
    )
    reasons: dict[int, tuple[str, str]] = {}
    for position, state, message in records:
        reasons.setdefault(position, (state, message))
    return reasons


def refused(command: Command, error: psycopg.Error, spec: ResourceSpec) -> Refusal:
    """The refusal of a command whose row failed alone."""
    return Refusal(
        command,
        fault_code(error),
        fault_detail(error),
        error.sqlstate,
        conflict=error if is_conflict_with_neighbours(error) else None,
        null_column=null_column(error, spec.table),
    )


def as_copied(value: object) -> str:
    """The text of a value as COPY sends it, before escaping."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


def _build_refusal(command: Command, reason: tuple[str, str] | None) -> Refusal:
    if reason is None:
        # The types can read the row, and the values of our own columns were decoded.
        return Refusal(command, "unreadable_row", "a trigger of the table leaves the row out")
    sqlstate, message = reason
    return Refusal(command, code_of_state(sqlstate), message, sqlstate)
