"""The SELECTs of the read function, one visible statement per question."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from forebay.query.ast import Compare, Condition, Is, ListQuery, OneOf, OrderTerm
from forebay.query.grammar import COMPARISONS
from forebay.resource.spec import FieldSpec, ResourceSpec

Query = tuple[sql.Composed, list[object]]

_IS = {"null": "NULL", "not_null": "NOT NULL", "true": "TRUE", "false": "FALSE"}


def item_query(spec: ResourceSpec, key: object) -> Query:
    """One row: its version and its JSON text."""
    text = "SELECT t._version::text, {json} FROM {table} AS t WHERE t.{key} = %s"
    return sql.SQL(text).format(**_names(spec)), [key]


def traces_query(spec: ResourceSpec, key: object, command_id: str | None) -> Query:
    """What there is about a key and a command: always one row.

    Columns: the row's version and whether a create made it, the tombstone's version, and the
    rejection's code and detail.
    """
    text = """
        SELECT t._version::text, t._by_create, d.version::text, r.code, r.detail
        FROM (SELECT) AS one
        LEFT JOIN {table} AS t ON t.{key} = %s
        LEFT JOIN forebay.tombstones AS d ON d.resource = {resource} AND d.key = %s
        LEFT JOIN forebay.rejections AS r
          ON r.id = %s::uuid AND r.resource = {resource} AND r.key = %s
    """
    return sql.SQL(text).format(**_names(spec)), [key, str(key), command_id, str(key)]


def list_query(spec: ResourceSpec, query: ListQuery) -> Query:
    """A page: each row's JSON text and the order's values as text; one row more than asked."""
    parameters: list[object] = []
    conditions = [_condition(condition, parameters) for condition in query.conditions]
    if query.after is not None:
        conditions.append(_after(query.order, query.after, parameters))
    where = sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")
    text = """
        SELECT {json}, {cursor} FROM {table} AS t WHERE {where} ORDER BY {order} LIMIT %s
    """
    statement = sql.SQL(text).format(
        **_names(spec),
        cursor=sql.SQL(", ").join(
            sql.SQL("{}::text").format(_column(term.column)) for term in query.order
        ),
        where=where,
        order=sql.SQL(", ").join(
            _column(term.column) + sql.SQL(" DESC" if term.descending else "")
            for term in query.order
        ),
    )
    return statement, [*parameters, query.limit + 1]


def _names(spec: ResourceSpec) -> dict[str, sql.Composable]:
    columns = sql.SQL(", ").join(_column(column) for column in spec.columns)
    return {
        "table": sql.Identifier("public", spec.table),
        "key": sql.Identifier(spec.key.name),
        "resource": sql.Literal(spec.path),
        "json": sql.SQL("(SELECT row_to_json(j) FROM (SELECT {}) AS j)::text").format(columns),
    }


def _column(column: FieldSpec) -> sql.Composed:
    return sql.SQL("t.{}").format(sql.Identifier(column.name))


def _value(column: FieldSpec) -> sql.Composed:
    # The type's name comes from the declaration, the value is bound.
    return sql.SQL("%s::{}").format(sql.SQL(column.sql_type.partition("(")[0]))


def _condition(condition: Condition, parameters: list[object]) -> sql.Composed:
    column = _column(condition.column)
    match condition:
        case Compare():
            parameters.append(condition.value)
            operator = sql.SQL(f" {COMPARISONS[condition.operator]} ")
            return column + operator + _value(condition.column)
        case OneOf():
            parameters.append(list(condition.values))
            return column + sql.SQL(" = ANY(") + _value(condition.column) + sql.SQL("[])")
        case Is():
            return column + sql.SQL(f" IS {_IS[condition.state]}")


def _after(
    order: Sequence[OrderTerm], values: Sequence[str | None], parameters: list[object]
) -> sql.Composed:
    """Rows behind the given one: later in a term, all the terms before it being equal."""
    ways: list[sql.Composable] = []
    for position in range(len(order)):
        tied = [
            _tied(term, value, parameters)
            for term, value in zip(order[:position], values[:position], strict=True)
        ]
        later = _later(order[position], values[position], parameters)
        ways.append(sql.SQL(" AND ").join([*tied, later]))
    either = sql.SQL("({})").format(sql.SQL(" OR ").join(sql.SQL("({})").format(w) for w in ways))
    first, value = order[0], values[0]
    if value is None or first.column.nullable:
        return either
    # Says nothing new, but lets Postgres start in the middle of an index on the first term.
    parameters.append(value)
    bound = sql.SQL(" <= " if first.descending else " >= ")
    return either + sql.SQL(" AND ") + _column(first.column) + bound + _value(first.column)


def _tied(term: OrderTerm, value: str | None, parameters: list[object]) -> sql.Composed:
    if value is None:
        return _column(term.column) + sql.SQL(" IS NULL")
    parameters.append(value)
    return _column(term.column) + sql.SQL(" = ") + _value(term.column)


def _later(term: OrderTerm, value: str | None, parameters: list[object]) -> sql.Composed:
    """Nulls come last in ascending order, first in descending."""
    column = _column(term.column)
    if value is None:
        return (
            column + sql.SQL(" IS NOT NULL")
            if term.descending
            else sql.Composed([sql.SQL("FALSE")])
        )
    parameters.append(value)
    if term.descending:
        return column + sql.SQL(" < ") + _value(term.column)
    beyond = column + sql.SQL(" > ") + _value(term.column)
    if term.column.nullable:
        return sql.SQL("({} OR {} IS NULL)").format(beyond, column)
    return beyond
