"""Limits for the size of one item, which the statement itself enforces.

Related rows and repeated columns make an item larger than any row of a table. A check of the
finished text is too late: the server's process has built it already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from forebay.problem import Problem, ProblemError
from forebay.query.ast import Embedded, ListQuery, Selected
from forebay.query.cost import build_cost_error, find_relations
from forebay.query.faults import shown
from forebay.resource.spec import FieldSpec, Kind
from lambdas.read.sql.bounds import column_bound, members_bound

_MIB: Final = 1024 * 1024
#: For all related rows inside one item; each relation has an equal share.
RELATED_MAX_BYTES: Final = 12 * _MIB
#: For the related rows of a relation, even if it is alone: no page's item can be larger.
RELATION_MAX_BYTES: Final = 6 * _MIB
#: For an item's own members where columns are repeated under many names.
REPEATED_MAX_BYTES: Final = 16 * _MIB
#: Repetitions of large columns that need not be measured: an item is a line of the archive, which
#: has less than 1 MiB, and so has each of its columns.
REPEATS: Final = REPEATED_MAX_BYTES // _MIB
_LARGE: Final = 64 * 1024  # bytes that a column's declaration allows

# Postgres has no function that raises an error. A cast of an invalid text to boolean fails, and
# the message repeats the text.
_MARK: Final = "forebay limit"
_MARKED: Final = re.compile(rf'"{_MARK} (row|relation|columns) ([0-9]+) (.*)"', re.DOTALL)
_RAISE: Final[LiteralString] = "({mark} || substr({measured}::text, 1, 0))::boolean"


class RowTooLargeError(Exception):
    """A related row exceeds its share of the limit; only a measured statement can decide."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one statement."""

    relation_bytes: int = RELATION_MAX_BYTES
    #: For the members of one level; None if columns are not repeated often.
    repeated_bytes: int | None = None
    #: Add up the sizes of related rows. It takes half as long again as the comparison of each row
    #: with its share, so that comparison is tried first.
    measured: bool = False

    @classmethod
    def of(cls, query: ListQuery, *, measured: bool = False) -> Limits:
        """The limits of a query's statement."""
        embedded = list(find_relations(query.select))
        levels = [query.select, *(relation.members for relation in embedded)]
        repeats = sum(count - 1 for level in levels for count in _count_large(level).values())
        to_many = sum(1 for relation in embedded if relation.relation.many)
        return cls(
            relation_bytes=min(RELATION_MAX_BYTES, RELATED_MAX_BYTES // max(1, to_many)),
            repeated_bytes=REPEATED_MAX_BYTES // len(levels) if repeats > REPEATS else None,
            measured=measured,
        )

    def within(self, embedded: Embedded) -> int | None:
        """The size up to which a related row is accepted; None if the rows need no measuring."""
        bound = members_bound(embedded.members)
        if bound is not None and bound * embedded.limit <= self.relation_bytes:
            return None
        return 2 * self.relation_bytes // max(1, embedded.limit)


def format_mark(kind: LiteralString, bytes_: int, name: str) -> str:
    """The text by which an error of Postgres identifies a limit."""
    return f"{_MARK} {kind} {bytes_} {name}"


def build_failure(mark: sql.Composable, measured: sql.Composable) -> sql.Composable:
    """An expression of type boolean that fails when it is evaluated, never before.

    Args:
        mark: the text of `format_mark`, bound.
        measured: an expression that depends on the row, so that the planner can't evaluate it.
    """
    return sql.SQL(_RAISE).format(mark=mark, measured=measured)


def find_repeated(
    members: Sequence[Selected | Embedded],
) -> Iterator[tuple[FieldSpec, int]]:
    """The large columns among the members, and how often each occurs."""
    columns = {
        member.operand.column.name: member.operand.column
        for member in members
        if isinstance(member, Selected)
    }
    for name, count in _count_large(members).items():
        yield columns[name], count


def find_limit_problem(error: psycopg.Error) -> ProblemError | None:
    """The problem for an error that a limit raised; None for other errors.

    Raises:
        RowTooLargeError: the query has to be repeated with a measured statement.
    """
    match = _MARKED.search(error.diag.message_primary or "")
    if match is None:
        return None
    kind, bytes_, name = match[1], int(match[2]), match[3]
    if kind == "row":
        raise RowTooLargeError(name)
    if kind == "columns":
        return build_cost_error(
            f"select: {name} is repeated so often that one item takes more than "
            f"{bytes_:,} bytes, which is most",
            "Select a large column once.",
        )
    return ProblemError(
        Problem(
            "answer_too_large",
            f"select: the related rows of {shown(name)} inside one item take more than "
            f"{bytes_:,} bytes, which is most",
            hint=f"Ask for fewer by {name}.limit, for fewer columns of them, or for them by a "
            "list of their own.",
        )
    )


def _count_large(members: Sequence[Selected | Embedded]) -> Counter[str]:
    return Counter(
        member.operand.column.name
        for member in members
        if isinstance(member, Selected) and _is_large(member.operand.column)
    )


def _is_large(column: FieldSpec) -> bool:
    bound = column_bound(column)
    return column.kind is Kind.JSON or bound is None or bound > _LARGE
