"""A statement with its values, and the scope in which its conditions and members are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString, NamedTuple

from psycopg import sql

from forebay.query.ast import Operand
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from lambdas.read.sql.limits import Limits

#: Wide enough for every column of the kind: a comparison with it can still use the column's index.
_TYPES: Final[Mapping[Kind, LiteralString]] = {
    Kind.TEXT: "text",
    Kind.INTEGER: "bigint",
    Kind.FLOAT: "double precision",
    Kind.DECIMAL: "numeric",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamptz",
    Kind.UUID: "uuid",
    Kind.JSON: "jsonb",
}


class Query(NamedTuple):
    """A statement and the values that are bound to its names."""

    text: sql.Composed | bytes
    values: Mapping[str, object]

    def spelt_out(self) -> Query:
        """The same with its text as bytes, to be kept: that takes longer than to run many."""
        return self._replace(text=self.as_bytes())

    def as_bytes(self) -> bytes:
        """Its text."""
        return self.text if isinstance(self.text, bytes) else self.text.as_bytes()


class Values:
    """Collects a statement's values; each has a name, so fragments may stand in any order."""

    def __init__(self, limits: Limits | None = None) -> None:
        """No value yet.

        Args:
            limits: of the statement; without, those of one that embeds nothing.
        """
        self.limits = limits or Limits()
        self.bound: dict[str, object] = {}

    def bind(self, value: object, sql_type: LiteralString) -> sql.Composed:
        """The place of a value of that type in the statement."""
        name = f"p{len(self.bound)}"
        self.bound[name] = value
        return sql.SQL("{}::{}").format(sql.Placeholder(name), sql.SQL(sql_type))


@dataclass(frozen=True, slots=True)
class Scope:
    """One table under its alias, and the values of the statement it stands in."""

    alias: str
    values: Values
    #: How many relations lead from the list's rows to the table's.
    depth: int = 0

    def related(self) -> Scope:
        """A table whose rows belong to the rows of this one."""
        return Scope(f"r{self.depth + 1}", self.values, self.depth + 1)

    def column(self, column: FieldSpec) -> sql.Composed:
        """The column."""
        return sql.SQL("{}.{}").format(sql.Identifier(self.alias), sql.Identifier(column.name))

    def operand(self, operand: Operand) -> sql.Composable:
        """The column, or the place inside it."""
        found: sql.Composable = self.column(operand.column)
        for position, step in enumerate(operand.path, start=1):
            last = position == len(operand.path)
            arrow = sql.SQL("->>" if last and operand.as_text else "->")
            # An element's number and a member's name are different questions, also for "0".
            place = self.values.bind(step, "integer" if isinstance(step, int) else "text")
            found = sql.SQL("({} {} {})").format(found, arrow, place)
        return found

    def value(self, operand: Operand, value: str) -> sql.Composed:
        """A value to compare the operand with."""
        return self.values.bind(value, _TYPES[operand.kind])

    def array(self, operand: Operand, values: tuple[str, ...]) -> sql.Composed:
        """Several values to compare the operand with."""
        return self.values.bind(list(values), _TYPES[operand.kind] + "[]")


def table(spec: ResourceSpec) -> sql.Identifier:
    """The resource's table."""
    return sql.Identifier("public", spec.table)
