"""Writes the members of a row and of the related rows inside it, as JSON or as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, LiteralString

import orjson
from psycopg import sql

from forebay.query.ast import Cast, Embedded, Operand, Selected
from forebay.resource.spec import FieldSpec, Kind
from lambdas.read.sql.conditions import related_rows
from lambdas.read.sql.limits import build_failure, find_repeated, format_mark
from lambdas.read.sql.order import order_by
from lambdas.read.sql.statement import Scope, Values

_CASTS: Final[Mapping[Cast, LiteralString]] = {
    "text": "text",
    "integer": "integer",
    "bigint": "bigint",
    "double precision": "double precision",
    "numeric": "numeric",
    "boolean": "boolean",
}

Members = Sequence[Selected | Embedded]


def names(members: Members) -> tuple[str, ...]:
    """The names of the members that are written, in their order."""
    return tuple(member.name for member in _list_written(members))


def all_members(columns: Sequence[FieldSpec]) -> tuple[Selected, ...]:
    """Every column under its own name."""
    return tuple(Selected(Operand(column), column.name) for column in columns)


def json_text(members: Members, scope: Scope) -> sql.Composed:
    """The text of a row as a JSON object."""
    return sql.SQL("(SELECT row_to_json(j)::text FROM (SELECT {}) AS j)").format(
        _build_columns(members, scope)
    )


def json_pieces(members: Members, scope: Scope) -> sql.Composed:
    """The text of `json_text`, made faster; null if a value is null against its declaration.

    For each row, `row_to_json` looks up each column's type and its output function;
    JSON_SCALAR (SQL:2023, PostgreSQL 17) does so once for the statement.
    """
    pieces: list[sql.Composable] = []
    for number, member in enumerate(_list_written(members)):
        prefix = ("," if number else "{") + orjson.dumps(member.name).decode() + ":"
        pieces += [_build_constant(prefix, member, scope), _build_json_value(member, scope)]
    return _concatenate([*pieces, sql.SQL("'}'")])


def csv_line(members: Members, scope: Scope) -> sql.Composed:
    r"""The text of a row as a line of CSV with its end (RFC 4180).

    Null is an empty cell, which distinguishes it from an empty text, `""`. In a line with one
    member, null is `""` too: many readers skip empty lines.
    """
    fields = sql.SQL(", ").join([_build_field(*pair) for pair in _build_values(members, scope)])
    text = r"""
        (SELECT string_agg(
            CASE WHEN field ~ '[",\r\n]' OR field = ''
              THEN '"' || replace(field, '"', '""') || '"' ELSE coalesce(field, {null}) END,
            ',' ORDER BY number) || E'\r\n'
          FROM unnest(ARRAY[{fields}]) WITH ORDINALITY AS u(field, number))
    """
    is_only = len(names(members)) == 1
    return sql.SQL(text).format(fields=fields, null=sql.SQL("'\"\"'" if is_only else "''"))


def _list_written(members: Members) -> Iterator[Selected | Embedded]:
    return (member for member in members if isinstance(member, Selected) or member.is_written)


def _build_columns(members: Members, scope: Scope) -> sql.Composed:
    return sql.SQL(", ").join(
        [
            sql.SQL("{} AS {}").format(value, _quote_name(member.name))
            for member, value in _build_values(members, scope)
        ]
    )


def _build_values(
    members: Members, scope: Scope
) -> Iterator[tuple[Selected | Embedded, sql.Composable]]:
    """Each written member with its value; the first value fails if repetitions are too large."""
    is_allowed = _limit_repetitions(members, scope)
    for member in _list_written(members):
        value = _build_value(member, scope)
        if is_allowed is not None:
            value = sql.SQL("CASE WHEN {} THEN {} END").format(is_allowed, value)
            is_allowed = None
        yield member, value


def _limit_repetitions(members: Members, scope: Scope) -> sql.Composable | None:
    """A condition that fails if repetitions of large columns exceed the limit."""
    limit = scope.values.limits.repeated_bytes
    columns = [(column, count) for column, count in find_repeated(members) if count > 1]
    if limit is None or not columns:
        return None
    sizes = [
        sql.SQL("{} * coalesce(octet_length({}::text), 0)::bigint").format(
            scope.values.bind(count, "bigint"), scope.column(column)
        )
        for column, count in columns
    ]
    size = sql.SQL("({})").format(sql.SQL(" + ").join(sizes))
    names = ", ".join(column.name for column, _ in columns)
    message = scope.values.bind(format_mark("columns", limit, names), "text")
    return sql.SQL("CASE WHEN {size} <= {most} THEN TRUE ELSE {failing} END").format(
        size=size, most=scope.values.bind(limit, "bigint"), failing=build_failure(message, size)
    )


def _quote_name(name: str) -> sql.Identifier:
    # psycopg scans the whole statement for placeholders, quoted names included.
    return sql.Identifier(name.replace("%", "%%"))


def _build_value(member: Selected | Embedded, scope: Scope) -> sql.Composable:
    if isinstance(member, Embedded):
        return (
            _build_related_rows(member, scope)
            if member.relation.many
            else _build_related_row(member, scope)
        )
    operand = scope.operand(member.operand)
    if member.cast is None:
        return operand
    return sql.SQL("({})::{}").format(operand, sql.SQL(_CASTS[member.cast]))


def _build_constant(text: str, member: Selected | Embedded, scope: Scope) -> sql.Composable:
    """A name with its quotes; a name that a client chose is bound as a value."""
    if isinstance(member, Selected) and member.name == member.operand.column.name:
        return sql.Literal(text)
    return scope.values.bind(text, "text")


def _build_json_value(member: Selected | Embedded, scope: Scope) -> sql.Composed:
    """The text that `row_to_json` makes of the value."""
    value = sql.SQL("({})").format(_build_value(member, scope))
    if isinstance(member, Embedded):
        nullable, is_json, is_integer = not member.relation.many, True, False
    else:
        kind, cast = member.operand.kind, member.cast
        nullable = member.operand.nullable
        is_json = cast is None and kind is Kind.JSON
        is_integer = cast in {"integer", "bigint"} or (cast is None and kind is Kind.INTEGER)
    plain = "{}::text" if is_json or is_integer else "JSON_SCALAR({})::text"
    text = sql.SQL(plain).format(value)
    return sql.SQL("coalesce({}, 'null')").format(text) if nullable else sql.Composed([text])


def _concatenate(pieces: Sequence[sql.Composable]) -> sql.Composed:
    """Concatenate by halves: from left to right, each `||` would copy the text so far."""
    if len(pieces) == 1:
        return sql.Composed([pieces[0]])
    middle = len(pieces) // 2
    return sql.SQL("({} || {})").format(
        _concatenate(pieces[:middle]), _concatenate(pieces[middle:])
    )


def _build_field(member: Selected | Embedded, value: sql.Composable) -> sql.Composable:
    """A member's text in CSV: that of JSON, but text without its quotes."""
    is_moment = (
        isinstance(member, Selected)
        and member.cast is None
        and member.operand.kind is Kind.TIMESTAMP
    )
    return sql.SQL("to_json(({})) #>> '{{}}'" if is_moment else "({})::text").format(value)


def _build_related_row(embedded: Embedded, scope: Scope) -> sql.Composable:
    text = "(SELECT row_to_json(j) FROM (SELECT {members} FROM {rows}) AS j)"
    related_scope = scope.related()
    return sql.SQL(text).format(
        members=_build_columns(embedded.members, related_scope),
        rows=related_rows(embedded, scope, related_scope),
    )


def _build_related_rows(embedded: Embedded, scope: Scope) -> sql.Composable:
    related_scope = scope.related()
    row = sql.SQL(
        "SELECT row_to_json(j) AS j "
        "FROM (SELECT {members} FROM {rows} ORDER BY {order} LIMIT {limit} OFFSET {offset}) AS j"
    ).format(
        members=_build_columns(embedded.members, related_scope),
        rows=related_rows(embedded, scope, related_scope),
        order=order_by(embedded.order, related_scope),
        limit=scope.values.bind(embedded.limit, "bigint"),
        offset=scope.values.bind(embedded.offset, "bigint"),
    )
    return sql.SQL("(SELECT coalesce(json_agg(b.j), '[]') FROM ({}) AS b)").format(
        _limit_rows(row, embedded, scope.values)
    )


def _limit_rows(row: sql.Composed, embedded: Embedded, values: Values) -> sql.Composable:
    """The related rows, with a condition that fails if they exceed their share of an item."""
    limits = values.limits
    row_bytes = limits.within(embedded)
    if row_bytes is None:
        return row
    # Here and below, OFFSET 0 keeps Postgres from making each row's JSON twice.
    if not limits.measured:
        kind, limit, size = "row", row_bytes, sql.SQL("pg_column_size(b.j)")
        source = sql.SQL("({} OFFSET 0) AS b").format(row)
    else:
        kind, limit, size = "relation", limits.relation_bytes, sql.SQL("b.bytes")
        source = sql.SQL(
            "(SELECT b.j, sum(pg_column_size(b.j)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes "
            "FROM ({} OFFSET 0) AS b) AS b"
        ).format(row)
    return sql.SQL(
        "SELECT b.j FROM {source} WHERE CASE WHEN {size} <= {most} THEN TRUE ELSE {failing} END"
    ).format(
        source=source,
        size=size,
        most=values.bind(limit, "bigint"),
        failing=build_failure(values.bind(format_mark(kind, limit, embedded.name), "text"), size),
    )
