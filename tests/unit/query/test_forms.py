"""A query that is sent as a form: free names, and texts longer than a URL allows."""

from __future__ import annotations

import time

import pytest

from forebay.problem import ProblemError
from forebay.query.ast import Embedded
from forebay.query.grammar import MAX_FORM_BYTES
from forebay.query.parse import parse_list
from tests.fixtures.queries import RELATIONS, RESOURCES, spelled

NONSENSE = {
    "quotes": '"',
    "escapes": '"\\',
    "brackets": "(",
    "commas": "a,",
    "arrows": "a->",
    "dots": "author.",
    "groups": "and(",
    "closed": '","',
    "orders": "author(",
    "settings": "author.order.(",
}


def refused(query: dict[str, str]) -> str:
    with pytest.raises(ProblemError) as caught:
        parse_list(RESOURCES["books"], RELATIONS["books"], query, is_form=True)
    return caught.value.problem.code


@pytest.mark.parametrize("piece", NONSENSE)
@pytest.mark.parametrize("name", ["order", "select", "and", "not.or", "title->a", "author.and"])
def test_long_nonsense_is_refused_in_time(name: str, piece: str) -> None:
    """The parser reads each character a small, bounded number of times."""
    for head in ("", "(", "(author.order."):
        text = head + NONSENSE[piece] * ((MAX_FORM_BYTES - 20) // len(NONSENSE[piece]))
        started = time.process_time()
        refused({"select": "*,author(*)", name: text})
        assert time.process_time() - started < 2


@pytest.mark.parametrize("operator", ["fts", "plfts", "match", "like", "eq", "isdistinct"])
def test_a_single_value_of_a_form_has_the_limit_of_a_url(operator: str) -> None:
    assert refused({"title": f"{operator}.{'x' * 10_001}"}) == "PGRST100"
    assert refused({"and": f"(title.{operator}.{'x' * 10_001})"}) == "PGRST100"


def test_names_of_aliases_and_places_are_free() -> None:
    query = parse_list(
        RESOURCES["books"],
        RELATIONS["books"],
        {
            "select": "title,w:author(name,m:mentor(code))",
            "extra->a->>b": "eq.c",
            "w.m.code": "in.(x,y)",
            "w.or": "(name.eq.a,code.eq.b)",
            "w": "not.is.null",
        },
        is_form=True,
    )
    writer = next(member for member in query.select if isinstance(member, Embedded))
    (mentor,) = [member for member in writer.members if isinstance(member, Embedded)]
    assert spelled(mentor.where) == "and[code in ('x', 'y')]"
    assert spelled(writer.where) == "and[or[name eq 'a', code eq 'b']]"
    assert "extra->'a'->'b' text eq 'c'" in [
        spelled(condition) for condition in query.where.members
    ]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"nosuch": "eq.1"}, "unknown_parameter"),
        ({"author": "is.null"}, "PGRST108"),
        ({"w.name": "eq.x"}, "PGRST108"),
        ({"select": "w:author(name)", "w.nosuch": "eq.1"}, "unknown_parameter"),
        ({"select": "w:author(name)", "w.mentor.name": "eq.1"}, "PGRST108"),
        ({"select": "w:author(name)", "w.limit": "1"}, "PGRST100"),
        ({"w": "is.null", "select": "w:author(name)", "w.": "eq.1"}, "bad_filter"),
        ({"": "eq.1"}, "unknown_parameter"),
        ({".": "eq.1"}, "PGRST108"),
        ({"title->": "eq.1"}, "PGRST100"),
        ({'"title': "eq.1"}, "PGRST100"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(query: dict[str, str], code: str) -> None:
    assert refused(query) == code
