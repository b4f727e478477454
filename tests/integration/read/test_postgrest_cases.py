"""Every request of `tests/fixtures/read_cases.py`, as a GET and as a form, with its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from forebay.http import Response
from forebay.query.grammar import list_parameters
from forebay.query.parse import parse_list
from forebay.resource.relations import find_relations
from local.postgres.config import OWNER
from tests.fixtures import festival
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.read_cases import FORMS, KEYS, REFUSED, ROWS
from tests.fixtures.reading import Reader, close, next_query, reader_for
from tests.fixtures.tables import Database, create_tables, open_connection

RELATIONS = find_relations(festival.RESOURCES)
Case = tuple[str, str]


@pytest.fixture(scope="module")
def reader(postgres_cluster: PostgresServer) -> Iterator[Reader]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            create_tables(connection, festival.RESOURCES)
            commands = list(festival.commands())
            outcome = Database(url, connection).apply(commands, resources=festival.RESOURCES)
            assert outcome.counts.applied == len(commands)
        reader = reader_for(url, festival.RESOURCES)
        yield reader
        close(reader)


def cases(kinds: Mapping[str, Sequence[Case]]) -> list[Any]:
    return [
        pytest.param(request, expected, id=f"{kind}: {request}")
        for kind, case in kinds.items()
        for request, expected in case
    ]


def taken_apart(request: str) -> tuple[str, dict[str, str]]:
    """Split a request into the resource and its parameters, each of which occurs once."""
    path, _, query = request.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return path, dict(pairs)


def got(reader: Reader, request: str) -> Response:
    """Send a request as a GET with declared parameters; check that a form gets the same answer."""
    path, query = taken_apart(request)
    assert query.keys() <= set(list_parameters(festival.RESOURCES[path], RELATIONS[path]))
    response = reader.get(path, query=query)
    assert said(reader.ask(path, urlencode(query))) == said(response)
    return response


def said(response: Response) -> tuple[int, Any]:
    """Return the status, and the rows or the code of the refusal."""
    document = json.loads(response.body)
    return response.status, document if response.status == 200 else document["code"]


def keys(response: Response, path: str) -> str:
    assert response.status == 200, response.body
    key = festival.RESOURCES[path].key.name
    return " ".join(str(row[key]) for row in json.loads(response.body))


@pytest.mark.parametrize(("request_", "expected"), cases(KEYS))
def test_a_list_has_these_rows_in_this_order(reader: Reader, request_: str, expected: str) -> None:
    assert keys(got(reader, request_), request_.partition("?")[0]) == expected


@pytest.mark.parametrize(("request_", "expected"), cases(ROWS))
def test_a_list_shows_these_members(reader: Reader, request_: str, expected: str) -> None:
    response = got(reader, request_)
    assert response.status == 200, response.body
    document = json.loads(response.body)
    assert document == json.loads(expected)
    # The order of members is the request's, too.
    assert json.dumps(document) == json.dumps(json.loads(expected))


@pytest.mark.parametrize(("request_", "code", "words"), REFUSED)
def test_a_refusal_has_a_code_and_the_next_step(
    reader: Reader, request_: str, code: str, words: str
) -> None:
    response = got(reader, request_)
    problem = json.loads(response.body)
    assert problem["code"] == code, problem
    assert words in f"{problem['detail']} {problem['hint']}"


@pytest.mark.parametrize(("request_", "expected"), FORMS)
def test_a_form_may_have_names_that_are_not_in_the_cache_key(
    reader: Reader, request_: str, expected: str
) -> None:
    path, query = taken_apart(request_)
    assert not query.keys() <= set(list_parameters(festival.RESOURCES[path], RELATIONS[path]))
    assert keys(reader.ask(path, urlencode(query)), path) == expected


#: Orders by related rows, and filters by their existence, which a cursor must include.
PAGED = [
    {"select": "number,venue(name)", "order": "venue(name).desc"},
    {"select": "number,venue(name)", "order": "venue(name).nullsfirst,price"},
    {"select": "number,venue()", "order": "venue(seats),venue(name)"},
    {"select": "number,v:venue(name)", "order": "v(open_air)", "and": "(v.name.neq.Hall)"},
    {"select": "number,venue()", "venue": "not.is.null", "order": "price.desc"},
    {"select": "number,venue!inner(towns!inner())", "order": "venue(name).desc"},
    {"select": "number,persons!gigs!inner()", "order": "title"},
    {"select": "number,host(name),guest(name)", "order": "guest(born).desc,host(name)"},
]


@pytest.mark.parametrize("query", PAGED, ids=str)
@pytest.mark.parametrize("media", ["application/json", "text/csv"])
@pytest.mark.parametrize("limit", ["1", "2"])
def test_pages_along_relations_hold_every_row_once(
    reader: Reader, query: dict[str, str], limit: str, media: str
) -> None:
    whole = [row["number"] for row in json.loads(got(reader, f"concerts?{urlencode(query)}").body)]
    assert len(whole) > 2
    parameters = {**query, "limit": limit}
    there = list(reader.pages("concerts", parameters))
    assert [row["number"] for page in there for row in page] == whole
    end = {**query, "limit": limit, "offset": str(len(whole) - 1)}
    back = list(reader.pages("concerts", end, backward=True))
    assert [row["number"] for page in reversed(back) for row in page] == whole
    counted = reader.get("concerts", query=query, Prefer="count=exact", Accept=media)
    assert counted.headers["Content-Range"].endswith(f"/{len(whole)}")


@pytest.mark.parametrize(
    "change",
    [
        {"venue": "is.not_null"},
        {"order": "venue(seats)"},
        {"venue.name": "eq.Hall"},
        {"select": "number,venue!inner()"},
        {"and": "(venue.number.gt.1)"},
    ],
)
def test_a_cursor_is_not_taken_for_another_relations_rows(
    reader: Reader, change: dict[str, str]
) -> None:
    query = {"select": "number,venue()", "order": "venue(name)", "venue": "not.is.null"}
    page = {**query, "limit": "2"}
    following = next_query(reader.get("concerts", query=page))
    assert following is not None
    assert reader.get("concerts", query=following).status == 200
    if change == {"venue": "is.not_null"}:  # another spelling of the same filter
        assert reader.get("concerts", query={**following, **change}).status == 200
        return
    refused = reader.get("concerts", query={**following, **change})
    assert json.loads(refused.body)["code"] == "bad_cursor"


def test_every_resource_that_is_read_is_named_by_the_query() -> None:
    def read(path: str, select: str) -> set[str]:
        query = parse_list(festival.RESOURCES[path], RELATIONS[path], {"select": select})
        return set(query.resources(path))

    assert read("venues", "name") == {"venues"}
    assert read("venues", "name,sponsors!inner()") == {"venues", "deals", "sponsors"}
    assert read("towns", "code,venues(concerts(persons!gigs(name)))") == {
        *("towns", "venues", "concerts", "gigs", "persons"),
    }


def test_there_are_so_many_cases() -> None:
    """So that a lost case is noticed."""
    count = sum(map(len, KEYS.values())) + sum(map(len, ROWS.values())) + len(REFUSED) + len(FORMS)
    assert count >= 550
    requests = [r for case in (*KEYS.values(), *ROWS.values()) for r, _ in case]
    assert len(requests) == len(set(requests))
