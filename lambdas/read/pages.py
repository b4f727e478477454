"""Reads one page of a list: one statement, or two where the total is to be estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from forebay.db.faults import fault_detail, is_query_fault
from forebay.problem import Problem, ProblemError
from forebay.query.ast import ListQuery
from forebay.query.grammar import MAX_LIMIT
from forebay.query.representation import Count
from forebay.resource.spec import ResourceSpec
from lambdas.read.database import ReadDatabase
from lambdas.read.sql.page import estimate_query
from lambdas.read.sql.statement import Query

# Lambda refuses an answer above 6 MiB ("Lambda quotas"); some of that is headers and envelope.
_ANSWER_MAX_BYTES = 6 * 1024 * 1024 - 64 * 1024

#: The values of the order's terms in one row, each as text.
Place = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the rows of a list."""

    #: The body: made by Postgres as a whole, never taken apart here.
    text: str
    rows: int
    #: Of the first and the last row, in the order that was asked for; None of an empty page.
    first: Place | None
    last: Place | None
    rows_before: bool
    rows_behind: bool
    #: Rows that match, on whatever page, if that was asked for.
    total: int | None


def read_page(
    database: ReadDatabase,
    spec: ResourceSpec,
    query: ListQuery,
    statement: Query,
    count: Count | None,
) -> Page:
    """The page that the query asks for, cut where an answer would become too large.

    Args:
        database: to be asked.
        spec: of the resource.
        query: what is asked for.
        statement: `page_query` of it.
        count: as in that.

    Raises:
        ProblemError: Postgres can't carry out what was asked, or one row alone is too large.
        psycopg.Error: the database could not answer.
    """
    try:
        row = database.fetch(statement)[0]
    except psycopg.Error as exc:
        if not is_query_fault(exc):
            raise
        raise _refused(exc) from exc
    text, rows, more, nearest, farthest, size, total = row
    if size > _ANSWER_MAX_BYTES:
        raise ProblemError(_too_large(size))
    if count == "planned" or (count == "estimated" and total > MAX_LIMIT):
        # Rows that are there outdo an estimate that says they are not.
        seen = query.offset + rows + more if rows else 0
        total = max(total or 0, _estimate(database, spec, query), seen)
    backward = query.position is not None and query.position.backward
    came_from_elsewhere = query.position is not None or query.offset > 0
    return Page(
        text=text,
        rows=rows,
        first=farthest if backward else nearest,
        last=nearest if backward else farthest,
        rows_before=more if backward else came_from_elsewhere,
        rows_behind=backward or more,
        total=total,
    )


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


def _too_large(size: int) -> Problem:
    return Problem(
        "answer_too_large",
        f"one row takes {size:,} bytes of an answer, {_ANSWER_MAX_BYTES:,} is most",
        hint="select fewer columns, or limit the related rows inside it",
    )
