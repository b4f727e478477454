"""Values: Postgres receives only texts that it can read as the column's type."""

from __future__ import annotations

import pytest

from forebay.query.textsearch import check_tsquery
from tests.fixtures.queries import only_filter, refused

GOOD = [
    ("pages", "-0", "0"),
    ("pages", "5.0", "5"),
    ("pages", "-9223372036854775808", "-9223372036854775808"),
    ("weight", "0.5e-3", "0.5e-3"),
    ("weight", "0e-999", "0e-999"),
    ("price", "1234567890123456789.123", "1234567890123456789.123"),
    ("sold_out", "T", "true"),
    ("sold_out", "off", "false"),
    ("printed_on", "2026-02-28", "2026-02-28"),
    ("changed_at", "2026-02-28T10:00:00+02:00", "2026-02-28T08:00:00+00:00"),
    ("changed_at", "2026-02-28T10:00:00 02:00", "2026-02-28T08:00:00+00:00"),
    ("changed_at", "2026-02-28 10:00:00+02", "2026-02-28T08:00:00+00:00"),
    ("changed_at", "2026-02-28T10:00:00 02", "2026-02-28T08:00:00+00:00"),
    ("changed_at", "2026-02-28 10:00:00 00:00", "2026-02-28T10:00:00+00:00"),
    ("changed_at", "2026-02-28T10:00:00-23:59", "2026-03-01T09:59:00+00:00"),
    ("ticket", "0199F0C200007000800000000000000A", "0199f0c2-0000-7000-8000-00000000000a"),
    ("extra", '{"a": 1.50, "b": "\\u00e4"}', '{"a":1.5,"b":"\u00e4"}'),
    ("extra", '"\\\\u0000"', '"\\\\u0000"'),
    ("extra", "[" * 64 + "]" * 64, "[" * 64 + "]" * 64),
]
BAD = [
    ("pages", "+5"),
    ("pages", "007"),
    ("pages", "5.5"),
    ("pages", "1e3"),
    ("pages", "1_000"),
    ("pages", " 5"),
    ("pages", "\u0661"),
    ("pages", "9223372036854775808"),
    ("pages", "null"),
    ("weight", "nan"),
    ("weight", "Infinity"),
    ("weight", "1e999"),
    ("weight", "1e-999"),
    ("weight", "."),
    ("weight", ".5"),
    ("weight", "5."),
    ("weight", "9007199254740993.0"),
    ("price", "1e9999"),
    ("price", "NaN"),
    ("sold_out", "maybe"),
    ("printed_on", "2026-02-30"),
    ("printed_on", "infinity"),
    ("printed_on", "20260228"),
    ("printed_on", "2026-W09-6"),
    ("printed_on", "1704067200"),
    ("printed_on", "0000-01-01"),
    ("changed_at", "now"),
    ("changed_at", "1704067200"),
    ("changed_at", "2026-02-28"),
    ("changed_at", "2026-02-28T10:00:00"),
    ("changed_at", "2026-02-28T10:00Z"),
    ("changed_at", "2026-02-28T10:00:00+0200"),
    ("changed_at", "20260228T100000Z"),
    ("changed_at", "0001-01-01T00:00:00+01:00"),
    ("changed_at", "9999-12-31T23:59:59-01:00"),
    ("ticket", "0199f0c2"),
    ("ticket", "{0199f0c2-0000-7000-8000-000000000000}"),
    ("extra", "{a:1}"),
    ("extra", "NaN"),
    ("extra", '"\\u0000"'),
    ("extra", '{"\\u0000":1}'),
    ("extra", '"\\ud800"'),
    ("extra", "[" * 3000),
    ("extra", "[" * 65 + "]" * 65),
    ("extra", '{"a":' * 300 + "1" + "}" * 300),
    ("tags", "[" * 1000 + "]" * 1000),
]


@pytest.mark.parametrize(("column", "text", "value"), GOOD)
def test_a_value_is_passed_on_in_a_form_that_postgres_reads(
    column: str, text: str, value: str
) -> None:
    assert only_filter({column: f"eq.{text}"}).value == value


@pytest.mark.parametrize(("column", "text"), BAD)
def test_an_invalid_value_of_a_column_is_refused_by_name(column: str, text: str) -> None:
    problem = refused({column: f"eq.{text}"})
    assert problem.code == "bad_filter"
    assert problem.detail.startswith(f"{column}: {column} is ")
    assert len(problem.detail) < 300
    problem.detail.encode()


def test_an_integer_beyond_the_column_is_a_question_like_any_other() -> None:
    assert only_filter({"code": "lt.x"}, "authors").value == "x"
    assert only_filter({"isbn": "lt.3000000000"}).value == "3000000000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a",
        "a & b | !c",
        "!!a",
        "(a <-> b) <3> 'it''s'",
        "( ( a ) )",
        "a:* & b:AB",
        "\u00e4-\u00f6.x/y",
        "'a & b':*",
    ],
)
def test_a_text_search_query_is_read(text: str) -> None:
    check_tsquery(text)


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "a &",
        "& a",
        "!",
        "(a",
        "a)",
        ")a(",
        "()",
        "a <-> ",
        "a <x> b",
        "a <99999> b",
        "''",
        "'a",
        "a:x",
        ":*",
        "a\\b",
        "a <",
        "a" * 501,
        "(" * 51 + "a" + ")" * 51,
    ],
)
def test_an_invalid_text_search_query_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="text search"):
        check_tsquery(text)
