"""Reads one page of a list with one statement, or with two if the total is estimated.

If the declaration bounds the rows' size, the page is read row by row with the simplest statement.
Otherwise Postgres writes the page as a whole; it measures each row, and ends the page before the
answer becomes too large.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar, cast

import orjson
import psycopg

from forebay.db.faults import describe_fault, is_query_fault
from forebay.problem import Problem, ProblemError
from forebay.query.ast import ListQuery
from forebay.query.cost import find_relations
from forebay.query.faults import listed, shown
from forebay.query.grammar import MAX_LIMIT
from forebay.query.named import find_named_resources
from forebay.query.representation import Count, Media
from forebay.resource.spec import ResourceSpec
from lambdas.read.database import ReadDatabase, Texts
from lambdas.read.sql.limits import RowTooLargeError, find_limit_problem
from lambdas.read.sql.page import (
    PAGE_MAX_BYTES,
    estimate_query,
    frame,
    page_query,
    place_members,
    rows_query,
)
from lambdas.read.sql.statement import Query

# Lambda refuses an answer above 6 MiB ("Lambda quotas"), headers and envelope included.
_ANSWER_MAX_BYTES = 6 * 1024 * 1024 - 64 * 1024
# A control character within a JSON string: `\u0001`.
_LONGEST_ESCAPE: Final = 6
# A numeric may be greater than any double, or longer than Python parses.
_NUMBERS_AS_TEXT: Final = json.JSONDecoder(parse_int=str, parse_float=str)

_Fetched = TypeVar("_Fetched")

#: The values of the order's terms in one row, each as text.
Place = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlan:
    """The plan of a page; it depends on the request only."""

    spec: ResourceSpec
    query: ListQuery
    media: Media
    count: Count | None
    #: `rows_query`, or `page_query` if the rows' size is unbounded or rows have to be counted.
    statement: Query
    is_row_by_row: bool
    #: `place_members` of a page that is read row by row.
    place: Sequence[str] | None = None
    #: The paths of the other resources that the query names.
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list."""

    #: The text in UTF-8; it is not parsed here.
    body: bytes
    rows: int
    #: The places of the first and the last row, where the neighbouring pages begin. None if there
    #: is no such page, or if this page has no rows.
    first: Place | None
    last: Place | None
    rows_before: bool
    rows_behind: bool
    #: The number of all matching rows, on any page, if it was requested.
    total: int | None


class _PageRows(NamedTuple):
    """The result of a statement, with rows in the direction of the search."""

    body: bytes
    rows: int
    more: bool
    #: The places of the rows at the page's borders, if there may be rows beyond them.
    nearest: Place | None
    farthest: Place | None
    total: int | None


def plan_page(spec: ResourceSpec, query: ListQuery, media: Media, count: Count | None) -> PagePlan:
    """Plan a page with the cheapest statement that can read it."""
    rows = rows_query(spec, query, media) if count in {None, "planned"} else None
    return PagePlan(
        spec=spec,
        query=query,
        media=media,
        count=count,
        statement=(rows or page_query(spec, query, media, count)).compose(),
        is_row_by_row=rows is not None,
        place=place_members(query, media),
        others=find_named_resources(query) - {spec.path},
    )


def read_page(database: ReadDatabase, plan: PagePlan) -> Page:
    """Read the page; it ends before the answer becomes too large.

    Raises:
        ProblemError: Postgres can't evaluate the query, or a single row is too large.
        psycopg.Error: the database could not answer.
    """
    try:
        rows = _read_rows(database, plan)
    except RowTooLargeError:
        measured = page_query(plan.spec, plan.query, plan.media, plan.count, measured=True)
        rows = _read_as_one(database, measured, plan.query)
    query = plan.query
    return Page(
        body=rows.body,
        rows=rows.rows,
        first=rows.farthest if query.backward else rows.nearest,
        last=rows.nearest if query.backward else rows.farthest,
        rows_before=rows.more if query.backward else _skips_rows(query),
        rows_behind=query.backward or rows.more,
        total=_count_total(database, plan, rows),
    )


def _read_rows(database: ReadDatabase, request: PagePlan) -> _PageRows:
    if not request.is_row_by_row:
        return _read_as_one(database, request.statement, request.query)
    rows = _read_row_by_row(database, request)
    if rows is not None:
        return rows
    # The table has rows that violate the declaration; this statement can read them.
    statement = page_query(request.spec, request.query, request.media, request.count)
    return _read_as_one(database, statement, request.query)


def _read_as_one(database: ReadDatabase, statement: Query, query: ListQuery) -> _PageRows:
    text, rows, more, nearest, farthest, size, total = _fetch(database.fetch, statement)[0]
    if size > _ANSWER_MAX_BYTES:
        raise ProblemError(_describe_too_large(size, query))
    return _PageRows(
        body=text.encode(),
        rows=rows,
        more=more,
        nearest=nearest if _skips_rows(query) else None,
        farthest=farthest if more else None,
        total=total,
    )


def _fetch(fetch: Callable[[Query], _Fetched], statement: Query) -> _Fetched:
    """Execute the statement.

    Raises:
        ProblemError: Postgres can't evaluate the query, or a limit is exceeded.
        RowTooLargeError: as `find_limit_problem`.
        psycopg.Error: the database could not answer.
    """
    try:
        return fetch(statement)
    except psycopg.Error as exc:
        if not is_query_fault(exc):
            raise
        raise (find_limit_problem(exc) or _describe_refusal(exc)) from exc


def _read_row_by_row(database: ReadDatabase, request: PagePlan) -> _PageRows | None:
    """Read row by row; None if a row has no text or the rows exceed a page's size."""
    query = request.query
    texts = _fetch(database.fetch_texts, request.statement)
    rows = min(len(texts), query.limit)
    lines = texts.column(0, rows)
    if query.backward:
        lines.reverse()
    head, separator, tail = (part.encode() for part in frame(query, request.media))
    try:
        body = head + separator.join(cast("list[bytes]", lines)) + tail
    except TypeError:  # one is None; a check beforehand would take longer
        return None
    if _LONGEST_ESCAPE * len(body) > PAGE_MAX_BYTES and _measure_size(body, rows) > PAGE_MAX_BYTES:
        return None
    more = len(texts) > rows
    return _PageRows(
        body=body,
        rows=rows,
        more=more,
        nearest=_read_place(texts, 0, request.place) if rows and _skips_rows(query) else None,
        farthest=_read_place(texts, rows - 1, request.place) if rows and more else None,
        total=None,
    )


def _skips_rows(query: ListQuery) -> bool:
    """Return True if there may be rows before the nearest one, in the direction of the search."""
    return query.position is not None or query.offset > 0


def _read_place(texts: Texts, row: int, members: Sequence[str] | None) -> Place:
    if members is None:
        return texts.row(row, 1)
    values = _NUMBERS_AS_TEXT.decode((texts.value(row, 0) or b"").decode())
    return [None if values[name] is None else str(values[name]) for name in members]


def _measure_size(body: bytes, rows: int) -> int:
    """An upper bound of the size that `page_query` counts: rows as JSON strings with quotes."""
    return len(orjson.dumps(body.decode())) + rows * len('""')


def _count_total(database: ReadDatabase, request: PagePlan, rows: _PageRows) -> int | None:
    total = rows.total
    if request.count == "planned" or (request.count == "estimated" and (total or 0) > MAX_LIMIT):
        # The rows found may exceed the estimate.
        rows_seen = request.query.offset + rows.rows + rows.more if rows.rows else 0
        return max(total or 0, _estimate_rows(database, request.spec, request.query), rows_seen)
    return total


def _estimate_rows(database: ReadDatabase, spec: ResourceSpec, query: ListQuery) -> int:
    """The number of rows that Postgres's planner expects."""
    plan = database.fetch(estimate_query(spec, query))[0][0]
    return int(plan[0]["Plan"]["Plan Rows"])


def _describe_refusal(error: psycopg.Error) -> ProblemError:
    return ProblemError(
        Problem(
            "PGRST100",
            "Postgres can't carry out what the parameters ask for",
            details=describe_fault(error),
            hint=error.diag.message_hint,
        )
    )


def _describe_too_large(size: int, query: ListQuery) -> Problem:
    names = [shown(member.name) for member in find_relations(query.select)]
    subject = f"one row, with its {listed(names)}," if names else "one row"
    return Problem(
        "answer_too_large",
        f"{subject} takes {size:,} bytes of an answer, {_ANSWER_MAX_BYTES:,} is most",
        hint="select fewer columns, or limit the related rows inside it",
    )
