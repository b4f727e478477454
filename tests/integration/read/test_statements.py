"""The costs of a list: statements, plans, memory."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import resources
from forebay.db.connect import connect
from forebay.query.parse import parse_list
from forebay.query.representation import Count, Media
from forebay.resource.relations import find_relations
from lambdas.read.pages import plan_page
from lambdas.read.sql.page import page_query
from tests.fixtures.reading import Reader, close, linked_query, reader_of

SPECS = resources.load()
RELATIONS = find_relations(SPECS)


@pytest.fixture
def recorded(geonames_url: str) -> Iterator[tuple[Reader, list[str]]]:
    statements: list[str] = []
    new_reader = reader_of(geonames_url, geonames_url, statements)
    yield new_reader, statements
    close(new_reader)


@pytest.fixture(scope="module")
def connection(geonames_url: str) -> Iterator[psycopg.Connection[Any]]:
    with connect(
        geonames_url, application_name="t", statement_timeout_ms=60_000, read_only=True
    ) as opened:
        yield opened


def plan(
    connection: psycopg.Connection[Any],
    query: dict[str, str],
    *,
    path: str = "cities",
    count: Count | None = None,
) -> dict[str, Any]:
    """Execute a page's statement with EXPLAIN; return its plan."""
    parsed = parse_list(SPECS[path], RELATIONS[path], query)
    statement = plan_page(SPECS[path], parsed, Media.JSON, count).statement
    text = b"EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT JSON) " + statement.as_bytes()
    row = connection.execute(text, statement.values).fetchone()
    assert row is not None
    query_plan: dict[str, Any] = row[0][0]["Plan"]
    return query_plan


def nodes(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield found
    for child in found.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize(
    ("query", "headers", "statements"),
    [
        ({}, {}, 1),
        ({"select": "name,country(name)", "country.name": "eq.France"}, {}, 1),
        ({"select": "name,country!inner(name)", "limit": "10000"}, {"Prefer": "count=exact"}, 1),
        ({}, {"Accept": "text/csv", "Prefer": "count=exact"}, 1),
        ({}, {"Prefer": "count=planned"}, 2),
        ({}, {"Prefer": "count=estimated"}, 2),
        ({"country_code": "eq.MC"}, {"Prefer": "count=estimated"}, 1),
        ({"population": "gte.many"}, {}, 0),
    ],
)
def test_a_list_is_one_statement_and_an_estimate_one_more(
    recorded: tuple[Reader, list[str]],
    query: dict[str, str],
    headers: dict[str, str],
    statements: int,
) -> None:
    reader, executed = recorded
    reader.get("cities", query=query, **headers)
    assert len(executed) == statements


def test_values_are_never_part_of_a_statement(recorded: tuple[Reader, list[str]]) -> None:
    reader, executed = recorded
    query = {
        "name": "eq.evil'--",
        "or": "(name.like.evil*,name.match.evil,population.in.(1234567))",
        "and": '(timezone.eq."evil")',
        "limit": "4321",
        "offset": "9876",
    }
    assert reader.get("cities", query=query, Prefer="count=exact").status == 416
    assert not re.search(r"evil|1234567|4321|9876", executed[0])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("cities", {"geonameid": "eq.2993458"}),
        ("cities", {"geonameid": "in.(2993458,1796236)"}),
        ("cities", {"name": "eq.Monaco"}),
        ("cities", {"country_code": "eq.MC"}),
        ("cities", {"population": "eq.32965"}),
        ("cities", {"name": "eq.Monaco", "order": "population.desc"}),
        ("cities", {"or": "(name.eq.Monaco,geonameid.eq.5)"}),
        ("cities", {"name": "eq(any).{Monaco,Berlin}", "select": "name,country_code"}),
        ("countries", {"code": "eq.MC", "select": "name,cities(name)"}),
    ],
)
def test_equality_on_an_index_never_reads_all_cities(
    connection: psycopg.Connection[Any], path: str, query: dict[str, str]
) -> None:
    query_plan = plan(connection, query, path=path, count="exact")
    read = {
        node["Node Type"]
        for node in nodes(query_plan)
        if node.get("Relation Name") == "cities" or "cities" in node.get("Index Name", "")
    }
    assert read
    assert "Seq Scan" not in read


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"offset": "20000"},
        {"order": "population.desc", "offset": "20000"},
        {"order": "latitude", "select": "name"},
        {"order": "geonameid.desc", "country_code": "gte.A", "select": "name"},
        {"select": "name,country!inner()", "country.continent": "eq.EU"},
    ],
)
def test_no_text_is_made_of_rows_that_are_not_on_the_page(
    connection: psycopg.Connection[Any], query: dict[str, str]
) -> None:
    row_counts = [
        node["Actual Rows"]
        for node in nodes(plan(connection, query))
        if any("JSON_SCALAR" in shown for shown in node["Output"])
    ]
    assert row_counts
    assert max(row_counts) <= 101


@pytest.mark.parametrize("operator", ["fts", "plfts", "phfts", "wfts"])
def test_a_search_is_read_once_and_not_for_each_row(
    connection: psycopg.Connection[Any], operator: str
) -> None:
    """Without a configuration it depends on a setting, so Postgres can't evaluate it in advance."""
    query_plan = plan(connection, {"name": f"{operator}.monaco"})
    (scan,) = [node for node in nodes(query_plan) if node.get("Relation Name") == "cities"]
    assert "tsquery(" not in scan["Filter"]
    once = [n for n in nodes(query_plan) if n.get("Parent Relationship") == "InitPlan"]
    assert 1 in [n["Actual Loops"] for n in once if n["Node Type"] == "Result"]


def rows_read(found: dict[str, Any]) -> int:
    """Count the rows that Postgres read, including those that a filter removed."""
    scans = [node for node in nodes(found) if "Relation Name" in node]
    assert scans
    return sum(
        int(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
        for node in scans
    )


@pytest.mark.parametrize("order", ["", "population.desc", "name", "population.desc,name"])
@pytest.mark.parametrize("relation", ["next", "prev"])
def test_a_page_costs_the_same_however_deep_it_is(
    connection: psycopg.Connection[Any], geonames: Reader, order: str, relation: str
) -> None:
    query = {"limit": "10", **({"order": order} if order else {})}
    deep = {**query, "offset": "20000"}
    followed = linked_query(geonames.get("cities", query=deep), relation)
    assert followed is not None
    assert "cursor" in followed
    # Rows that tie in the first term are read too: 20 and more cities have the same population.
    assert rows_read(plan(connection, followed)) < 200
    assert rows_read(plan(connection, deep)) > 20_000


def test_ten_thousand_rows_are_one_row_of_postgres(
    connection: psycopg.Connection[Any], geonames: Reader
) -> None:
    query = {"limit": "10000"}
    parsed = parse_list(SPECS["cities"], RELATIONS["cities"], query)
    statement = page_query(SPECS["cities"], parsed, Media.JSON, None)
    assert connection.execute(statement.text, statement.values).rowcount == 1
    tracemalloc.start()
    try:
        response = geonames.get("cities", query=query)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(json.loads(response.body)) == 10_000
    # The bytes, and their text, with two bytes for each character if names are in other scripts. No
    # memory is kept for each row.
    assert peak < 6 * len(response.body.encode())
