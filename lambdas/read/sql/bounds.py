"""The maximum size of rows according to their declarations; bounded rows need no measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from forebay.query.ast import Embedded, ListQuery, Selected
from forebay.query.representation import Media
from forebay.resource.spec import FieldSpec, Kind

# All sizes are in bytes of a function's answer, which contains the page as a JSON string: text
# that is JSON already is escaped twice. A control character is longest: `\u0001` becomes `\\u0001`.
_CHARACTER: Final = 7
_QUOTES: Final = len(r"\"\"")
_NULL: Final = len("null")
# Braces and, as in `page_query`, a string's quotes; the last member has no comma. A CSV line has
# a line end instead, and no names.
_ROW: Final = len('"{}"') - len(",")

_INTEGER: Final = len(str(-(2**63)))
_DOUBLE: Final = len("-2.2250738585072014e-308")  # Postgres writes the shortest exact text
_NOT_FINITE: Final = len("-Infinity") + _QUOTES
# As `numeric`, with all zeros: 4.94065645841247e-324 has 338 digits after the point.
_DOUBLE_SPELT_OUT: Final = 350
# The latest and earliest values in Postgres, with a zone in seconds; bodies allow less.
_DATE: Final = len("5874897-12-31 BC")
_TIMESTAMP: Final = len("294276-12-31T23:59:59.999999+00:00:00 BC")
_UUID: Final = 36
_BOOLEAN: Final = len("false")

_PLAIN: Final[Mapping[Kind, int]] = {
    Kind.INTEGER: _INTEGER,
    Kind.FLOAT: _DOUBLE,
    Kind.BOOLEAN: _BOOLEAN,
    Kind.DATE: _DATE + _QUOTES,
    Kind.TIMESTAMP: _TIMESTAMP + _QUOTES,
    Kind.UUID: _UUID + _QUOTES,
}


def rows_bound(query: ListQuery, media: Media) -> int | None:
    """The most bytes that a page's rows can take in a function's answer; None if unbounded.

    It holds for rows that conform to the declaration. A table may contain others for a while,
    such as rows from before a `max_length` was reduced, so the caller must still check the result.
    """
    if media is Media.CSV and any(isinstance(member, Embedded) for member in query.select):
        return None  # JSON within CSV, whose quotes are doubled
    members = members_bound(query.select)
    return None if members is None else query.limit * (members + _ROW)


def members_bound(members: Sequence[Selected | Embedded]) -> int | None:
    """The most bytes that the members of one row can take; None if unbounded."""
    total = 0
    for member in members:
        bound = _bound_member(member)
        if bound is None:
            return None
        total += bound
    return total


def _bound_member(member: Selected | Embedded) -> int | None:
    value = _bound_row(member) if isinstance(member, Embedded) else _bound_value(member)
    return None if value is None else _measure_name(member.name) + max(value, _NULL)


def _bound_row(embedded: Embedded) -> int | None:
    if not embedded.is_written:
        return 0
    if embedded.relation.many:
        return None
    members = members_bound(embedded.members)
    return None if members is None else members + len("{}") - len(",")


def _bound_value(member: Selected) -> int | None:
    column = member.operand.column
    plain = column_bound(column)
    if member.operand.path or plain is None:
        return None
    match member.cast:
        case None:
            return plain
        case "text":
            return plain + _QUOTES
        case "numeric" if column.kind is Kind.FLOAT:
            return _DOUBLE_SPELT_OUT
        case _:
            return max(plain, _DOUBLE)


def column_bound(column: FieldSpec) -> int | None:
    """The most bytes that a column's value can take; None if unbounded."""
    match column.kind:
        case Kind.TEXT:
            length = column.max_length or max(map(len, column.choices), default=None)
            return None if length is None else _CHARACTER * length + _QUOTES
        case Kind.DECIMAL:
            digits = (column.precision or 0) + len("-0.")
            return max(digits, _NOT_FINITE)
        case Kind.JSON:
            return None
        case kind:
            return _PLAIN[kind]


def _measure_name(name: str) -> int:
    """The name's size with its colon, and with the comma after the value."""
    return len(orjson.dumps(orjson.dumps(name).decode())) - len('""') + len(":,")
