"""Answers to lists: status, Content-Range, counts, one object, CSV, entity tags."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from forebay.command import Command
from forebay.http import Response
from tests.fixtures.commands import city, command_id
from tests.fixtures.geonames import CITIES
from tests.fixtures.reading import Reader, next_query
from tests.fixtures.tables import Database

OBJECT = "application/vnd.pgrst.object+json"


def problem(response: Response) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(response.body)
    return document


@pytest.mark.parametrize(
    ("query", "headers", "status", "content_range"),
    [
        ({}, {}, 200, "0-99/*"),
        ({"limit": "3", "offset": "10"}, {}, 200, "10-12/*"),
        ({}, {"Range": "10-12"}, 200, "10-12/*"),
        ({"geonameid": "eq.0"}, {}, 200, "*/*"),
        ({"limit": "0"}, {}, 200, "*/*"),
        ({"limit": "3"}, {"Prefer": "count=exact"}, 206, f"0-2/{CITIES}"),
        ({"limit": "0"}, {"Prefer": "count=exact"}, 206, f"*/{CITIES}"),
        ({}, {"Prefer": "count=exact", "Range": "34004-"}, 206, f"34004-34005/{CITIES}"),
        ({"offset": str(CITIES)}, {"Prefer": "count=exact"}, 206, f"*/{CITIES}"),
        ({"geonameid": "eq.0"}, {"Prefer": "count=exact"}, 200, "*/0"),
        ({"country_code": "eq.MC"}, {"Prefer": "count=exact"}, 200, "0-1/2"),
        ({"country_code": "eq.MC"}, {"Prefer": "count=estimated"}, 200, "0-1/2"),
        ({"offset": "99999"}, {}, 200, "*/*"),
    ],
)
def test_status_and_content_range_are_postgrests(
    geonames: Reader,
    query: dict[str, str],
    headers: dict[str, str],
    status: int,
    content_range: str,
) -> None:
    response = geonames.get("cities", query=query, **headers)
    assert (response.status, response.headers["Content-Range"]) == (status, content_range)
    assert response.headers.get("Preference-Applied") == headers.get("Prefer")


def test_an_offset_behind_the_last_row_is_416(geonames: Reader) -> None:
    response = geonames.get("cities", query={"offset": "40000"}, Prefer="count=exact")
    document = problem(response)
    assert (response.status, document["code"]) == (416, "PGRST103")
    assert response.headers["Content-Range"] == f"*/{CITIES}"
    assert document["message"] == "Requested range not satisfiable"
    assert document["details"] == "An offset of 40000 was requested, but there are only 34006 rows."


@pytest.mark.parametrize("count", ["planned", "estimated"])
def test_large_counts_are_the_planners(geonames: Reader, count: str) -> None:
    response = geonames.get("cities", Prefer=f"count={count}")
    total = int(response.headers["Content-Range"].partition("/")[2])
    assert response.status == 206
    assert 0.8 * CITIES < total < 1.2 * CITIES


def test_an_estimate_does_not_deny_rows_that_are_there(geonames: Reader) -> None:
    """The planner assumes independent columns, and expects a few dozen of 1,139 rows."""
    query = {"country_code": "eq.DE", "timezone": "eq.Europe/Berlin"}
    expected = geonames.get("cities", query=query, Prefer="count=planned").headers["Content-Range"]
    assert int(expected.partition("/")[2]) < 600
    for offset, content_range in (("600", "600-699/701"), ("1100", "1100-1138/1139")):
        response = geonames.get("cities", query={**query, "offset": offset}, Prefer="count=planned")
        assert (response.status, response.headers["Content-Range"]) == (206, content_range)


def test_behind_a_cursor_the_count_is_of_all_rows_and_the_place_unknown(geonames: Reader) -> None:
    first = geonames.get("cities", query={"limit": "5"})
    second = geonames.get("cities", query=next_query(first), Prefer="count=exact")
    assert (second.status, second.headers["Content-Range"]) == (206, f"*/{CITIES}")


def test_one_object_comes_bare(geonames: Reader) -> None:
    query = {"code": "eq.MC", "select": "code,name"}
    response = geonames.get("countries", query=query, Accept=OBJECT)
    assert json.loads(response.body) == {"code": "MC", "name": "Monaco"}
    assert response.content_type == f"{OBJECT}; charset=utf-8"


@pytest.mark.parametrize(("filter_", "rows"), [("eq.XX", 0), ("in.(DE,FR,MC)", 3)])
def test_not_exactly_one_row_is_406_as_clients_know_it(
    geonames: Reader, filter_: str, rows: int
) -> None:
    response = geonames.get("countries", query={"code": filter_}, Accept=OBJECT)
    document = problem(response)
    assert (response.status, document["code"]) == (406, "PGRST116")
    assert document["message"] == "Cannot coerce the result to a single JSON object"
    assert document["details"] == f"The result contains {rows} rows"
    assert document["hint"] is None


AWKWARD = {
    "title": 'a "quoted", title',
    "body": "two\nlines\r\nand = a formula",
    "published_on": "2026-02-28",
    "expires_at": "2026-03-01T12:00:00.5+02:00",
    "status": "draft",
    "pinned": True,
    "tags": ["a,b", 'c"d', "\\"],
}


def test_csv_has_a_header_row_and_the_values_of_json(database: Database, reader: Reader) -> None:
    key = "0199f0c2-0000-4000-8000-000000000000"
    other = key[:-1] + "1"
    plain = {**AWKWARD, "title": "-", "body": "", "expires_at": None, "pinned": False, "tags": []}
    database.apply(
        [
            Command(command_id(1), "put", "announcements", key, 1, "t", None, AWKWARD),
            Command(command_id(2), "put", "announcements", other, 1, "t", None, plain),
        ]
    )
    response = reader.get("announcements", Accept="text/csv")
    assert response.content_type == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(response.body, newline=""), strict=True)
    documents = json.loads(reader.get("announcements").body)
    assert header == list(documents[0])
    for row, document in zip(rows, documents, strict=True):
        row_values = dict(zip(header, row, strict=True))
        assert json.loads(row_values.pop("tags")) == document.pop("tags")
        assert row_values == {
            name: "" if value is None else value if isinstance(value, str) else json.dumps(value)
            for name, value in document.items()
        }
    assert response.body.endswith(',"",2026-02-28,,draft,false,[]\r\n')


def test_csv_holds_related_rows_as_json(geonames: Reader) -> None:
    query = {"select": "n:name,country(name)", "geonameid": "eq.2993458"}
    response = geonames.get("cities", query=query, Accept="text/csv")
    assert response.body == 'n,country\r\nMonaco,"{""name"":""Monaco""}"\r\n'


def test_csv_of_no_rows_is_its_header(geonames: Reader) -> None:
    query = {"select": "name,code", "code": "eq.XX"}
    assert geonames.get("countries", query=query, Accept="text/csv").body == "name,code\r\n"


def test_a_lone_null_is_not_an_empty_line(geonames: Reader) -> None:
    query = {"select": "capital", "code": "eq.AQ"}
    assert geonames.get("countries", query=query, Accept="text/csv").body == 'capital\r\n""\r\n'


def test_a_media_type_that_is_not_there_is_406(geonames: Reader) -> None:
    response = geonames.get("cities", Accept="application/xml")
    assert (response.status, problem(response)["code"]) == (406, "PGRST107")


def test_a_client_that_has_the_list_gets_304(database: Database, reader: Reader) -> None:
    database.apply([city(1, key=5), city(2, key=6)])
    first = reader.get("cities", Prefer="count=exact")
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    again = reader.get("cities", Prefer="count=exact", If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, "", tag)
    database.apply([city(3, key=6)], source="commands/b.gz")
    assert reader.get("cities", Prefer="count=exact", If_None_Match=tag).status == 200


def test_each_representation_has_its_own_entity_tag(geonames: Reader) -> None:
    query = {"code": "eq.MC", "select": "code"}
    tags = [
        geonames.get("countries", query=query, **headers).headers["ETag"]
        for headers in (
            {},
            {"Accept": "text/csv"},
            {"Accept": OBJECT},
            {"Prefer": "count=exact"},
        )
    ]
    assert len(set(tags)) == len(tags)


def test_vary_names_the_headers_that_the_answer_depends_on(geonames: Reader) -> None:
    response = geonames.get("countries")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Vary"] == "Accept, Prefer, Range, Range-Unit, Read-After"


@pytest.mark.parametrize(
    ("query", "pattern"),
    [
        ({"name": "match.["}, "brackets"),
        ({"name": "match.(a"}, "parentheses"),
    ],
)
def test_a_query_that_postgres_refuses_is_a_problem_with_its_message(
    geonames: Reader, query: dict[str, str], pattern: str
) -> None:
    response = geonames.get("countries", query=query)
    document = problem(response)
    assert (response.status, document["code"]) == (400, "PGRST100")
    assert pattern in document["details"]


@pytest.mark.parametrize(
    ("resource", "key", "headers"),
    [
        ("countries", None, {}),
        ("countries", None, {"Prefer": "count=exact", "Accept": "text/csv", "Range": "0-9"}),
        ("countries", "MC", {}),
        ("countries", "XX", {}),
        ("countries", None, {"Accept": OBJECT}),
    ],
)
def test_head_is_get_without_its_body(
    geonames: Reader, resource: str, key: str | None, headers: dict[str, str]
) -> None:
    get = geonames.get(resource, key=key, query={}, **headers).to_proxy("*")
    head = geonames.get(resource, key=key, query={}, method="HEAD", **headers).to_proxy("*")
    assert head["body"] == ""
    assert {**head, "body": get["body"]} == get


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv, application/json;q=0.1", "application/json"),
        (OBJECT, OBJECT),
        ("text/csv", None),
        ("application/xml", None),
    ],
)
def test_an_item_is_json_or_406(geonames: Reader, accept: str, media: str | None) -> None:
    response = geonames.get("countries", key="MC", Accept=accept)
    if media is None:
        assert (response.status, problem(response)["code"]) == (406, "PGRST107")
    else:
        assert (response.status, response.content_type) == (200, f"{media}; charset=utf-8")
        assert response.headers["Vary"] == "Accept, Read-After"
