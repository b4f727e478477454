"""Reads one page of a list: one statement, or two where the total is to be estimated.

A page whose rows are small by declaration is read row by row, by the simplest statement there is.
Any other is written by Postgres as a whole, which measures each row and ends where an answer would
become too large.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar, cast

import orjson
import psycopg

from forebay.db.faults import fault_detail, is_query_fault
from forebay.problem import Problem, ProblemError
from forebay.query.ast import ListQuery
from forebay.query.cost import relations_in
from forebay.query.faults import listed, shown
from forebay.query.grammar import MAX_LIMIT
from forebay.query.named import named_resources
from forebay.query.representation import Count, Media
from forebay.resource.spec import ResourceSpec
from lambdas.read.database import ReadDatabase, Texts
from lambdas.read.sql.limits import RowTooLargeError, limit_problem
from lambdas.read.sql.page import (
    PAGE_MAX_BYTES,
    estimate_query,
    frame,
    page_query,
    place_members,
    rows_query,
)
from lambdas.read.sql.statement import Query

# Lambda refuses an answer above 6 MiB ("Lambda quotas"); some of that is headers and envelope.
_ANSWER_MAX_BYTES = 6 * 1024 * 1024 - 64 * 1024
# A control character, as JSON has it within a string: `\u0001`.
_LONGEST_ESCAPE: Final = 6
# A numeric may be larger than any double, or longer than Python reads.
_NUMBERS_AS_TEXT: Final = json.JSONDecoder(parse_int=str, parse_float=str)

_Fetched = TypeVar("_Fetched")

#: The values of the order's terms in one row, each as text.
Place = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a page is read by: it follows from the request, and from nothing else."""

    spec: ResourceSpec
    query: ListQuery
    media: Media
    count: Count | None
    #: `rows_query` or, where there is none or rows have to be counted, `page_query`.
    statement: Query
    is_row_by_row: bool
    #: `place_members` of a page that is read row by row.
    place: Sequence[str] | None = None
    #: The paths of the other resources that the query names.
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the rows of a list."""

    #: The text in UTF-8, which is never taken apart here.
    body: bytes
    rows: int
    #: Of the first and the last row, from where the pages before and behind go on; None where there
    #: is no such page, or this one has no rows.
    first: Place | None
    last: Place | None
    rows_before: bool
    rows_behind: bool
    #: Rows that match, on whatever page, if that was asked for.
    total: int | None


class _Found(NamedTuple):
    """What a statement says of the page, in the direction in which its rows are looked for."""

    body: bytes
    rows: int
    more: bool
    #: Of the rows at the page's borders, if there may be others beyond them.
    nearest: Place | None
    farthest: Place | None
    total: int | None


def asked_for(spec: ResourceSpec, query: ListQuery, media: Media, count: Count | None) -> Asked:
    """A page, with the cheapest statement that can read it."""
    rows = rows_query(spec, query, media) if count in {None, "planned"} else None
    return Asked(
        spec=spec,
        query=query,
        media=media,
        count=count,
        statement=(rows or page_query(spec, query, media, count)).spelt_out(),
        is_row_by_row=rows is not None,
        place=place_members(query, media),
        others=named_resources(query) - {spec.path},
    )


def read_page(database: ReadDatabase, asked: Asked) -> Page:
    """The page that is asked for, cut where an answer would become too large.

    Raises:
        ProblemError: Postgres can't carry out what was asked, or one row alone is too large.
        psycopg.Error: the database could not answer.
    """
    try:
        found = _found(database, asked)
    except RowTooLargeError:
        measured = page_query(asked.spec, asked.query, asked.media, asked.count, measured=True)
        found = _written_as_one(database, measured, asked.query)
    query = asked.query
    return Page(
        body=found.body,
        rows=found.rows,
        first=found.farthest if query.backward else found.nearest,
        last=found.nearest if query.backward else found.farthest,
        rows_before=found.more if query.backward else _skips_rows(query),
        rows_behind=query.backward or found.more,
        total=_total(database, asked, found),
    )


def _found(database: ReadDatabase, asked: Asked) -> _Found:
    if not asked.is_row_by_row:
        return _written_as_one(database, asked.statement, asked.query)
    found = _row_by_row(database, asked)
    if found is not None:
        return found
    # The table has rows that are not as the declaration says, which this statement takes as well.
    statement = page_query(asked.spec, asked.query, asked.media, asked.count)
    return _written_as_one(database, statement, asked.query)


def _written_as_one(database: ReadDatabase, statement: Query, query: ListQuery) -> _Found:
    text, rows, more, nearest, farthest, size, total = _fetch(database.fetch, statement)[0]
    if size > _ANSWER_MAX_BYTES:
        raise ProblemError(_too_large(size, query))
    return _Found(
        body=text.encode(),
        rows=rows,
        more=more,
        nearest=nearest if _skips_rows(query) else None,
        farthest=farthest if more else None,
        total=total,
    )


def _fetch(fetch: Callable[[Query], _Fetched], statement: Query) -> _Fetched:
    """What the statement gives.

    Raises:
        ProblemError: Postgres can't carry out what was asked, or something is above a limit.
        RowTooLargeError: as `limit_problem`.
        psycopg.Error: the database could not answer.
    """
    try:
        return fetch(statement)
    except psycopg.Error as exc:
        if not is_query_fault(exc):
            raise
        raise (limit_problem(exc) or _refused(exc)) from exc


def _row_by_row(database: ReadDatabase, asked: Asked) -> _Found | None:
    """None if a row has no text, or the rows take more of an answer than a page may."""
    query = asked.query
    found = _fetch(database.fetch_texts, asked.statement)
    rows = min(len(found), query.limit)
    lines = found.column(0, rows)
    if query.backward:
        lines.reverse()
    head, separator, tail = (part.encode() for part in frame(query, asked.media))
    try:
        body = head + separator.join(cast("list[bytes]", lines)) + tail
    except TypeError:  # one is None; to look for it beforehand would take longer
        return None
    if _LONGEST_ESCAPE * len(body) > PAGE_MAX_BYTES and _size(body, rows) > PAGE_MAX_BYTES:
        return None
    more = len(found) > rows
    return _Found(
        body=body,
        rows=rows,
        more=more,
        nearest=_place(found, 0, asked.place) if rows and _skips_rows(query) else None,
        farthest=_place(found, rows - 1, asked.place) if rows and more else None,
        total=None,
    )


def _skips_rows(query: ListQuery) -> bool:
    """Whether there may be rows before the nearest one, in the direction of the search."""
    return query.position is not None or query.offset > 0


def _place(found: Texts, row: int, members: Sequence[str] | None) -> Place:
    if members is None:
        return found.row(row, 1)
    shown = _NUMBERS_AS_TEXT.decode((found.value(row, 0) or b"").decode())
    return [None if shown[name] is None else str(shown[name]) for name in members]


def _size(body: bytes, rows: int) -> int:
    """At least what `page_query` counts: each row as a JSON string, with its quotes."""
    return len(orjson.dumps(body.decode())) + rows * len('""')


def _total(database: ReadDatabase, asked: Asked, found: _Found) -> int | None:
    total = found.total
    if asked.count == "planned" or (asked.count == "estimated" and (total or 0) > MAX_LIMIT):
        # Rows that are there outdo an estimate that says they are not.
        seen = asked.query.offset + found.rows + found.more if found.rows else 0
        return max(total or 0, _estimate(database, asked.spec, asked.query), seen)
    return total


def _estimate(database: ReadDatabase, spec: ResourceSpec, query: ListQuery) -> int:
    """As many rows as Postgres's planner expects."""
    plan = database.fetch(estimate_query(spec, query))[0][0]
    return int(plan[0]["Plan"]["Plan Rows"])


def _refused(error: psycopg.Error) -> ProblemError:
    return ProblemError(
        Problem(
            "PGRST100",
            "Postgres can't carry out what the parameters ask for",
            details=fault_detail(error),
            hint=error.diag.message_hint,
        )
    )


def _too_large(size: int, query: ListQuery) -> Problem:
    related = [shown(member.name) for member in relations_in(query.select)]
    what = f"one row, with its {listed(related)}," if related else "one row"
    return Problem(
        "answer_too_large",
        f"{what} takes {size:,} bytes of an answer, {_ANSWER_MAX_BYTES:,} is most",
        hint="select fewer columns, or limit the related rows inside it",
    )
