"""Bounds on the cost of one list: the refused and the accepted queries."""

from __future__ import annotations

import pytest

from forebay.query.cost import (
    MAX_PATTERN_LENGTH,
    MAX_RELATIONS,
    MAX_SEARCH_LENGTH,
    MAX_SEARCHES,
)
from forebay.query.regex import MAX_REGEX_LENGTH, check_regex
from tests.fixtures.queries import parsed, refused

#: Expressions as they occur in practice.
ORDINARY = [
    "^San .*$",
    "^[A-Z][a-z]+( [A-Z][a-z]+){0,5}$",
    r"^\d{3}-\d{4}$",
    r"[[:alpha:]_]{2,60}@[^]x]+\.(com|org)",
    "(?i)abc",
    "a{0,255}",
    r"\y(saint|st\.?)\y.*-?.*",
    ".*foo.*bar.*",
    r"[\1]",
    "(a|b)*a(a|b){200}c",
    "([^,]*,){10}x",
    "",
    "^(a+)+$",
    # Postgres refuses the remaining expressions.
    "[a",
    "(",
    ")))",
    "\\",
    "*",
]
#: Each expression took Postgres 18 seconds for a short value, or tens of MiB.
COSTLY = {
    r"(a)\1": "back reference",
    r"^(?:(.+)x)\1$": "back reference",
    "^(?!Foo)": "lookaround",
    "(?=.*a)(?=.*b).*": "lookaround",
    "(?<=a)b": "lookaround",
    "(a?){255}a{255}": "atoms",
    "a?" * 100: "atoms",
    "((((((((((x?){2}){2}){2}){2}){2}){2}){2}){2}){2}){2}": "atoms",
    "(?:(?:a*){100}){10}b": "atoms",
    "(a{1,255}){1,255}": "atoms",
    "***:(a)": "syntax",
    "***=(a)": "syntax",
    r"(?b)\(a\)\{9\}": "syntax",
    "(?x)a # b": "syntax",
    "(?i)(?#c)a": "syntax",
    "(" * 60 + ")" * 60: "deep",
    "a" * (MAX_REGEX_LENGTH + 1): "characters",
}


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_regular_expression_is_taken(text: str) -> None:
    check_regex(text)


@pytest.mark.parametrize(("text", "why"), COSTLY.items())
@pytest.mark.parametrize("operator", ["match", "not.imatch", "match(any)"])
def test_a_costly_regular_expression_is_refused_with_the_reason(
    text: str, why: str, operator: str
) -> None:
    quoted = '{"' + text.replace("\\", "\\\\") + '"}' if "any" in operator else text
    problem = refused({"title": f"{operator}.{quoted}"})
    assert problem.code == "too_costly"
    assert problem.status == 400
    assert why in problem.detail
    assert "title" in problem.detail


@pytest.mark.parametrize(
    ("query", "mentions"),
    [
        (
            {"select": ",".join(f"a{n}:author(name)" for n in range(MAX_RELATIONS + 1))},
            f"'a{MAX_RELATIONS}'",
        ),
        ({"title": "like." + "%a" * MAX_PATTERN_LENGTH}, f"{MAX_PATTERN_LENGTH:,}"),
        ({"title": "not.ilike(all).{a,b" + "c" * MAX_PATTERN_LENGTH + "}"}, "title"),
        ({"title": "plfts." + "a " * MAX_SEARCH_LENGTH}, f"{MAX_SEARCH_LENGTH:,}"),
        ({"title": "like(any).{" + ",".join("ab" * (MAX_SEARCHES + 1)) + "}"}, "maximum is 50"),
        (
            {"and": "(" + ",".join("title.fts.a" for _ in range(MAX_SEARCHES + 1)) + ")"},
            "maximum is 50",
        ),
        (
            {"select": "isbn,author!inner()", "author.name": r"match.(a)\1"},
            "name",
        ),
        ({"or": r"(isbn.eq.1,and(title.match.\"(a)\\1\"))".replace(r"\"", '"')}, "title"),
    ],
)
def test_an_exceeded_bound_is_named(query: dict[str, str], mentions: str) -> None:
    problem = refused(query)
    assert problem.code == "too_costly"
    assert mentions in problem.detail
    assert problem.hint


def test_queries_within_the_bounds_are_accepted() -> None:
    parsed({"select": ",".join(f"a{n}:author(name)" for n in range(MAX_RELATIONS))})
    parsed({"title": "like." + "a" * MAX_PATTERN_LENGTH})
    parsed({"title": "eq." + "a" * 9_000})
    parsed({"title": "in.(" + ",".join(f"a{n}" for n in range(1_500)) + ")"})
