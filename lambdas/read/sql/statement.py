"""A statement with its values, and the scope that writes its conditions and members."""

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
    """A statement and its named values."""

    text: sql.Composed | bytes
    values: Mapping[str, object]

    def compose(self) -> Query:
        """The query with its text as bytes, to be kept: composing costs more than many runs."""
        return self._replace(text=self.as_bytes())

    def as_bytes(self) -> bytes:
        """The text as bytes."""
        return self.text if isinstance(self.text, bytes) else self.text.as_bytes()


class Values:
    """Collects a statement's values; each has a name, so fragments can be in any order."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Start without values.

        Args:
            limits: the statement's limits; None for a statement that embeds no relation.
        """
        self.limits = limits or Limits()
        self.bound: dict[str, object] = {}

    def bind(self, value: object, sql_type: LiteralString) -> sql.Composed:
        """Add a value; return its placeholder with a cast to the type."""
        name = f"p{len(self.bound)}"
        self.bound[name] = value
        return sql.SQL("{}::{}").format(sql.Placeholder(name), sql.SQL(sql_type))


@dataclass(frozen=True, slots=True)
class Scope:
    """A table under its alias, and the values of its statement."""

    alias: str
    values: Values
    #: The number of relations between the list's rows and the table's.
    depth: int = 0

    def related(self) -> Scope:
        """The scope of a table with rows that are related to the rows of this one."""
        return Scope(f"r{self.depth + 1}", self.values, self.depth + 1)

    def column(self, column: FieldSpec) -> sql.Composed:
        """The column."""
        return sql.SQL("{}.{}").format(sql.Identifier(self.alias), sql.Identifier(column.name))

    def operand(self, operand: Operand) -> sql.Composable:
        """The column, or a place inside its JSON."""
        expression: sql.Composable = self.column(operand.column)
        for position, step in enumerate(operand.path, start=1):
            is_last = position == len(operand.path)
            arrow = sql.SQL("->>" if is_last and operand.as_text else "->")
            # An element's number and a member's name differ, even for "0".
            place = self.values.bind(step, "integer" if isinstance(step, int) else "text")
            expression = sql.SQL("({} {} {})").format(expression, arrow, place)
        return expression

    def value(self, operand: Operand, value: str) -> sql.Composed:
        """A value to compare the operand with."""
        return self.values.bind(value, _TYPES[operand.kind])

    def array(self, operand: Operand, values: tuple[str, ...]) -> sql.Composed:
        """Several values to compare the operand with."""
        return self.values.bind(list(values), _TYPES[operand.kind] + "[]")


def table(spec: ResourceSpec) -> sql.Identifier:
    """The resource's table."""
    return sql.Identifier("public", spec.table)
