"""Law 5: the read function sees only those parts of a request that are cache keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq.abc import PGresult

import resources
from forebay.access import Access
from forebay.attachments import Bucket
from forebay.db.session import Session
from forebay.log import Log
from forebay.problem import ProblemError
from forebay.query.parse import parse_list
from forebay.resource.relations import find_relations
from forebay.routes import Route, routes
from forebay.signing import Credentials
from lambdas.read.app import ReadApp
from lambdas.read.database import ReadDatabase, Rows, Texts
from lambdas.read.downloads import DownloadReader
from lambdas.read.items import ItemReader
from lambdas.read.lists import ListReader
from lambdas.read.read_after import ReadAfter
from lambdas.read.sql.statement import Query
from lambdas.read.statuses import StatusReader
from lambdas.read.visibility import Visibility
from tests.fixtures.api import event

RELATIONS = find_relations(resources.load())
GETS = [
    route
    for route in routes(resources.load())
    if route.function in {"read", "status"} and route.method in {"GET", "HEAD"}
]
KEYS = {
    "announcements": "0199f0c2-0000-7000-8000-000000000000",
    "cities": "5",
    "countries": "DE",
    "pictures": "harbour",
}
IMAGE = {"id": "0199f0c2-0000-7000-8000-000000000001", "name": None, "type": "image/png"}
UNDECLARED = [
    *("select", "offset", "foo", "key", "limit", "id", "Authorization", "Origin", "Host"),
    *("Accept", "Cookie", "If-None-Match", "Read-After", "Prefer", "User-Agent"),
]
COMMAND_ID = "0199f0c2-0000-7000-8000-000000000000"


class Watched(dict[str, Any]):
    """A mapping that records the names that are read from it."""

    def __init__(self, content: Mapping[str, Any], name: str, seen: set[str]) -> None:
        super().__init__(content)
        self._name = name
        self._seen = seen

    def __getitem__(self, key: str) -> Any:
        self._seen.add(f"{self._name}.{key}")
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(f"{self._name}.{key}")
        return super().get(key, default)

    def items(self) -> Any:
        self._seen.add(f"{self._name}.*")
        return super().items()

    def __iter__(self) -> Iterator[str]:
        self._seen.add(f"{self._name}.*")
        return super().__iter__()


class RecordingDatabase(ReadDatabase):
    """A database that returns the same rows for every query, and records the queries."""

    def __init__(self) -> None:
        super().__init__(cast("Session", None), cast("Session", None))
        self.queries: list[tuple[str, str]] = []

    def fetch(self, query: Query) -> Rows:
        self.queries.append((query.as_bytes().decode(), repr(query[1])))
        if "tombstones" in self.queries[-1][0]:
            return [(COMMAND_ID, False, *[None] * 9)]
        if "WITH found" in self.queries[-1][0]:
            return [("[]", 1, True, ["5"], ["5"], 2, None)]
        return [(COMMAND_ID, None, orjson.dumps({"a": 1, "image": IMAGE}).decode())]

    fetch_from_primary = fetch

    def fetch_texts(self, query: Query) -> Texts:
        self.fetch(query)
        return Texts(cast("PGresult", OneRow()))


class OneRow:
    """A result of libpq: one row of a list."""

    ntuples, nfields = 1, 2

    def get_value(self, row: int, column: int) -> bytes:
        return ((b'{"a":1,"geonameid":1,"code":"DE","id":"","slug":""}', b"5"),)[row][column]


def app(database: ReadDatabase) -> ReadApp:
    visibility = Visibility(database, sleep=lambda _: None)
    specs, access = resources.load(), Access("none")
    read_after = ReadAfter(visibility, specs, access, wait_seconds=0, window_seconds=600)
    items = ItemReader(database, read_after)
    downloads = DownloadReader(
        Bucket("files", "eu-west-1", "", 900),
        items,
        lambda: Credentials("AKID", "secret", None),
        lambda: dt.datetime(2026, 11, 30, tzinfo=dt.UTC),
    )
    return ReadApp(
        resources=specs,
        items=items,
        downloads=downloads,
        lists=ListReader(database, RELATIONS, access, read_after),
        statuses=StatusReader(visibility, buffer_seconds=1, wait_cap_seconds=0),
        log=Log("test"),
    )


def request(route: Route, **changes: Any) -> dict[str, Any]:
    path = {"key": KEYS[route.resource], "id": COMMAND_ID}
    declared = {
        parameter.name: path[parameter.name]
        for parameter in route.parameters
        if parameter.location == "path"
    }
    return {**event(route.method, route.path, path=declared), **changes}


@pytest.mark.parametrize("route", GETS, ids=lambda route: route.name)
def test_the_function_reads_only_the_route_and_three_groups_of_parameters_of_an_event(
    route: Route,
) -> None:
    seen: set[str] = set()
    app(RecordingDatabase()).handle(Watched(request(route), "event", seen))
    # If a request may name other resources, the caller is read too, and is part of the cache key.
    caller = {"event.requestContext"} if route.names_others else set()
    assert seen <= caller | {
        "event.httpMethod",
        "event.resource",
        "event.headers",
        "event.pathParameters",
        "event.queryStringParameters",
    }


@pytest.mark.parametrize("route", GETS, ids=lambda route: route.name)
@given(data=st.data())
def test_undeclared_parameters_change_neither_answer_nor_query(
    route: Route, data: st.DataObject
) -> None:
    declared = {(parameter.location, parameter.name.lower()) for parameter in route.parameters}
    names = st.sampled_from(UNDECLARED)
    extra = data.draw(st.dictionaries(names, st.text(max_size=5), max_size=4))
    plain, noisy = RecordingDatabase(), RecordingDatabase()
    request_ = request(route)
    undeclared = {
        kind: {
            name: value for name, value in extra.items() if (location, name.lower()) not in declared
        }
        for kind, location in (
            ("headers", "header"),
            ("queryStringParameters", "query"),
            ("pathParameters", "path"),
        )
    }
    changed: dict[str, Any] = {
        kind: {**(request_[kind] or {}), **more} for kind, more in undeclared.items()
    }
    changed |= {"requestContext": {"authorizer": {"claims": {"sub": "x"}}}, "body": "x"}
    changed["multiValueQueryStringParameters"] = {"limit": ["1", "2"]}
    answers = [
        app(plain).handle(request_).to_proxy(),
        app(noisy).handle({**request_, **changed}).to_proxy(),
    ]
    assert answers[0] == answers[1]
    assert plain.queries == noisy.queries


@pytest.mark.parametrize("route", GETS, ids=lambda route: route.name)
def test_every_declared_parameter_reaches_the_view(route: Route) -> None:
    values = {parameter: f"v{index}" for index, parameter in enumerate(route.parameters)}
    groups: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
    for parameter, value in values.items():
        groups[parameter.location][parameter.name] = value
    view = route.view(
        {
            "pathParameters": groups["path"],
            "queryStringParameters": groups["query"],
            "headers": groups["header"],
        }
    )
    view_values = {*view.path.values(), *view.query.values(), *view.headers.values()}
    assert view_values == set(values.values())


@pytest.mark.parametrize("path", resources.load())
def test_the_grammar_reads_only_what_lists_declare(path: str) -> None:
    """A word that the parser reads but no route declares would be a hole in the cache key."""
    spec = resources.load()[path]
    route = next(route for route in GETS if route.name == f"{path}.list")
    seen: set[str] = set()
    query = Watched({}, "query", seen)

    class Everywhere(Watched):
        def __contains__(self, name: object) -> bool:
            seen.add(f"query.{name}")
            return False

    parse_list(spec, RELATIONS[path], Everywhere(query, "query", seen))
    declared = {f"query.{parameter.name}" for parameter in route.parameters}
    assert seen
    assert seen <= declared


@pytest.mark.parametrize("action", ["list", "item"])
def test_vary_names_every_declared_header_that_chooses_the_answer(action: str) -> None:
    route = next(route for route in GETS if route.name == f"cities.{action}")
    declared = {candidate.name for candidate in route.parameters if candidate.location == "header"}
    vary = app(RecordingDatabase()).handle(request(route)).headers["Vary"]
    # `If-None-Match` does not select another representation (RFC 9110 §12.5.5).
    assert set(vary.split(", ")) == declared - {"If-None-Match"}


@pytest.mark.parametrize("route", GETS, ids=lambda route: route.name)
def test_head_is_declared_like_get_and_never_cached(route: Route) -> None:
    if route.method == "HEAD":
        get = next(
            candidate for candidate in GETS if candidate.name == route.name.removesuffix(".head")
        )
        assert route.parameters == get.parameters
        assert not route.cached


def test_an_error_of_the_database_is_raised_not_answered() -> None:
    class Down(RecordingDatabase):
        def fetch(self, _query: Query) -> Rows:
            raise ConnectionError("the replica is away")

    for route in GETS:
        with pytest.raises(ConnectionError):
            app(Down()).handle(request(route))


def test_a_bad_parameter_is_answered_because_its_value_is_a_cache_key() -> None:
    spec = resources.load()["cities"]
    with pytest.raises(ProblemError):
        parse_list(spec, RELATIONS["cities"], {"population": "gte.many"})
    route = next(route for route in GETS if route.name == "cities.list")
    bad = request(route, queryStringParameters={"population": "gte.many"})
    assert app(RecordingDatabase()).handle(bad).status == 400
