"""Postgres can read every value that the grammar accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forebay.query.ast import Operand
from forebay.query.select import list_casts
from forebay.query.textsearch import CONFIGURATIONS, check_tsquery
from forebay.query.values import checked, pattern
from forebay.resource import Kind
from tests.fixtures.queries import RESOURCES
from tests.fixtures.tables import Database

TYPES = {
    Kind.TEXT: "text",
    Kind.INTEGER: "bigint",
    Kind.FLOAT: "double precision",
    Kind.DECIMAL: "numeric",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamptz",
    Kind.UUID: "uuid",
    Kind.JSON: "jsonb",
}
BY_KIND = {column.kind: column for column in RESOURCES["books"].columns}
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
NUMBERS = st.from_regex(re.compile(r"[+-]?[0-9]{0,20}\.?[0-9]{0,20}(e[+-]?[0-9]{0,3})?", re.ASCII))
MOMENTS = st.one_of(
    st.datetimes(timezones=st.one_of(st.none(), st.timezones())).map(str),
    st.datetimes(timezones=st.none()).map(lambda value: value.isoformat("T") + "-23:59"),
    st.dates().map(str),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TEXTS: dict[Kind, st.SearchStrategy[str]] = {
    Kind.TEXT: PLAIN,
    Kind.INTEGER: NUMBERS | st.integers().map(str),
    Kind.FLOAT: NUMBERS | st.floats().map(repr),
    Kind.DECIMAL: NUMBERS,
    Kind.BOOLEAN: st.sampled_from(["t", "true", "TRUE", "f", "yes", "n", "off", "1", "0", "2"]),
    Kind.DATE: MOMENTS,
    Kind.TIMESTAMP: MOMENTS,
    Kind.UUID: st.uuids().map(str) | st.uuids().map(lambda value: value.hex.upper()),
    Kind.JSON: JSON.map(json.dumps),
}
QUERIES = st.lists(
    st.sampled_from(
        ["a", "b:*", "'c d'", "it''s", "&", "|", "!", "(", ")", "<->", "<2>", " ", ":A"]
    )
    | st.characters(codec="utf-8", exclude_characters="\x00"),
    max_size=12,
).map("".join)


def accepted(check: Callable[[], Any]) -> bool:
    """Return whether the grammar accepts the text."""
    try:
        check()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", TEXTS)
def test_a_checked_value_is_one_of_its_type(database: Database, kind: Kind) -> None:
    operand = Operand(BY_KIND[kind])
    read = 0

    @given(TEXTS[kind])
    @settings(max_examples=200, suppress_health_check=[HealthCheck.filter_too_much])
    def holds(text: str) -> None:
        nonlocal read
        if accepted(lambda: checked(operand, text)):
            database.rows(f"SELECT %s::{TYPES[kind]}", checked(operand, text))
            read += 1

    holds()
    assert read > 5


def test_a_checked_search_is_one(database: Database) -> None:
    @given(QUERIES)
    @settings(max_examples=500)
    @example("")
    @example("a & !(b | 'c d':*B) <-> e")
    @example("b:*\x1f")  # white space in Python, but not in Postgres
    @example("b:*\xa0& c")
    @example("a:*\t&\nb\f|\vc\r")
    def holds(text: str) -> None:
        if accepted(lambda: check_tsquery(text)):
            database.rows("SELECT to_tsquery('english', %s::text)", text)

    holds()


def test_a_checked_pattern_is_one(database: Database) -> None:
    @given(st.text(st.sampled_from("a\\%_*"), max_size=6))
    @settings(max_examples=200)
    def holds(text: str) -> None:
        if accepted(lambda: pattern(text)):
            database.rows("SELECT %s LIKE %s::text", text.replace("\\", ""), pattern(text))

    holds()


def test_every_configuration_is_there(database: Database) -> None:
    known = {name for (name,) in database.rows("SELECT cfgname FROM pg_ts_config")}
    assert known >= CONFIGURATIONS


EXTREMES = {
    Kind.TEXT: "''",
    Kind.INTEGER: "9223372036854775807::bigint",
    Kind.FLOAT: "-1.7976931348623157e308::double precision",
    Kind.BOOLEAN: "true",
    Kind.DATE: "'9999-12-31'::date",
    Kind.TIMESTAMP: "'9999-12-31T23:59:59Z'::timestamptz",
    Kind.UUID: "gen_random_uuid()",
    Kind.JSON: "'[1]'::jsonb",
}


def test_no_value_is_too_large_for_a_cast_that_is_allowed(database: Database) -> None:
    for column in RESOURCES["books"].columns:
        extreme = EXTREMES.get(column.kind)
        if extreme is None:
            digits = (column.precision or 0) - (column.scale or 0)
            extreme = f"{'9' * digits}::{column.sql_type}"
        for cast in list_casts(Operand(column)):
            database.rows(f"SELECT ({extreme})::{cast}")


def test_the_casts_that_are_refused_could_fail(database: Database) -> None:
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        database.rows(f"SELECT {EXTREMES[Kind.INTEGER]}::integer")
