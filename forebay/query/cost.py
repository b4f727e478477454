"""Bounds on the cost of a list query for the database.

Each bound covers the whole syntax tree, nested relations included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forebay.problem import Problem, ProblemError
from forebay.query.ast import Embedded, Filter, Group, ListQuery, Selected
from forebay.query.faults import shown
from forebay.query.regex import check_regex

#: Per request, all levels together. Postgres sorts each relation with up to `work_mem`.
MAX_RELATIONS: Final = 10
#: Characters in a pattern of `like` or `ilike`. Postgres compares it at each position of a value.
MAX_PATTERN_LENGTH: Final = 1_000
#: Characters in a text search.
MAX_SEARCH_LENGTH: Final = 1_000
#: Patterns, regular expressions and text searches; each value of `like(any)` counts.
MAX_SEARCHES: Final = 50

_PATTERNS: Final = frozenset({"like", "ilike"})
_REGEXES: Final = frozenset({"match", "imatch"})
_TEXT_SEARCHES: Final = frozenset({"fts", "plfts", "phfts", "wfts"})


def check_cost(query: ListQuery) -> None:
    """Check a query against the bounds.

    Raises:
        ProblemError: too_costly, a bound is exceeded; the detail names the part of the query, the
            bound, and an alternative.
    """
    _check_relations(query)
    _check_searches([query.where, *(embedded.where for embedded in find_relations(query.select))])


def find_relations(members: Sequence[Selected | Embedded]) -> Iterator[Embedded]:
    """Iterate over the embedded relations of all levels, in the order of the request."""
    for member in members:
        if isinstance(member, Embedded):
            yield member
            yield from find_relations(member.members)


def _check_relations(query: ListQuery) -> None:
    embedded = [member.name for member in find_relations(query.select)]
    if len(embedded) > MAX_RELATIONS:
        raise build_cost_error(
            f"select: embeds {len(embedded)} relations, but the maximum is {MAX_RELATIONS}; "
            f"{shown(embedded[MAX_RELATIONS])} exceeds it",
            "Request the other relations separately.",
        )


def _check_searches(groups: Sequence[Group]) -> None:
    count = 0
    for filter_ in (member for group in groups for member in _walk_filters(group)):
        if filter_.operator in _PATTERNS | _REGEXES | _TEXT_SEARCHES:
            values = (filter_.value,) if isinstance(filter_.value, str) else filter_.value
            count += len(values)
            for value in values:
                _check_search(filter_, value)
    if count > MAX_SEARCHES:
        raise build_cost_error(
            f"filters: contain {count} patterns, regular expressions and text searches, but the "
            f"maximum is {MAX_SEARCHES}",
            "Use several requests, or compare with eq and in.",
        )


def _check_search(filter_: Filter, value: str) -> None:
    name, operator = filter_.operand.column.name, filter_.operator
    if operator in _REGEXES:
        try:
            check_regex(value)
        except ValueError as exc:
            raise build_cost_error(
                f"{name}: {operator} accepts only regular expressions that match without "
                f"backtracking, and {shown(value)} {exc}",
                "Use like, ilike or several simpler conditions.",
            ) from None
        return
    limit = MAX_PATTERN_LENGTH if operator in _PATTERNS else MAX_SEARCH_LENGTH
    if len(value) > limit:
        raise build_cost_error(
            f"{name}: {operator} accepts at most {limit:,} characters, and {shown(value)} has "
            f"{len(value):,}",
            "Shorten it, or compare with eq.",
        )


def _walk_filters(group: Group) -> Iterator[Filter]:
    for member in group.members:
        if isinstance(member, Group):
            yield from _walk_filters(member)
        elif isinstance(member, Filter):
            yield member


def build_cost_error(detail: str, hint: str) -> ProblemError:
    """Create the problem `too_costly`."""
    return ProblemError(Problem("too_costly", detail, hint=hint))
