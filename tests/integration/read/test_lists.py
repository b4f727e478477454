"""Lists: filters, order, and pages that neither lose nor repeat a row."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from forebay.command import Command
from forebay.http import Response
from tests.fixtures.commands import city, command_id
from tests.fixtures.reading import Reader, next_query
from tests.fixtures.tables import Database


def country(number: int, code: str, capital: str | None, population: int) -> Command:
    body = {
        "name": f"Land {code}",
        "iso3": code + "X",
        "capital": capital,
        "continent": "EU",
        "currency": None,
        "population": population,
        "area_km2": 1.5,
    }
    return Command(command_id(number), "put", "countries", code, 1, "t", None, body)


def codes(response: Response) -> list[str]:
    assert response.status == 200, response.body
    return [row["code"] for row in json.loads(response.body)]


@pytest.fixture
def countries(database: Database) -> Database:
    database.apply(
        [
            country(1, "AA", "Alpha", 100),
            country(2, "BB", None, 300),
            country(3, "CC", "Beta", 200),
            country(4, "DD", None, 200),
            country(5, "EE", 'Ga,"m)ma', 300),
        ]
    )
    return database


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "AA BB CC DD EE"),
        ({"population": "eq.200"}, "CC DD"),
        ({"population": "neq.200"}, "AA BB EE"),
        ({"population": "gt.200"}, "BB EE"),
        ({"population": "gte.200"}, "BB CC DD EE"),
        ({"population": "lt.200"}, "AA"),
        ({"and": "(population.gt.100,population.lt.300)"}, "CC DD"),
        ({"population": "in.(100,300)"}, "AA BB EE"),
        ({"code": "in.()"}, ""),
        ({"capital": "is.null"}, "BB DD"),
        ({"capital": "is.not_null", "population": "lt.300"}, "AA CC"),
        ({"capital": 'eq.Ga,"m)ma'}, "EE"),
        ({"capital": r'in.("Ga,\"m)ma",Beta)'}, "CC EE"),
        ({"name": "eq.' OR true --"}, ""),
        ({"order": "population.desc"}, "BB EE CC DD AA"),
        ({"order": "capital"}, "AA CC EE BB DD"),
        ({"order": "capital.desc"}, "BB DD EE CC AA"),
        ({"order": "population,code.desc"}, "AA DD CC EE BB"),
        ({"limit": "2"}, "AA BB"),
        ({"limit": "0"}, ""),
    ],
)
def test_filters_and_order_mean_what_postgrest_means(
    countries: Database, reader: Reader, query: dict[str, str], expected: str
) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    assert codes(reader.get("countries", query=query)) == expected.split()


@pytest.mark.parametrize(
    "order", ["", "capital", "capital.desc", "population,name.desc", "code.desc"]
)
@pytest.mark.parametrize("limit", ["1", "2", "3", "5", "6"])
def test_pages_hold_every_row_once_in_order_nulls_included(
    countries: Database, reader: Reader, order: str, limit: str
) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    query = {"order": order} if order else {}
    whole = codes(reader.get("countries", query=query))
    pages = [
        [row["code"] for row in page]
        for page in reader.pages("countries", {**query, "limit": limit})
    ]
    assert [code for page in pages for code in page] == whole
    assert all(len(page) == int(limit) for page in pages[:-1])


def test_a_surviving_row_is_seen_once_while_others_come_and_go(
    database: Database, reader: Reader
) -> None:
    rng = random.Random(7)
    populations = {key: rng.randrange(20) for key in range(1, 301)}
    database.apply([city(key, key=key, population=p) for key, p in populations.items()])
    seen: list[int] = []
    doomed = set(rng.sample(range(1, 301), 100))
    number = 1000
    for page in reader.pages("cities", {"order": "population.desc", "limit": "17"}):
        seen += [row["geonameid"] for row in page]
        chunk = [city(number + n, "delete", doomed.pop()) for n in range(min(5, len(doomed)))]
        chunk += [
            city(number + 5 + n, key=number + n, population=rng.randrange(20)) for n in range(5)
        ]
        database.apply(chunk, source=f"commands/{number}")
        number += 100
    assert len(seen) == len(set(seen))
    survivors = {key for (key,) in database.rows("SELECT geonameid FROM cities")} & set(populations)
    assert survivors <= set(seen)


def test_a_page_of_huge_rows_ends_early_and_goes_on_behind_its_link(
    database: Database, reader: Reader
) -> None:
    def news(number: int) -> Command:
        body: dict[str, Any] = {"title": "t", "body": "x" * 20_000, "published_on": "2026-01-01"}
        key = f"0199f0c2-0000-4000-8000-{number:012x}"
        return Command(command_id(number), "put", "announcements", key, 1, "t", None, body)

    database.apply([news(number) for number in range(200)])
    first = reader.get("announcements", query={"limit": "1000"})
    assert len(first.body) < 2_000_000
    assert next_query(first) is not None
    assert sum(len(page) for page in reader.pages("announcements", {"limit": "1000"})) == 200


def test_the_link_repeats_the_query(countries: Database, reader: Reader) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    query = {"and": '(name.gte."Land A,B")', "order": "name.desc", "limit": "2"}
    found = next_query(reader.get("countries", query=query))
    assert found is not None
    assert {name: found[name] for name in query} == query


def test_a_page_deep_in_a_list_starts_in_the_index(database: Database, reader: Reader) -> None:
    database.apply([city(n, key=n, population=n) for n in range(1, 5001)])
    database.connection.execute("ANALYZE cities")
    last = list(reader.pages("cities", {"order": "population", "limit": "1000"}))[-1]
    assert last[-1]["population"] == 5000
    import resources  # noqa: PLC0415
    from forebay.query.parse import parse_list  # noqa: PLC0415 - only here
    from lambdas.read.sql import list_query  # noqa: PLC0415

    spec = resources.load()["cities"]
    response = reader.get("cities", query={"order": "population", "limit": "1000"})
    for _ in range(3):
        query = next_query(response)
        assert query is not None
        response = reader.get("cities", query=query)
    statement, parameters = list_query(spec, parse_list(spec, next_query(response) or {}))
    database.connection.execute("SET enable_seqscan = off")
    plan = database.connection.execute(
        b"EXPLAIN " + statement.as_bytes(None), parameters
    ).fetchall()
    assert any("Index Cond: (population >=" in line for (line,) in plan), plan
