"""Every request of `tests/fixtures/read_cases.py`, as a GET and as a form, with its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from forebay.http import Response
from forebay.query.grammar import list_parameters
from forebay.resource.relations import relations
from local.postgres.config import OWNER
from tests.fixtures import festival
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.read_cases import FORMS, KEYS, REFUSED, ROWS
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import Database, create_tables, open_connection

RELATIONS = relations(festival.RESOURCES)
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
        for kind, found in kinds.items()
        for request, expected in found
    ]


def taken_apart(request: str) -> tuple[str, dict[str, str]]:
    """The resource and the parameters, which are all given once."""
    path, _, query = request.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return path, dict(pairs)


def got(reader: Reader, request: str) -> Response:
    """The answer to a GET, of which the cache knows all parameters; a form's is the same."""
    path, query = taken_apart(request)
    assert query.keys() <= set(list_parameters(festival.RESOURCES[path], RELATIONS[path]))
    response = reader.get(path, query=query)
    form = reader.ask(path, urlencode(query))
    assert (
        form.status,
        json.loads(form.body).get("code") if form.status >= 300 else form.body,
    ) == (
        response.status,
        json.loads(response.body)["code"] if response.status >= 300 else response.body,
    )
    return response


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
    found = json.loads(response.body)
    assert found == json.loads(expected)
    # The order of members is the request's too.
    assert json.dumps(found) == json.dumps(json.loads(expected))


@pytest.mark.parametrize(("request_", "code", "words"), REFUSED)
def test_a_refusal_has_its_code_and_says_what_to_do(
    reader: Reader, request_: str, code: str, words: str
) -> None:
    response = got(reader, request_)
    problem = json.loads(response.body)
    assert problem["code"] == code, problem
    assert words in f"{problem['detail']} {problem['hint']}"


@pytest.mark.parametrize(("request_", "expected"), FORMS)
def test_a_form_may_have_names_that_no_cache_knows(
    reader: Reader, request_: str, expected: str
) -> None:
    path, query = taken_apart(request_)
    assert not query.keys() <= set(list_parameters(festival.RESOURCES[path], RELATIONS[path]))
    assert keys(reader.ask(path, urlencode(query)), path) == expected
