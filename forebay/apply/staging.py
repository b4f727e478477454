"""The staging table of one resource: takes what its types can read, and says why not the rest.

`COPY … ON_ERROR ignore` (PostgreSQL 17, documentation of COPY) leaves out a row that the columns'
types can't read, instead of failing. So such a row costs no bisecting, however many there are.
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
    """A command that Postgres, or the declaration, refuses for good."""

    command: Command
    code: str
    detail: str
    sqlstate: str | None = None
    #: The error, if it failed because of other rows: it may pass once its neighbours are in.
    conflict: psycopg.Error | None = None
    #: The column that must have a value, if that is why.
    null_column: str | None = None


class Stage:
    """The staging table, which each transaction finds empty."""

    def __init__(self, connection: Connection, spec: ResourceSpec, statements: Statements) -> None:
        self._connection = connection
        self._path = spec.path
        self._names = [column.name for column in spec.columns]
        self._sql = statements
        self._used = False

    def begin(self, *, anew: bool = False) -> None:
        """Begins a transaction: the last commit emptied the table, or there is none yet.

        Args:
            anew: drop the table, for the resource's columns may have got other types since.
        """
        self._used = False
        if anew:
            self._connection.execute(self._sql.drop_stage)

    def clear(self) -> None:
        """Makes the table, or empties it, if need be; call outside any savepoint.

        Within one, Postgres gives the table a new file for each TRUNCATE, which takes longer than
        all the rest; outside it empties the file in place from the second time on.
        """
        self._connection.execute(self._sql.clear_stage if self._used else self._sql.create_stage)
        self._used = True

    def fill(self, group: Pieces) -> tuple[Sequence[Command], list[Refusal]]:
        """Copies the rows; whose are there now, and why the others are not.

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
        left_out = [item for item in group.whole() if str(item.command.key) not in keys]
        there = [command for command in commands if str(command.key) in keys]
        if len(there) != len(keys):
            # Only a key column that somebody gave another type can do that. To go on would be to
            # reject what is applied.
            raise RuntimeError(f"{self._path}: keys come back from their column in another form")
        return there, unreadable(self._connection, self._sql, self._names, left_out)


def unreadable(
    connection: Connection, sql: Statements, names: Sequence[str], left_out: Sequence[Encoded]
) -> list[Refusal]:
    """Why each of these rows was left out."""
    reasons = input_faults(connection, sql, names, left_out)
    return [_refusal(item.command, reasons.get(position)) for position, item in enumerate(left_out)]


def input_faults(
    connection: Connection, sql: Statements, names: Sequence[str], rows: Iterable[Encoded]
) -> dict[int, tuple[str, str]]:
    """Which of these rows the columns' types can't read: SQLSTATE and words by place.

    Asks the types about all their values, at once.
    """
    values = [
        (position, name, as_copied(value))
        for position, item in enumerate(rows)
        for name, value in zip(names, item.row, strict=False)
        if value is not None
    ]
    positions, named, texts = zip(*values, strict=True)
    found = connection.execute(
        sql.input_errors,
        {"positions": list(positions), "names": list(named), "texts": list(texts)},
    )
    reasons: dict[int, tuple[str, str]] = {}
    for position, state, said in found:
        reasons.setdefault(position, (state, said))
    return reasons


def refused(command: Command, error: psycopg.Error, spec: ResourceSpec) -> Refusal:
    """The refusal of a command that failed by itself."""
    return Refusal(
        command,
        fault_code(error),
        fault_detail(error),
        error.sqlstate,
        conflict=error if is_conflict_with_neighbours(error) else None,
        null_column=null_column(error, spec.table),
    )


def as_copied(value: object) -> str:
    """The text of a value as COPY sends it, before escapes."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


def _refusal(command: Command, reason: tuple[str, str] | None) -> Refusal:
    if reason is None:
        # The types can read it, and our own columns' values were decoded.
        return Refusal(command, "unreadable_row", "a trigger of the table leaves the row out")
    sqlstate, said = reason
    return Refusal(command, code_of_state(sqlstate), said, sqlstate)
