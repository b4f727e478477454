"""WHERE: translates filters to SQL, with PostgREST's semantics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, LiteralString, cast

from psycopg import sql

from forebay.query.ast import Condition, Embedded, Filter, Group, Operand, Presence, Selected
from forebay.query.operators import ORDERING
from forebay.resource.spec import Kind
from lambdas.read.sql.statement import Scope, table

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
#: Elements not of the declared kind (from before it was declared) become null.
_NUMBER_ELEMENT: Final[LiteralString] = """
CASE jsonb_typeof(e.value) WHEN 'number' THEN (e.value #>> '{}')::numeric END
"""
_BOOLEAN_ELEMENT: Final[LiteralString] = """
CASE jsonb_typeof(e.value) WHEN 'boolean' THEN e.value = 'true'::jsonb END
"""
_TEXT_ELEMENT: Final[LiteralString] = "e.value #>> '{}'"
_ELEMENTS: Final[Mapping[Kind, LiteralString]] = {
    Kind.INTEGER: _NUMBER_ELEMENT,
    Kind.FLOAT: _NUMBER_ELEMENT,
    Kind.BOOLEAN: _BOOLEAN_ELEMENT,
}
_IS: Final[Mapping[str, LiteralString]] = {
    "null": "NULL",
    "not_null": "NOT NULL",
    "true": "TRUE",
    "false": "FALSE",
    "unknown": "UNKNOWN",
}


def where(group: Group, scope: Scope) -> sql.Composable:
    """The condition that a row must fulfil, in SQL's three-valued logic."""
    if not group.members:
        return sql.SQL("FALSE" if group.negated else "TRUE")
    members = [_build_member(member, scope) for member in group.members]
    joined = sql.SQL(" AND " if group.joined_by == "and" else " OR ").join(members)
    return _negate(sql.SQL("({})").format(joined), negated=group.negated)


def inner_joins(members: Sequence[Selected | Embedded], scope: Scope) -> Iterator[sql.Composable]:
    """A condition for each relation that excludes rows without related rows."""
    for member in members:
        if isinstance(member, Embedded) and member.inner:
            yield exists(member, scope)


def exists(embedded: Embedded, scope: Scope) -> sql.Composable:
    """A condition: there is a row to embed."""
    related_scope = scope.related()
    rows = related_rows(embedded, scope, related_scope)
    if embedded.relation.many and (embedded.offset or not embedded.limit):
        # As in PostgREST, limit and offset count: the condition is that a row is embedded.
        rows = sql.SQL("{} LIMIT {} OFFSET {}").format(
            rows,
            scope.values.bind(embedded.limit, "bigint"),
            scope.values.bind(embedded.offset, "bigint"),
        )
    return sql.SQL("EXISTS (SELECT FROM {})").format(rows)


def related_rows(embedded: Embedded, scope: Scope, related: Scope) -> sql.Composable:
    """The FROM clause's content: the related rows of one row.

    Args:
        embedded: the relation, and the selection of its rows.
        scope: the row's scope.
        related: the related rows' scope.
    """
    conditions = [where(embedded.where, related), *inner_joins(embedded.members, related)]
    return sql.SQL("{table} AS {alias} WHERE {joined} AND {conditions}").format(
        table=table(embedded.relation.target),
        alias=sql.Identifier(related.alias),
        joined=_build_join(embedded, scope, related),
        conditions=sql.SQL(" AND ").join(conditions),
    )


def _build_join(embedded: Embedded, scope: Scope, related_scope: Scope) -> sql.Composable:
    relation = embedded.relation
    column, target = scope.column(relation.column), related_scope.column(relation.target_column)
    if relation.through is None:
        return sql.SQL("{} = {}").format(target, column)
    # Not a join: a row that is joined twice is one related row.
    join = Scope(f"j{related_scope.depth}", scope.values)
    text = "{theirs} IN (SELECT {far} FROM {table} AS {alias} WHERE {near} = {ours})"
    return sql.SQL(text).format(
        theirs=target,
        far=join.column(relation.through.far),
        table=table(relation.through.spec),
        alias=sql.Identifier(join.alias),
        near=join.column(relation.through.near),
        ours=column,
    )


def _build_member(member: Condition, scope: Scope) -> sql.Composable:
    if isinstance(member, Group):
        return where(member, scope)
    if isinstance(member, Presence):
        return _negate(exists(member.embedded, scope), negated=member.negated)
    return _negate(_build_filter(member, scope), negated=member.negated)


def _negate(condition: sql.Composable, *, negated: bool) -> sql.Composable:
    # Not the opposite operator: `not.eq` excludes nulls like `eq`, and so does NOT.
    return sql.SQL("NOT ({})").format(condition) if negated else condition


def _build_filter(filter_: Filter, scope: Scope) -> sql.Composable:
    for makes, operators in _MAKERS.items():
        if filter_.operator in operators:
            return makes(filter_, scope)
    operand = filter_.operand
    if filter_.operator in ORDERING and operand.kind is Kind.JSON and not operand.path:
        return _compare_lists(filter_, scope)
    return _compare(filter_, scope)


def _compare(filter_: Filter, scope: Scope) -> sql.Composable:
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


def _compare_lists(filter_: Filter, scope: Scope) -> sql.Composable:
    """Compare lists in the order of Postgres's arrays, which differs from that of its JSON."""
    operand = filter_.operand
    is_tuple = isinstance(filter_.value, tuple)
    values = cast("tuple[str, ...]", filter_.value if is_tuple else (filter_.value,))
    compared = [
        sql.SQL("{} {} {}").format(
            _convert_to_array(operand, scope.operand(operand)),
            sql.SQL(_COMPARISONS[filter_.operator]),
            _convert_to_array(operand, scope.value(operand, value)),
        )
        for value in values
    ]
    if not compared:
        return sql.SQL("FALSE" if filter_.quantifier == "any" else "TRUE")
    operator = sql.SQL(" OR " if filter_.quantifier == "any" else " AND ")
    return sql.SQL("({})").format(operator.join(compared))


def _convert_to_array(operand: Operand, value: sql.Composable) -> sql.Composable:
    """A JSON list as an array of its elements; null for null."""
    text = """
        CASE WHEN jsonb_typeof({value}) = 'array' THEN ARRAY(
          SELECT {element} FROM jsonb_array_elements({value}) WITH ORDINALITY AS e(value, number)
          ORDER BY number
        ) END
    """
    element = _ELEMENTS.get(operand.column.items or Kind.JSON, _TEXT_ELEMENT)
    return sql.SQL(text).format(value=value, element=sql.SQL(element))


def _compare_any(filter_: Filter, scope: Scope) -> sql.Composable:
    values = scope.array(filter_.operand, cast("tuple[str, ...]", filter_.value))
    return sql.SQL("{} = ANY({})").format(scope.operand(filter_.operand), values)


def _compare_state(filter_: Filter, scope: Scope) -> sql.Composable:
    state = sql.SQL(_IS[cast("str", filter_.value)])
    return sql.SQL("{} IS {}").format(scope.operand(filter_.operand), state)


def _build_overlap(filter_: Filter, scope: Scope) -> sql.Composable:
    """A condition: a JSON list contains one of the elements. Null for null, as with arrays."""
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


def _build_text_search(filter_: Filter, scope: Scope) -> sql.Composable:
    """Without a language, Postgres uses its default_text_search_config."""
    language = filter_.language
    config: sql.Composable = sql.SQL("")
    if language is not None:
        config = sql.SQL("{}, ").format(scope.values.bind(language, "regconfig"))
    # In a subquery: Postgres would parse a search that depends on a setting for each row.
    return sql.SQL("to_tsvector({config}{operand}) @@ (SELECT {query}({config}{value}))").format(
        config=config,
        operand=scope.operand(filter_.operand),
        query=sql.SQL(_SEARCHES[filter_.operator]),
        value=scope.values.bind(filter_.value, "text"),
    )


_MAKERS: Final[Mapping[Callable[[Filter, Scope], sql.Composable], frozenset[str]]] = {
    _compare_any: frozenset({"in"}),
    _compare_state: frozenset({"is"}),
    _build_overlap: frozenset({"ov"}),
    _build_text_search: frozenset(_SEARCHES),
}
