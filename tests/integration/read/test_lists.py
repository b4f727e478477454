"""Lists: filters, order, and pages that neither lose nor repeat a row."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from forebay.command import Command
from forebay.http import Response
from tests.fixtures.commands import city, command_id
from tests.fixtures.reading import Reader, linked_query, next_query
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


def news(number: int, body: str) -> Command:
    content: dict[str, Any] = {"title": "t", "body": body, "published_on": "2026-01-01"}
    key = f"0199f0c2-0000-4000-8000-{number:012x}"
    return Command(command_id(number), "put", "announcements", key, 1, "t", None, content)


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
def test_filters_and_order_have_the_meaning_of_postgrest(
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


@pytest.mark.parametrize(
    "order",
    ["", "capital", "capital.desc", "capital.nullsfirst", "capital.desc.nullslast,population"],
)
@pytest.mark.parametrize("limit", ["1", "2", "3"])
def test_the_way_back_has_the_same_rows_in_the_same_order(
    countries: Database, reader: Reader, order: str, limit: str
) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    query = {"order": order, "limit": limit} if order else {"limit": limit}
    whole = codes(reader.get("countries", query={**query, "limit": "9"}))
    end = query
    while (further := next_query(reader.get("countries", query=end))) is not None:
        end = further
    back = [[row["code"] for row in page] for page in reader.pages("countries", end, backward=True)]
    assert [code for page in reversed(back) for code in page] == whole
    assert linked_query(reader.get("countries", query=query), "prev") is None


def test_from_an_offset_links_lead_both_ways(countries: Database, reader: Reader) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    middle = reader.get("countries", query={"offset": "2", "limit": "2"})
    assert codes(middle) == ["CC", "DD"]
    assert codes(reader.get("countries", query=linked_query(middle, "next"))) == ["EE"]
    before = reader.get("countries", query=linked_query(middle, "prev"))
    assert codes(before) == ["AA", "BB"]
    assert linked_query(before, "prev") is None


def test_a_link_out_of_a_range_keeps_its_size(countries: Database, reader: Reader) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    first = reader.get("countries", Range="0-1")
    assert codes(first) == ["AA", "BB"]
    assert codes(reader.get("countries", query=next_query(first))) == ["CC", "DD"]


def test_with_values_too_long_for_a_cursor_the_link_goes_by_offset(
    database: Database, reader: Reader
) -> None:
    database.apply([news(number, "x" * 10_000) for number in range(3)])
    query = {"order": "body", "limit": "1", "select": "id"}
    first = reader.get("announcements", query=query)
    assert next_query(first) == {**query, "offset": "1"}
    assert sum(len(page) for page in reader.pages("announcements", query)) == 3


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


def test_the_link_repeats_the_query(countries: Database, reader: Reader) -> None:
    assert countries.rows("SELECT count(*) FROM countries") == [(5,)]
    query = {"and": '(name.gte."Land A,B")', "order": "name.desc", "limit": "2"}
    link_parameters = next_query(reader.get("countries", query=query))
    assert link_parameters is not None
    assert {name: link_parameters[name] for name in query} == query


def test_a_page_of_huge_rows_ends_early_and_goes_on_behind_its_link(
    database: Database, reader: Reader
) -> None:
    """A quote takes two bytes in the function's JSON answer: 9 MB here, of which 6 fit."""
    database.apply([news(number, '"' * 15_000) for number in range(300)])
    first = reader.get("announcements", query={"limit": "1000"}, Prefer="count=exact")
    assert 4_000_000 < len(json.dumps(first.to_proxy(), ensure_ascii=False).encode()) < 6_000_000
    rows = len(json.loads(first.body))
    assert (first.status, first.headers["Content-Range"]) == (206, f"0-{rows - 1}/300")
    assert sum(len(page) for page in reader.pages("announcements", {"limit": "1000"})) == 300


def test_a_row_above_the_budget_is_a_page_of_its_own(database: Database, reader: Reader) -> None:
    database.apply([news(number, "x") for number in (1, 2)])
    # A body of 5,999,000 bytes is between the budget and the maximum of an answer.
    database.connection.execute("ALTER TABLE announcements ALTER body TYPE text")
    database.connection.execute("UPDATE announcements SET body = repeat('x', 5900000)")
    pages = list(reader.pages("announcements", {"select": "body"}))
    assert [len(page) for page in pages] == [1, 1]


def test_a_row_that_no_answer_can_hold_is_a_problem_and_not_a_failure(
    database: Database, reader: Reader
) -> None:
    database.apply([news(1, "x")])
    database.connection.execute("ALTER TABLE announcements ALTER body TYPE text")
    database.connection.execute("UPDATE announcements SET body = repeat('x', 7000000)")
    response = reader.get("announcements")
    assert (response.status, json.loads(response.body)["code"]) == (400, "answer_too_large")
    assert reader.get("announcements", query={"select": "title"}).status == 200
