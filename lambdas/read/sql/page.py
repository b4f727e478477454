"""A page of a list, and the inputs of its headers: row by row, or written as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

from psycopg import sql

from forebay.query.ast import Embedded, ListQuery, OrderTerm, Selected
from forebay.query.grammar import MAX_LIMIT
from forebay.query.representation import Count, Media
from forebay.resource.spec import Kind, ResourceSpec
from lambdas.read.sql.bounds import rows_bound
from lambdas.read.sql.conditions import inner_joins, where
from lambdas.read.sql.limits import Limits
from lambdas.read.sql.members import csv_line, json_pieces, json_text, names
from lambdas.read.sql.order import beyond, order_by, reverse_order, sort_value
from lambdas.read.sql.statement import Query, Scope, Values, table

#: Limit for a page's text, as the JSON string in a function's answer; the page ends before it.
#: Lambda accepts answers up to 6 MiB ("Lambda quotas"), headers included.
PAGE_MAX_BYTES: Final = 5 * 1024 * 1024
#: The text of a larger row is dropped, and its size is kept: no answer has room for it.
ROW_MAX_BYTES: Final = 6 * 1024 * 1024

#: Kinds with a JSON value, a string or an integer, that determines the value's text in SQL.
_SAME_IN_JSON: Final = frozenset({Kind.INTEGER, Kind.TEXT, Kind.UUID})

_FOUND: Final[LiteralString] = """
FROM {table} AS t WHERE {where} ORDER BY {order} LIMIT {limit}{offset}
"""

# Each step reads the one before it. OFFSET 0 keeps Postgres from copying an expression to every
# place that names it, and so from evaluating it several times. Rows are written one by one, until
# the page is full: Postgres ends at the first row that is not `beyond <= 1`, because such a count
# can only grow (the plan's "Run Condition").
_PAGE: Final[LiteralString] = """
WITH found AS (
  SELECT t.* FROM {table} AS t WHERE {where} ORDER BY {order} LIMIT {limit} + 1 OFFSET {offset}
), written AS (
  SELECT {text} AS text, {place} AS place FROM found AS t OFFSET 0
), weighed AS (
  SELECT CASE WHEN octet_length(text) <= {most} THEN text END AS text, place,
    octet_length(text) AS length
  FROM written OFFSET 0
), measured AS (
  SELECT text, place, coalesce(octet_length(to_json(text)::text), length) AS size
  FROM weighed OFFSET 0
), numbered AS (
  SELECT text, place, size, row_number() OVER way AS number,
    sum(size) OVER way AS bytes, lead(size, 1, 0) OVER way AS next_size
  FROM measured WINDOW way AS (ROWS UNBOUNDED PRECEDING)
), counted AS (
  SELECT *, count(CASE WHEN number > 1 AND bytes > {budget} THEN 1 END)
    OVER (ROWS UNBOUNDED PRECEDING) AS beyond
  FROM numbered
), page AS (
  SELECT *, number <= {limit} AND (number = 1 OR bytes <= {budget}) AS fits,
    number = {limit} OR next_size = 0 OR bytes + next_size > {budget} AS is_end
  FROM counted WHERE beyond <= 1
)
SELECT
  {head} || coalesce(string_agg(text, {separator} ORDER BY number{turned}) FILTER (WHERE fits), '')
    || {tail},
  count(*) FILTER (WHERE fits),
  count(*) FILTER (WHERE NOT fits) > 0,
  min(place) FILTER (WHERE fits AND number = 1),
  min(place) FILTER (WHERE fits AND is_end),
  coalesce(sum(size) FILTER (WHERE fits), 0)::bigint,
  {total}
FROM page
"""


def rows_query(spec: ResourceSpec, query: ListQuery, media: Media) -> Query | None:
    """The rows of a page, nearest first, and one more if there is one.

    Columns: the row's text, null if only `page_query` can write it; then the order's values,
    unless `place_members` names their members in the text.
    None if the rows' size is not bounded below a page's limit: the page may have to end early.
    """
    bound = rows_bound(query, media)
    if bound is None or bound > PAGE_MAX_BYTES:
        return None
    values = Values()
    scope = Scope("t", values)
    order, start_conditions = _choose_direction(query, scope)
    write = csv_line if media is Media.CSV else json_pieces
    place: Sequence[sql.Composable] = ()
    if place_members(query, media) is None:
        place = [sql.SQL(", {}").format(_show_value(term, scope)) for term in query.order]
    offset: sql.Composable = sql.SQL("")
    if query.offset:
        offset = sql.SQL(" OFFSET {}").format(values.bind(query.offset, "bigint"))
    source: sql.Composable = sql.SQL(_FOUND).format(
        table=table(spec),
        where=sql.SQL(" AND ").join([_build_conditions(query, scope), *start_conditions]),
        order=order_by(order, scope),
        limit=values.bind(query.limit + 1, "bigint"),
        offset=offset,
    )
    if not _follows_the_key(spec, query):
        # Otherwise Postgres may make the text of rows that it skips, or drops after sorting.
        source = sql.SQL("FROM (SELECT t.* {}) AS t").format(source)
    text = sql.SQL("SELECT {}{} {}").format(write(query.select, scope), sql.Composed(place), source)
    return Query(text, values.bound)


def _follows_the_key(spec: ResourceSpec, query: ListQuery) -> bool:
    """Return True if the page consists of the first rows in the order of the primary key."""
    is_filtered = query.where.members or any(
        isinstance(member, Embedded) and member.inner for member in query.select
    )
    first_term = query.order[0]
    by_key = first_term.embedded is None and first_term.operand.column.name == spec.key.name
    return by_key and not is_filtered and not query.offset


def place_members(query: ListQuery, media: Media) -> Sequence[str] | None:
    """The members of a row's JSON that hold the order's values unchanged; None if some don't.

    Without them Postgres would write the values a second time for each row, and only those of
    two rows are used.
    """
    if media is Media.CSV:
        return None
    names_by_column = {
        member.operand.column.name: member.name
        for member in query.select
        if isinstance(member, Selected) and member.cast is None and not member.operand.path
    }
    operands = [term.operand for term in query.order]
    if any(term.embedded is not None for term in query.order):
        return None
    if any(operand.path or operand.kind not in _SAME_IN_JSON for operand in operands):
        return None
    columns = [operand.column.name for operand in operands]
    return (
        [names_by_column[column] for column in columns]
        if names_by_column.keys() >= set(columns)
        else None
    )


def page_query(
    spec: ResourceSpec,
    query: ListQuery,
    media: Media,
    count: Count | None,
    *,
    measured: bool = False,
) -> Query:
    """A statement for a page as one row.

    Columns: the page's text, its number of rows, whether there are more rows after it (in the
    direction of the search), the order's values of the nearest and of the farthest row, the size
    of the text as part of a function's answer, and the number of all matching rows if they are
    to be counted.
    It fails if an item exceeds a limit (`limits`). If a single related row exceeds its share of a
    limit, the caller must repeat the query with `measured`.
    """
    values = Values(Limits.of(query, measured=measured))
    scope = Scope("t", values)
    matching = _build_conditions(query, scope)
    order, start_conditions = _choose_direction(query, scope)
    prefix, separator, suffix = frame(query, media)
    text = sql.SQL(_PAGE).format(
        table=table(spec),
        where=sql.SQL(" AND ").join([matching, *start_conditions]),
        order=order_by(order, scope),
        limit=values.bind(query.limit, "bigint"),
        offset=values.bind(query.offset, "bigint"),
        text=_build_text(query, media, scope),
        place=_build_place(query, scope),
        budget=values.bind(PAGE_MAX_BYTES, "bigint"),
        most=values.bind(ROW_MAX_BYTES, "bigint"),
        head=values.bind(prefix, "text"),
        separator=values.bind(separator, "text"),
        tail=values.bind(suffix, "text"),
        turned=sql.SQL(" DESC" if query.backward else ""),
        total=_build_total(spec, matching, count),
    )
    return Query(text, values.bound)


def estimate_query(spec: ResourceSpec, query: ListQuery) -> Query:
    """One row: the plan, as JSON, of a query for all matching rows, on any page."""
    values = Values()
    text = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} AS t WHERE {}").format(
        table(spec), _build_conditions(query, Scope("t", values))
    )
    return Query(text, values.bound)


def frame(query: ListQuery, media: Media) -> tuple[str, str, str]:
    """The text before, between and after the rows."""
    match media:
        case Media.JSON:
            return "[", ",\n", "]"
        case Media.CSV:
            return ",".join(_quote_name(name) for name in names(query.select)) + "\r\n", "", ""
        case Media.OBJECT:
            return "", "", ""


def _choose_direction(
    query: ListQuery, scope: Scope
) -> tuple[Sequence[OrderTerm], Sequence[sql.Composable]]:
    """The order in which rows are searched, and the condition where the search begins."""
    order = reverse_order(query.order) if query.backward else query.order
    if query.position is None:
        return order, ()
    return order, [beyond(order, query.position.values, scope)]


def _build_conditions(query: ListQuery, scope: Scope) -> sql.Composable:
    return sql.SQL(" AND ").join([where(query.where, scope), *inner_joins(query.select, scope)])


def _build_text(query: ListQuery, media: Media, scope: Scope) -> sql.Composable:
    write = csv_line if media is Media.CSV else json_text
    return write(query.select, scope)


def _build_place(query: ListQuery, scope: Scope) -> sql.Composable:
    """The order's values as text, which make a cursor."""
    return sql.SQL("ARRAY[{}]").format(
        sql.SQL(", ").join(
            [sql.SQL("{}::text").format(sort_value(term, scope)) for term in query.order]
        )
    )


def _show_value(term: OrderTerm, scope: Scope) -> sql.Composable:
    """A value of the order; Postgres sends it as the same text as `_build_place`."""
    operand = sort_value(term, scope)
    is_letter = term.operand.kind is Kind.BOOLEAN  # `t` or `f`
    return sql.SQL("{}::text").format(operand) if is_letter else operand


def _quote_name(name: str) -> str:
    if not name or any(character in name for character in '",\r\n'):
        return '"' + name.replace('"', '""') + '"'
    return name


def _build_total(
    spec: ResourceSpec, matching: sql.Composable, count: Count | None
) -> sql.Composable:
    """The count of matching rows; `estimated` stops counting where an estimate is needed."""
    if count is None or count == "planned":
        return sql.SQL("NULL::bigint")
    limit = sql.SQL(" LIMIT {}").format(MAX_LIMIT + 1) if count == "estimated" else sql.SQL("")
    return sql.SQL("(SELECT count(*) FROM (SELECT FROM {} AS t WHERE {}{}) AS matching)").format(
        table(spec), matching, limit
    )
