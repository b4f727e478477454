"""Related rows inside each object, along references in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.command import Command
from forebay.http import Response
from tests.fixtures.commands import city, command_id
from tests.fixtures.reading import Reader
from tests.fixtures.tables import Database


def rows(response: Response) -> list[dict[str, Any]]:
    assert response.status in {200, 206}, response.body
    document: list[dict[str, Any]] = json.loads(response.body)
    return document


def test_a_row_holds_the_one_that_it_refers_to(geonames: Reader) -> None:
    query = {"select": "name,country(name,capital)", "geonameid": "eq.2993458"}
    assert rows(geonames.get("cities", query=query)) == [
        {"name": "Monaco", "country": {"name": "Monaco", "capital": "Monaco"}}
    ]


def test_a_reference_to_nothing_is_null(database: Database, reader: Reader) -> None:
    database.apply([city(1, key=5, country_code="ZZ")])
    query = {"select": "geonameid,country(name)"}
    assert rows(reader.get("cities", query=query)) == [{"geonameid": 5, "country": None}]
    assert rows(reader.get("cities", query={"select": "geonameid,country!inner(name)"})) == []


def test_a_row_holds_those_that_refer_to_it_in_their_order(geonames: Reader) -> None:
    query = {
        "select": "code,cities(name)",
        "code": "in.(MC,AQ)",
        "cities.order": "population.desc",
        "cities.limit": "2",
        "cities.offset": "1",
    }
    cities_by_country = {
        row["code"]: row["cities"] for row in rows(geonames.get("countries", query=query))
    }
    query = {"country_code": "eq.MC", "select": "name", "order": "population.desc"}
    assert cities_by_country["MC"] == rows(geonames.get("cities", query=query))[1:3]
    assert cities_by_country["AQ"] == []


def test_a_filter_on_a_relation_filters_only_embedded_rows(geonames: Reader) -> None:
    query = {"select": "code,cities(name)", "cities.name": "eq.Monaco", "limit": "1000"}
    cities_by_country = {
        row["code"]: row["cities"] for row in rows(geonames.get("countries", query=query))
    }
    assert len(cities_by_country) == 252
    assert {code for code, cities in cities_by_country.items() if cities} == {"MC"}


def test_with_inner_it_filters_the_rows_too_and_their_count(geonames: Reader) -> None:
    query = {"select": "code,cities!inner(name)", "cities.name": "eq.Monaco"}
    response = geonames.get("countries", query=query, Prefer="count=exact")
    assert rows(response) == [{"code": "MC", "cities": [{"name": "Monaco"}]}]
    assert response.headers["Content-Range"] == "0-0/1"


def test_inner_without_members_only_filters(geonames: Reader) -> None:
    query = {"select": "code,cities!inner()", "cities.population": "gt.20000000"}
    assert rows(geonames.get("countries", query=query)) == [{"code": "CN"}]


def test_pages_of_filtered_rows_hold_each_once(geonames: Reader) -> None:
    query = {
        "select": "geonameid,country!inner(name)",
        "country.continent": "eq.OC",
        "order": "population.desc",
        "limit": "100",
    }
    expected = geonames.get("cities", query={**query, "limit": "0"}, Prefer="count=exact")
    keys = [row["geonameid"] for page in geonames.pages("cities", query) for row in page]
    assert f"*/{len(keys)}" == expected.headers["Content-Range"]
    assert len(keys) == len(set(keys)) > 400


@pytest.mark.parametrize("name", ["with%s percent", "50%", "a b", "ü"])
def test_a_member_may_be_called_almost_anything(geonames: Reader, name: str) -> None:
    query = {"select": f'"{name}":code', "code": "eq.MC"}
    response = geonames.get("countries", query=query)
    if response.status == 200:
        assert rows(response) == [{name: "MC"}]
    else:
        assert response.status == 400


def test_json_paths_and_casts(database: Database, reader: Reader) -> None:
    body = {"title": "t", "body": "b", "published_on": "2026-01-01", "tags": ["x", "y"]}
    key = "0199f0c2-0000-4000-8000-000000000000"
    database.apply([Command(command_id(1), "put", "announcements", key, 1, "t", None, body)])
    query = {"select": "first:tags->0,last:tags->>-1,no:tags->9,n:pinned::text"}
    assert rows(reader.get("announcements", query=query)) == [
        {"first": "x", "last": "y", "no": None, "n": "false"}
    ]
