"""Rows for COPY, stored by column, because most rows are never accessed individually."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import NamedTuple, Self, TypeAlias

from forebay.command import Command

#: The key, the fields in declared order, then `_version` and `_by_create`.
#: Fields of deletes are None.
Row: TypeAlias = tuple[object, ...]


class Encoded(NamedTuple):
    """A command, and its row for COPY."""

    command: Command
    row: Row


#: Rows encoded together, while Postgres processes the rows before.
PIECE = 500


@dataclass(frozen=True, slots=True)
class RowSet:
    """Commands and their rows."""

    commands: Sequence[Command]
    #: A sequence per column of the table, each with a value per command.
    columns: Sequence[Sequence[object]]

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> Self:
        """Create a set from single rows."""
        return cls(
            [command for command, _ in encoded],
            list(zip(*[row for _, row in encoded], strict=True)),
        )

    @classmethod
    def joined(cls, sets: Iterable[RowSet]) -> RowSet:
        """All rows of several sets, in their order."""
        filled = [rows for rows in sets if rows.commands]
        if len(filled) == 1:
            return filled[0]
        return cls(
            [command for rows in filled for command in rows.commands],
            [
                [value for column in columns for value in column]
                for columns in zip(*[rows.columns for rows in filled], strict=True)
            ],
        )

    def __len__(self) -> int:
        return len(self.commands)

    def __iter__(self) -> Iterator[Encoded]:
        rows = zip(*self.columns, strict=True)
        return map(_encoded_of, zip(self.commands, rows, strict=True))

    def at(self, place: int) -> Encoded:
        """The row at a place."""
        return Encoded(self.commands[place], tuple([column[place] for column in self.columns]))

    def without(self, places: Collection[int]) -> RowSet:
        """The rows at all other places."""
        is_kept = [place not in places for place in range(len(self))]
        return RowSet(
            list(compress(self.commands, is_kept)),
            [list(compress(column, is_kept)) for column in self.columns],
        )

    def part(self, start: int, stop: int | None = None) -> RowSet:
        """The rows from `start` to before `stop`, or to the end."""
        places = slice(start, stop)
        return RowSet(self.commands[places], [column[places] for column in self.columns])


class Pieces:
    """Rows to be tried together, in pieces that are made when they are requested."""

    def __init__(self, rows: Iterable[RowSet]) -> None:
        self._left = iter(rows)
        self._made: list[RowSet] = []

    def __iter__(self) -> Iterator[RowSet]:
        """Yield the pieces that have not been requested yet."""
        for rows in self._left:
            self._made.append(rows)
            yield rows

    @property
    def made(self) -> Sequence[RowSet]:
        """The pieces that have been requested."""
        return self._made

    def whole(self) -> RowSet:
        """All rows."""
        for _ in self:
            pass
        return RowSet.joined(self._made)


#: Makes an `Encoded` in a quarter of the time of a call of it.
_encoded_of: Callable[[tuple[Command, Row]], Encoded] = partial(tuple.__new__, Encoded)
