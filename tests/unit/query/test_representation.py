"""Accept, Prefer and Range: the headers that choose the form of a list."""

from __future__ import annotations

import pytest

from forebay.problem import ProblemError
from forebay.query.representation import Media, Representation, RowRange, parse_representation


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, Media.JSON),
        ("", Media.JSON),
        ("*/*", Media.JSON),
        ("application/json", Media.JSON),
        ("Application/JSON; charset=utf-8", Media.JSON),
        ("application/vnd.pgrst.array+json", Media.JSON),
        ("application/*", Media.JSON),
        ("text/csv", Media.CSV),
        ("text/*", Media.CSV),
        ("application/vnd.pgrst.object+json", Media.OBJECT),
        ("application/vnd.pgrst.object", Media.OBJECT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Media.JSON),
        ("text/csv, application/json", Media.CSV),
        ("text/csv;q=0.5, application/json", Media.JSON),
        ("*/*, text/csv", Media.CSV),
        ("application/json;q=0, */*", Media.CSV),
        ("application/json;q=0.1, text/*;q=0.2", Media.CSV),
        ("application/vnd.pgrst.object+json;nulls=stripped, application/json;q=0.1", Media.JSON),
        ("application/json;q=0.8, application/vnd.pgrst.object+json", Media.OBJECT),
        (" , ;;, text/csv ;q = 1.000", Media.CSV),
    ],
)
def test_the_most_wanted_media_type_is_written(accept: str | None, media: Media) -> None:
    headers = {} if accept is None else {"accept": accept}
    assert parse_representation(headers).media is media


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/json;q=0",
        "application/json;q=2",
        "json",
        "application/vnd.pgrst.object+json;nulls=stripped",
        "*/*;q=0",
        "image/*",
        "\u00e4",
    ],
)
def test_unsupported_media_types_are_not_acceptable(accept: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_representation({"accept": accept})
    problem = caught.value.problem
    assert (problem.code, problem.status) == ("PGRST107", 406)
    assert "text/csv" in problem.detail


@pytest.mark.parametrize(
    ("prefer", "count", "applied"),
    [
        ("", None, ()),
        ("count=exact", "exact", ("count=exact",)),
        ("Count = planned", "planned", ("count=planned",)),
        ('count="estimated"', "estimated", ("count=estimated",)),
        ("count=exact;x=1", "exact", ("count=exact",)),
        ("count=exact, count=planned", "exact", ("count=exact",)),
        ("handling=lenient, return=minimal", None, ("handling=lenient",)),
        ("handling=strict,count=exact", "exact", ("count=exact", "handling=strict")),
        ("count=all, return=representation,,", None, ()),
    ],
)
def test_preferences_are_honoured_and_named(
    prefer: str, count: str | None, applied: tuple[str, ...]
) -> None:
    representation = parse_representation({"prefer": prefer})
    assert (representation.count, representation.applied) == (count, applied)


@pytest.mark.parametrize("unknown", ["count=all", "return=minimal", "x", "timezone=UTC"])
def test_strict_handling_refuses_unknown_preferences_by_name(unknown: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_representation({"prefer": f"handling=strict, {unknown}"})
    assert caught.value.problem.code == "PGRST122"
    assert unknown in caught.value.problem.detail


@pytest.mark.parametrize(
    ("headers", "rows"),
    [
        ({"range": "0-24"}, RowRange(0, 24)),
        ({"range": "10-", "range-unit": "items"}, RowRange(10)),
        ({"range": " 5-4 ", "range-unit": " Items"}, RowRange(5, 4)),
        ({"range": "0-24", "range-unit": "bytes"}, None),
        ({"range": "bytes=0-24"}, None),
        ({"range": "-5"}, None),
        ({"range": "0-1,3-4"}, None),
        ({"range": "\u0661-\u0662"}, None),
        ({"range-unit": "items"}, None),
        ({"range": f"0-{'9' * 5000}"}, RowRange(0, 10**15)),
    ],
)
def test_a_range_of_items_is_read_and_others_are_ignored(
    headers: dict[str, str], rows: RowRange | None
) -> None:
    assert parse_representation(headers).range == rows


def test_no_header_is_needed() -> None:
    assert parse_representation({}) == Representation()
