"""Copies rows whose keys the table does not have straight into it, which is the fastest way.

COPY can't give way to a row that is there, as an upsert does. So whatever turns out to be in its
way is handed back to be staged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from forebay.apply.probe import key_array
from forebay.apply.rows import Encoded
from forebay.apply.staging import Refusal, refused, unreadable
from forebay.apply.statements import Statements
from forebay.db.connect import Connection
from forebay.db.faults import (
    failed_line,
    is_conflict_with_neighbours,
    is_data_fault,
    needs_newer_code,
)
from forebay.resource.spec import ResourceSpec

# Rows tried together after a failure: where there is one bad row there are more, and each failure
# wastes what was copied before it.
_PIECE = 500


class NewRows:
    """Inserts into one table over one connection."""

    def __init__(self, connection: Connection, spec: ResourceSpec, statements: Statements) -> None:
        self._connection = connection
        self._spec = spec
        self._names = [column.name for column in spec.columns]
        self._sql = statements

    def insert(self, fresh: Sequence[Encoded]) -> tuple[int, list[Refusal], list[Encoded]]:
        """How many rows were inserted, which are refused, and which must be staged instead.

        Raises:
            psycopg.Error: not the data's fault.
        """
        inserted = 0
        refusals: list[Refusal] = []
        others: list[Encoded] = []
        # One order of keys in every transaction: see `_UPSERT_TAIL`.
        pieces = [sorted(fresh, key=_key)]
        while pieces:
            piece = pieces.pop()
            if not piece:
                continue
            try:
                with self._connection.transaction():
                    found = self._copy(piece)
            except psycopg.Error as exc:
                if not is_data_fault(exc) or needs_newer_code(exc, self._spec):
                    raise
                line = failed_line(exc)
                if line is None or line > len(piece) or self._is_there_by_now(exc):
                    others += piece
                elif len(piece) > 1:
                    pieces += self._parts(piece, line - 1)
                elif is_conflict_with_neighbours(exc):
                    others += piece
                else:
                    refusals.append(refused(piece[0].command, exc))
            else:
                inserted += len(piece) - len(found)
                refusals += found
        return inserted, refusals, others

    def _copy(self, piece: Sequence[Encoded]) -> list[Refusal]:
        """Copies rows; those that the columns' types can't read are left out, and returned."""
        with self._connection.cursor() as cursor:
            with cursor.copy(self._sql.copy_new) as copy:
                for item in piece:
                    copy.write_row(item.row)
            copied = cursor.rowcount
        if copied == len(piece):
            return []
        commands = [command for command, _ in piece]
        present = {
            key
            for (key,) in self._connection.execute(
                self._sql.present_keys, {"keys": key_array(self._spec, commands)}
            )
        }
        left_out = [item for item in piece if str(item.command.key) not in present]
        if len(left_out) != len(piece) - copied:
            # Only a key column that somebody gave another type can do that. To go on would be to
            # reject what is applied.
            raise RuntimeError(
                f"{self._spec.path}: keys come back from their column in another form"
            )
        return unreadable(self._connection, self._sql, self._names, left_out)

    def _is_there_by_now(self, error: psycopg.Error) -> bool:
        """Whether another consumer has inserted the key meanwhile: it may have more of them."""
        return (
            isinstance(error, psycopg.errors.UniqueViolation)
            and error.diag.constraint_name == f"{self._spec.table}_pkey"
        )

    def _parts(self, piece: list[Encoded], guilty: int) -> Iterator[list[Encoded]]:
        """The rows in parts, the last one to be tried first; the guilty one is by itself."""
        rest = piece[guilty + 1 :]
        for start in reversed(range(0, len(rest), _PIECE)):
            yield rest[start : start + _PIECE]
        yield [piece[guilty]]
        yield piece[:guilty]


def _key(item: Encoded) -> Any:  # noqa: ANN401 - int or str, but of one kind in a table
    return item.row[0]
