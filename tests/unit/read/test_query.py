"""The grammar of lists: what it means, and what it refuses by name."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resources
from forebay.problem import ProblemError
from forebay.query.ast import Compare, Is, OneOf
from forebay.query.cursor import make_cursor
from forebay.query.parse import parse_list

CITIES = resources.load()["cities"]
NEWS = resources.load()["announcements"]


def refused(query: dict[str, str], path: str = "cities") -> tuple[str, str]:
    with pytest.raises(ProblemError) as caught:
        parse_list(resources.load()[path], query)
    return caught.value.problem.code, caught.value.problem.detail


def test_operators_are_postgrests() -> None:
    query = parse_list(
        CITIES, {"population": "gte.1000", "country_code": "in.(DE,FR)", "name": 'eq.a,b "c"'}
    )
    found = {condition.column.name: condition for condition in query.conditions}
    assert found["population"] == Compare(CITIES.column("population"), "gte", "1000")  # type: ignore[arg-type]
    assert found["country_code"] == OneOf(CITIES.column("country_code"), ("DE", "FR"))  # type: ignore[arg-type]
    assert found["name"] == Compare(CITIES.column("name"), "eq", 'a,b "c"')  # type: ignore[arg-type]


def test_and_takes_a_column_twice_and_quoted_values() -> None:
    query = parse_list(
        CITIES, {"and": r'(population.gte.5,population.lt.9,name.in.("a,b","c\"d"),name.eq."x")'}
    )
    assert [
        condition.values if isinstance(condition, OneOf) else condition.value  # type: ignore[union-attr]
        for condition in query.conditions
    ] == ["5", "9", ("a,b", 'c"d'), "x"]


def test_is_asks_for_null_and_truth() -> None:
    query = parse_list(NEWS, {"pinned": "is.true", "expires_at": "is.null"})
    assert {(c.column.name, c.state) for c in query.conditions if isinstance(c, Is)} == {
        ("pinned", "true"),
        ("expires_at", "null"),
    }


def test_an_order_ends_with_the_key() -> None:
    query = parse_list(CITIES, {"order": "population.desc,name"})
    assert [(term.column.name, term.descending) for term in query.order] == [
        ("population", True),
        ("name", False),
        ("geonameid", False),
    ]
    assert len(parse_list(CITIES, {"order": "geonameid.desc"}).order) == 1


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ({"population": "5"}, "bad_filter", "population"),
        ({"population": "like.5"}, "bad_filter", "eq, neq, gt"),
        ({"population": "gte.many"}, "bad_filter", "many"),
        ({"population": "gte.9223372036854775808"}, "bad_filter", "population"),
        ({"population": "in.5"}, "bad_filter", "parentheses"),
        ({"population": "is.true"}, "bad_filter", "boolean"),
        ({"latitude": "eq.nan"}, "bad_filter", "latitude"),
        ({"latitude": "eq.1e999"}, "bad_filter", "latitude"),
        ({"name": "eq.a\x00"}, "bad_filter", "NUL"),
        ({"name": "eq.\ud800"}, "bad_filter", "name"),
        ({"and": "population.gte.5"}, "bad_filter", "parentheses"),
        ({"and": "(mayor.eq.5)"}, "bad_filter", "mayor"),
        ({"and": "(population)"}, "bad_filter", "population"),
        ({"and": f"({','.join(['population.gte.5'] * 51)})"}, "bad_filter", "51"),
        ({"order": "mayor"}, "bad_order", "mayor"),
        ({"order": "name.up"}, "bad_order", "name.up"),
        ({"order": "name,name.desc"}, "bad_order", "twice"),
        ({"limit": "1001"}, "bad_limit", "1000"),
        ({"limit": "-1"}, "bad_limit", "-1"),
        ({"limit": "ten"}, "bad_limit", "ten"),
        ({"limit": "9" * 5000}, "bad_limit", "1000"),
        ({"limit": "\u0661"}, "bad_limit", "limit"),
        ({"cursor": "x"}, "bad_cursor", "Link"),
        ({"cursor": ""}, "bad_cursor", "Link"),
        ({"cursor": "x" * 5000}, "bad_cursor", "long"),
        ({"cursor": "\u00e4"}, "bad_cursor", "Link"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(
    query: dict[str, str], code: str, named: str
) -> None:
    found, detail = refused(query)
    assert found == code
    assert named in detail


def test_a_json_column_takes_no_filter_and_no_order() -> None:
    assert refused({"tags": "eq.a"}, "announcements")[0] == "bad_filter"
    assert refused({"order": "tags"}, "announcements")[0] == "bad_order"


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{}", "null", "1", '"abc"', "[1,2]", '[1,"x",[],1]', '[1,"x",{}]', '[1,"x",[1]]',
        '[1,"x",[[]]]', '[1,"x",[true]]',
    ],
)  # fmt: skip
def test_a_forged_cursor_is_refused_in_our_words(content: str) -> None:
    cursor = base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()
    code, detail = refused({"cursor": cursor})
    assert code == "bad_cursor"
    assert detail.endswith("filters: it is none")


def test_an_order_whose_values_fit_no_cursor_is_refused_rather_than_losing_rows() -> None:
    with pytest.raises(ProblemError, match="order by shorter fields") as caught:
        make_cursor("0" * 16, ["\u6771" * 1020])
    assert caught.value.problem.code == "bad_order"


@pytest.mark.parametrize(
    "other",
    [{"order": "name"}, {"population": "gte.6"}, {"population": "gt.5"}, {"name": "eq.5"}, {}],
)
def test_a_cursor_of_another_query_is_refused(other: dict[str, str]) -> None:
    query = parse_list(CITIES, {"population": "gte.5"})
    cursor = make_cursor(query.fingerprint, ["7"])
    assert parse_list(CITIES, {"population": "gte.5", "cursor": cursor}).after == ("7",)
    assert refused({**other, "cursor": cursor})[0] == "bad_cursor"


def test_the_page_size_may_change_from_page_to_page() -> None:
    cursor = make_cursor(parse_list(CITIES, {"limit": "5"}).fingerprint, ["7"])
    assert parse_list(CITIES, {"limit": "6", "cursor": cursor}).after == ("7",)


@given(st.dictionaries(st.sampled_from(["and", "order", "limit", "cursor", "name"]), st.text()))
def test_no_text_does_worse_than_a_problem(query: dict[str, str]) -> None:
    try:
        parsed = parse_list(CITIES, query)
    except ProblemError:
        return
    assert parsed.order[-1].column is CITIES.key
