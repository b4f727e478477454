"""Cursors: bound to their query, and refused for any other query or if they are changed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.query.ast import ListQuery, Position
from forebay.query.cursor import MAX_CURSOR_LENGTH, make_cursor
from forebay.query.representation import RowRange
from tests.fixtures.queries import parsed, refused

QUERY = {"pages": "gte.5", "order": "title.desc,changed_at"}
VALUES = ["A \u00e4", None, "7"]


def cursor_of(query: ListQuery, *, backward: bool = False) -> str:
    cursor = make_cursor(query.fingerprint, VALUES, backward=backward)
    assert cursor is not None
    return cursor


CURSOR = cursor_of(parsed(QUERY))


def test_a_cursor_goes_on_from_its_row_in_its_direction() -> None:
    for backward in (False, True):
        cursor = cursor_of(parsed(QUERY), backward=backward)
        position = parsed({**QUERY, "cursor": cursor}).position
        assert position == Position(tuple(VALUES), backward=backward)


@pytest.mark.parametrize(
    "also", [{"limit": "5"}, {"select": "title"}, {"select": "*,author(name)"}]
)
def test_page_size_and_selection_may_change_from_page_to_page(also: dict[str, str]) -> None:
    assert parsed({**QUERY, **also, "cursor": CURSOR}).position is not None


@pytest.mark.parametrize(
    "other",
    [
        {"pages": "gte.6", "order": QUERY["order"]},
        {"pages": "gt.5", "order": QUERY["order"]},
        {"pages": "not.gte.5", "order": QUERY["order"]},
        {"weight": "gte.5", "order": QUERY["order"]},
        {"and": "(pages.gte.5)", "order": QUERY["order"]},
        {**QUERY, "title": "eq.x"},
        {**QUERY, "order": "title,changed_at"},
        {**QUERY, "order": "title.desc,changed_at.nullsfirst"},
        {**QUERY, "order": "changed_at,title.desc"},
        {**QUERY, "order": "title.desc"},
        {**QUERY, "order": "extra->a.desc,changed_at"},
        {**QUERY, "select": "title,author!inner(name)"},
        {},
    ],
)
def test_a_cursor_of_another_query_is_refused(other: dict[str, str]) -> None:
    assert refused({**other, "cursor": CURSOR}).code == "bad_cursor"


def test_the_filters_of_an_inner_relation_belong_to_the_query() -> None:
    query = {"select": "title,author!inner(name)", "author.name": "eq.x"}
    cursor = make_cursor(parsed(query).fingerprint, ["7"])
    assert cursor is not None
    assert parsed({**query, "cursor": cursor}).position == Position(("7",))
    assert refused({**query, "author.name": "eq.y", "cursor": cursor}).code == "bad_cursor"
    outer = {**query, "select": "title,author(name)"}
    assert parsed(outer).fingerprint == parsed({"select": "title"}).fingerprint


@pytest.mark.parametrize("name", ["books.limit", "books.offset"])
def test_so_does_which_of_its_rows_count(name: str) -> None:
    """An inner relation excludes a row if all related rows are outside the limit."""
    query = {"select": "name,books!author_code!inner(title)"}
    other = parsed({**query, name: "7"}, "authors")
    assert other.fingerprint != parsed(query, "authors").fingerprint


def test_a_cursor_of_another_resource_is_refused() -> None:
    cursor = make_cursor(parsed({}, "authors").fingerprint, ["7"])
    assert cursor is not None
    assert parsed({"cursor": cursor}, "authors").position is not None
    assert refused({"cursor": cursor}).code == "bad_cursor"


@example(len(CURSOR) - 1, chr(ord(CURSOR[-1]) + 1))  # a bit that base64 leaves unused
@given(st.integers(min_value=0), st.characters(codec="utf-8"))
def test_a_damaged_cursor_is_refused(place: int, other: str) -> None:
    at = place % len(CURSOR)
    damaged = CURSOR[:at] + other + CURSOR[at + 1 :]
    if damaged == CURSOR:
        return
    assert refused({**QUERY, "cursor": damaged}).code in {"bad_cursor", "PGRST100"}


@given(st.integers(min_value=0, max_value=len(CURSOR) - 1))
def test_a_cut_cursor_is_refused(length: int) -> None:
    assert refused({**QUERY, "cursor": CURSOR[:length]}).code == "bad_cursor"


@pytest.mark.parametrize("content", ["", "x", "null", "[]", '[2,"a",0,[]]', "[" * 3000, "{}"])
def test_a_forged_cursor_is_refused(content: str) -> None:
    import hashlib  # noqa: PLC0415 - only here

    raw = content.encode()
    forged = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:8] + raw).decode().rstrip("=")
    assert refused({"cursor": forged}).code == "bad_cursor"


@pytest.mark.parametrize("values", [["x"], ["5\x00"], ["1", "2"], []])
def test_values_that_are_none_of_the_order_s_columns_are_refused(values: list[str]) -> None:
    cursor = make_cursor(parsed({}).fingerprint, values)
    assert cursor is not None
    assert refused({"cursor": cursor}).code == "bad_cursor"


def test_text_that_postgres_cannot_hold_is_refused_in_a_cursor_too() -> None:
    cursor = make_cursor(parsed({"order": "title"}).fingerprint, ["a\x00", "5"])
    assert cursor is not None
    assert refused({"order": "title", "cursor": cursor}).code == "bad_cursor"


def test_values_too_long_for_an_address_make_no_cursor() -> None:
    assert make_cursor("f", ["x" * MAX_CURSOR_LENGTH]) is None


def test_a_cursor_and_an_offset_are_refused_together() -> None:
    assert refused({**QUERY, "cursor": CURSOR, "offset": "5"}).code == "bad_cursor"
    assert refused({**QUERY, "cursor": CURSOR}, rows=RowRange(5, 9)).code == "bad_cursor"
    assert parsed({**QUERY, "cursor": CURSOR, "offset": "0"}, rows=RowRange(0, 9)).limit == 10
