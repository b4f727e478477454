"""`order=`, `limit=`, `offset=` and `Range`."""

from __future__ import annotations

import pytest

from forebay.query.grammar import DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET, MAX_ORDER_TERMS
from forebay.query.representation import RowRange
from tests.fixtures.queries import parsed, refused


def order(text: str) -> list[str]:
    """Return the terms in a normalised spelling."""
    return [
        term.operand.column.name
        + "".join(f"->{step!r}" for step in term.operand.path)
        + (" desc" if term.descending else "")
        + (" nulls first" if term.nulls_first else "")
        for term in parsed({"order": text}).order
    ]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("title", ["title", "isbn"]),
        ("title.asc,pages.desc", ["title", "pages desc nulls first", "isbn"]),
        ("title.desc.nullslast", ["title desc", "isbn"]),
        ("title.nullsfirst", ["title nulls first", "isbn"]),
        (" title.asc.nullslast , pages ", ["title", "pages", "isbn"]),
        ("isbn.desc", ["isbn desc nulls first"]),
        ("title,isbn,pages", ["title", "isbn"]),
        ("extra->>a.desc,tags->0", ["extra->'a' desc nulls first", "tags->0", "isbn"]),
    ],
)
def test_an_order_is_postgrests_and_ends_with_the_key(text: str, terms: list[str]) -> None:
    assert order(text) == terms


def test_without_an_order_rows_come_by_key() -> None:
    (term,) = parsed({}).order
    assert (term.operand.column.name, term.descending) == ("isbn", False)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", "PGRST100", "a name"),
        ("mayor", "bad_order", "isbn, title"),
        ("title.up", "PGRST100", ".asc"),
        ("title.ascending", "PGRST100", ".asc"),
        ("title.nullslast.desc", "PGRST100", "a comma"),
        ("title,title.desc", "bad_order", "twice"),
        ("tags", "bad_order", "JSON list"),
        ("author(name)", "PGRST108", "'author' is not embedded"),
        (",".join(f"extra->a{n}" for n in range(MAX_ORDER_TERMS + 1)), "bad_order", "8"),
    ],
)
def test_fields_without_an_order_are_refused_by_name(text: str, code: str, named: str) -> None:
    problem = refused({"order": text})
    assert problem.code == code
    assert named in problem.detail


@pytest.mark.parametrize(
    ("limit", "offset", "rows", "window"),
    [
        (None, None, None, (DEFAULT_LIMIT, 0)),
        ("5", None, None, (5, 0)),
        ("5", "20", None, (5, 20)),
        (None, "20", None, (DEFAULT_LIMIT, 20)),
        ("0", None, None, (0, 0)),
        ("0", None, RowRange(5, 9), (0, 0)),
        ("10001", None, None, (MAX_LIMIT, 0)),
        ("9" * 5000, "9" * 5000, None, (MAX_LIMIT, MAX_OFFSET)),
        ("007", None, None, (7, 0)),
        (None, None, RowRange(10, 19), (10, 10)),
        (None, None, RowRange(10), (MAX_LIMIT, 10)),
        (None, None, RowRange(0, MAX_LIMIT), (MAX_LIMIT, 0)),
        # Both count from the first row of the table, so the result is their intersection.
        ("15", None, RowRange(10, 19), (5, 10)),
        ("100", "12", RowRange(10, 19), (8, 12)),
        ("3", "12", RowRange(10, 19), (3, 12)),
        (None, "12", RowRange(10), (MAX_LIMIT, 12)),
    ],
)
def test_limit_offset_and_range_share_rows(
    limit: str | None, offset: str | None, rows: RowRange | None, window: tuple[int, int]
) -> None:
    given = {"limit": limit, "offset": offset}
    query = parsed({name: text for name, text in given.items() if text is not None}, rows=rows)
    assert (query.limit, query.offset) == window


@pytest.mark.parametrize(
    ("query", "rows", "code"),
    [
        ({"limit": "-1"}, None, "PGRST103"),
        ({}, RowRange(9, 5), "PGRST103"),
        ({"limit": "5"}, RowRange(5, 9), "PGRST103"),
        ({"limit": "ten"}, None, "PGRST100"),
        ({"limit": ""}, None, "PGRST100"),
        ({"limit": "+5"}, None, "PGRST100"),
        ({"limit": "\u0661"}, None, "PGRST100"),
        ({"offset": "-1"}, None, "PGRST100"),
        ({"offset": "1e3"}, None, "PGRST100"),
    ],
)
def test_a_range_without_rows_is_refused(
    query: dict[str, str], rows: RowRange | None, code: str
) -> None:
    assert refused(query, rows=rows).code == code


def test_the_limits_of_one_row_are_refused() -> None:
    """A relation to a single row declares no limits, so a cache never sees them."""
    from forebay.query.grammar import list_parameters  # noqa: PLC0415 - only here
    from tests.fixtures.queries import RELATIONS, RESOURCES  # noqa: PLC0415

    names = list_parameters(RESOURCES["books"], RELATIONS["books"])
    assert "author.name" in names
    assert "author.not.or" in names
    assert "author.limit" not in names
    assert "books.limit" in list_parameters(RESOURCES["authors"], RELATIONS["authors"])
    assert len(names) == len(set(names))
