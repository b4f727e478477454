"""ORDER BY, and the condition that a page begins after a given row (keyset pagination)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from forebay.query.ast import OrderTerm
from lambdas.read.sql.conditions import related_rows
from lambdas.read.sql.statement import Scope


def reverse_order(order: Sequence[OrderTerm]) -> tuple[OrderTerm, ...]:
    """The same order, last row first."""
    return tuple(
        replace(term, descending=not term.descending, nulls_first=not term.nulls_first)
        for term in order
    )


def order_by(order: Sequence[OrderTerm], scope: Scope) -> sql.Composable:
    """The terms of ORDER BY."""
    return sql.SQL(", ").join([_build_term(term, scope) for term in order])


def beyond(
    order: Sequence[OrderTerm], values: Sequence[str | None], scope: Scope
) -> sql.Composable:
    """Rows after the row with these values: later in one term, and equal in all terms before it."""
    conditions: list[sql.Composable] = []
    pairs = list(zip(order, values, strict=True))
    for position, (term, value) in enumerate(pairs):
        ties = [_build_tie(*pair, scope) for pair in pairs[:position]]
        conditions.append(
            sql.SQL("({})").format(sql.SQL(" AND ").join([*ties, _build_later(term, value, scope)]))
        )
    alternatives = sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))
    bound = _build_bound(*pairs[0], scope)
    return alternatives if bound is None else sql.SQL("{} AND {}").format(bound, alternatives)


def sort_value(term: OrderTerm, scope: Scope) -> sql.Composable:
    """The expression that a term sorts by: of the row, or of the one row that is related to it."""
    if term.embedded is None:
        return scope.operand(term.operand)
    related_scope = scope.related()
    return sql.SQL("(SELECT {} FROM {})").format(
        related_scope.operand(term.operand), related_rows(term.embedded, scope, related_scope)
    )


def _build_term(term: OrderTerm, scope: Scope) -> sql.Composable:
    direction = sql.SQL(" DESC" if term.descending else "")
    if not term.nullable:
        # Without nulls, their place would only prevent the use of an index.
        return sql.SQL("{}{}").format(sort_value(term, scope), direction)
    nulls = sql.SQL(" NULLS FIRST" if term.nulls_first else " NULLS LAST")
    return sql.SQL("{}{}{}").format(sort_value(term, scope), direction, nulls)


def _build_bound(term: OrderTerm, value: str | None, scope: Scope) -> sql.Composable | None:
    """A redundant condition that lets Postgres start inside an index on the first term."""
    nulls_follow = term.nullable and not term.nulls_first
    if value is None or nulls_follow:
        return None
    return sql.SQL("{} {} {}").format(
        sort_value(term, scope),
        sql.SQL("<=" if term.descending else ">="),
        scope.value(term.operand, value),
    )


def _build_tie(term: OrderTerm, value: str | None, scope: Scope) -> sql.Composable:
    operand = sort_value(term, scope)
    if value is None:
        return sql.SQL("{} IS NULL").format(operand)
    return sql.SQL("{} = {}").format(operand, scope.value(term.operand, value))


def _build_later(term: OrderTerm, value: str | None, scope: Scope) -> sql.Composable:
    operand = sort_value(term, scope)
    if value is None:
        return sql.SQL("{} IS NOT NULL").format(operand) if term.nulls_first else sql.SQL("FALSE")
    symbol = sql.SQL("<" if term.descending else ">")
    condition = sql.SQL("{} {} {}").format(operand, symbol, scope.value(term.operand, value))
    if term.nullable and not term.nulls_first:
        return sql.SQL("({} OR {} IS NULL)").format(condition, operand)
    return condition
