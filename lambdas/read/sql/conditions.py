"""WHERE: what filters mean in SQL, which is what PostgREST makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, LiteralString, cast

from psycopg import sql

from forebay.query.ast import Filter, Group
from lambdas.read.sql.statement import Scope

_COMPARISONS: Final[Mapping[str, LiteralString]] = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "isdistinct": "IS DISTINCT FROM",
    "like": "LIKE",
    "ilike": "ILIKE",
    "match": "~",
    "imatch": "~*",
    "cs": "@>",
    "cd": "<@",
}
_SEARCHES: Final[Mapping[str, LiteralString]] = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
_IS: Final[Mapping[str, LiteralString]] = {
    "null": "NULL",
    "not_null": "NOT NULL",
    "true": "TRUE",
    "false": "FALSE",
    "unknown": "UNKNOWN",
}


def where(group: Group, scope: Scope) -> sql.Composable:
    """The condition that a row must fulfil; of three values, as SQL's are."""
    if not group.members:
        return sql.SQL("FALSE" if group.negated else "TRUE")
    members = [_member(member, scope) for member in group.members]
    joined = sql.SQL(" AND " if group.joined_by == "and" else " OR ").join(members)
    return _negated(sql.SQL("({})").format(joined), negated=group.negated)


def _member(member: Filter | Group, scope: Scope) -> sql.Composable:
    if isinstance(member, Group):
        return where(member, scope)
    return _negated(_filter(member, scope), negated=member.negated)


def _negated(condition: sql.Composable, *, negated: bool) -> sql.Composable:
    # Not the opposite operator: `not.eq` leaves out nulls as `eq` does, and so does NOT.
    return sql.SQL("NOT ({})").format(condition) if negated else condition


def _filter(filter_: Filter, scope: Scope) -> sql.Composable:
    for makes, operators in _MAKERS.items():
        if filter_.operator in operators:
            return makes(filter_, scope)
    return _comparison(filter_, scope)


def _comparison(filter_: Filter, scope: Scope) -> sql.Composable:
    operand = filter_.operand
    symbol = sql.SQL(_COMPARISONS[filter_.operator])
    if filter_.quantifier is None:
        value = scope.value(operand, cast("str", filter_.value))
        return sql.SQL("{} {} {}").format(scope.operand(operand), symbol, value)
    return sql.SQL("{} {} {}({})").format(
        scope.operand(operand),
        symbol,
        sql.SQL("ANY" if filter_.quantifier == "any" else "ALL"),
        scope.array(operand, cast("tuple[str, ...]", filter_.value)),
    )


def _one_of(filter_: Filter, scope: Scope) -> sql.Composable:
    values = scope.array(filter_.operand, cast("tuple[str, ...]", filter_.value))
    return sql.SQL("{} = ANY({})").format(scope.operand(filter_.operand), values)


def _state(filter_: Filter, scope: Scope) -> sql.Composable:
    state = sql.SQL(_IS[cast("str", filter_.value)])
    return sql.SQL("{} IS {}").format(scope.operand(filter_.operand), state)


def _overlap(filter_: Filter, scope: Scope) -> sql.Composable:
    """Whether a JSON list has one of the elements; null where it is null, as for an array."""
    operand = scope.operand(filter_.operand)
    elements = scope.values.bind(list(cast("tuple[str, ...]", filter_.value)), "jsonb[]")
    text = """
        CASE WHEN {operand} IS NOT NULL THEN EXISTS (
          SELECT FROM jsonb_array_elements(
            CASE jsonb_typeof({operand}) WHEN 'array' THEN {operand} END
          ) AS element(value)
          WHERE element.value = ANY({elements})
        ) END
    """
    return sql.SQL(text).format(operand=operand, elements=elements)


def _text_search(filter_: Filter, scope: Scope) -> sql.Composable:
    """Without a language, by the database's default_text_search_config."""
    language = filter_.language
    config: sql.Composable = sql.SQL("")
    if language is not None:
        config = sql.SQL("{}, ").format(scope.values.bind(language, "regconfig"))
    # By itself, a search that depends on a setting would be read anew for each row.
    return sql.SQL("to_tsvector({config}{operand}) @@ (SELECT {query}({config}{value}))").format(
        config=config,
        operand=scope.operand(filter_.operand),
        query=sql.SQL(_SEARCHES[filter_.operator]),
        value=scope.values.bind(filter_.value, "text"),
    )


_MAKERS: Final[Mapping[Callable[[Filter, Scope], sql.Composable], frozenset[str]]] = {
    _one_of: frozenset({"in"}),
    _state: frozenset({"is"}),
    _overlap: frozenset({"ov"}),
    _text_search: frozenset(_SEARCHES),
}
