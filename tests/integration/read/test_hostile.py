"""Attackers' texts in every parameter of every read; the tables stay as they are.

The parameters come from the routes, so a new parameter is tested automatically.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

import resources
from forebay.command import Command
from forebay.errors import NotYetVisibleError
from forebay.http import Response
from forebay.ids import is_command_id
from forebay.routes import Parameter, Route, routes
from local.postgres.config import OWNER
from tests.fixtures import hostile, model
from tests.fixtures.api import event
from tests.fixtures.commands import city, command_id, country
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, reader_for, reader_of
from tests.fixtures.tables import Database, create_tables, open_connection

READS = [route for route in routes(resources.load()) if route.function in {"read", "status"}]
KEYS = {
    "cities": "1",
    "countries": "AD",
    "announcements": "0199f0c2-0000-4000-8000-000000000000",
    "pictures": "harbour",
}
ANNOUNCEMENT = Command(
    id=command_id(11),
    op="put",
    resource="announcements",
    key=KEYS["announcements"],
    schema=1,
    by="test",
    trace=None,
    body={
        "title": "t",
        "body": "b",
        "published_on": "2026-01-01",
        "expires_at": None,
        "status": "published",
        "pinned": False,
        "tags": ["a"],
    },
)
#: Places for a text: every form of value in the grammar, and the text alone.
FORMS = (
    "{}",
    "eq.{}",
    "not.eq.{}",
    'in.("{}",b)',
    "like.{}",
    "match.{}",
    "like(any).{{{}}}",
    "fts({}).a",
    "plfts.{}",
    "cs.{}",
    "cs.{{{}}}",
    "is.{}",
    "gte.{}",
    "isdistinct.{}",
    "(name.eq.{})",
    "({}.eq.a)",
    "name,{}",
    "{}:name",
    "name::{}",
    "name->{}",
    "name->>{}",
    "country({})",
    "name.{}",
    "wait={}",
    "count={}",
    '"{}"',
    'W/"{}"',
)
#: `make test` sends one of so many shares of the texts, another for each parameter; the long test
#: sends all texts to all parameters.
SHARES = 5


_CATALOGUE = """
    SELECT relname, relkind, relnatts FROM pg_class
    WHERE relnamespace IN ('public'::regnamespace, 'forebay'::regnamespace) ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Target:
    """The read function over a few rows that must not change."""

    reader: Reader
    database: Database

    def ask(self, route: Route, location: str, name: str, text: str) -> Response:
        """Send a valid request in which one parameter has this text."""
        path = {"key": KEYS[route.resource], "id": command_id(1)}
        path = {known: path[known] for known in path if f"{{{known}}}" in route.path}
        query: dict[str, str] = {}
        headers: dict[str, str] = {}
        {"path": path, "query": query, "header": headers}[location][name] = text
        try:
            response = self.reader.app.handle(
                event(route.method, route.path, path=path, query=query, headers=headers)
            )
            response.body.encode()
        except NotYetVisibleError:
            assert name == "Read-After"
            assert is_command_id(text.strip())
            return Response(304)  # the gateway answers 503: the command may still arrive
        except Exception as exc:  # noqa: BLE001 - a failed test's report can't hold surrogates
            raise AssertionError(ascii((route.name, location, name, text, repr(exc)))) from None
        return response

    def attack(self, route: Route, parameter: Parameter, text: str) -> int:
        """Send a hostile text, check the answer, and return its status."""
        response = self.ask(route, parameter.location, parameter.name, text)
        about = ascii((route.name, parameter, text, response.status, response.body[:500]))
        assert response.status in {200, 202, 206, 300, 304, 307} or 400 <= response.status < 500, (
            about
        )
        for value in response.headers.values():
            assert all(" " <= char < "\x7f" for char in value), about
        if response.status >= 400 and response.body:
            assert response.content_type == "application/problem+json", about
            problem = json.loads(response.body)
            assert problem["status"] == response.status, about
            assert problem["message"], about
            assert not hostile.leaks(response.body, [text]), about
        return response.status

    def state(self) -> tuple[Any, ...]:
        """Return all rows, and the catalogue entries of all our objects."""
        return tuple(
            tuple(self.database.rows(query))
            for query in (
                "SELECT * FROM cities ORDER BY 1",
                "SELECT * FROM countries ORDER BY 1",
                "SELECT * FROM announcements ORDER BY 1",
                "SELECT * FROM pictures ORDER BY 1",
                _CATALOGUE,
                "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
                "SELECT rolname, rolsuper FROM pg_roles ORDER BY 1",
            )
        )


@pytest.fixture(scope="module")
def target(postgres_cluster: PostgresServer) -> Iterator[Target]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            database = Database(url, connection)
            rows = [city(number, key=number) for number in range(1, 6)]
            rows += [country(9, "AD"), country(10, "DE", name="Germany"), ANNOUNCEMENT]
            rows += [picture(12, KEYS["pictures"]), picture(13, "quay")]
            database.apply(rows)
            reader = reader_of(
                url,
                url,
                FOREBAY_READ_AFTER_WAIT_SECONDS="0",
                FOREBAY_WAIT_CAP_SECONDS="0",
                FOREBAY_ATTACHMENTS_BUCKET="files",
                AWS_REGION="eu-west-1",
            )
            # The process's credentials sign the downloads.
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("AWS_ACCESS_KEY_ID", "AKID")
                environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
                yield Target(reader, database)
            close(reader)


def picture(number: int, key: str) -> Command:
    """A put of a picture with an image."""
    image = {"id": command_id(number), "name": None, "type": "image/png", "size": 1}
    body = {"title": f"Picture {number}", "image": image}
    return Command(command_id(number), "put", "pictures", key, 1, "test", None, body)


def spelled(form: str, text: str) -> str:
    """Put the text into a form, escaped where the form has quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"') if '"{}"' in form else text
    return form.format(escaped)


def texts(number: int, share: int) -> Iterator[str]:
    """Yield the texts of a share for one parameter, each alone and in a form."""
    for index, text in enumerate((*hostile.TEXTS, *hostile.SURROGATES)):
        if index % SHARES == share:
            yield text
            yield spelled(FORMS[(index + number) % len(FORMS)], text)


def attack_all(target: Target, route: Route, shares: Sequence[int]) -> set[int]:
    """Attack every parameter of a route; return the statuses."""
    seen = set()
    for number, parameter in enumerate(route.parameters):
        for share in shares or [number % SHARES]:
            for text in texts(number, share):
                seen.add(target.attack(route, parameter, text))
                if parameter.location == "path":
                    encoded = quote(text, safe="", errors="surrogatepass")
                    seen.add(target.attack(route, parameter, encoded))
    return seen


@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
def test_any_parameter(target: Target, route: Route) -> None:
    before = target.state()
    seen = attack_all(target, route, [])
    assert any(status < 400 for status in seen), "nothing got as far as the database"
    assert any(status >= 400 for status in seen)
    assert target.state() == before


@pytest.mark.parametrize(
    "route", [r for r in READS if r.name.endswith(".list")], ids=lambda route: route.name
)
def test_any_parameter_of_a_form(target: Target, route: Route) -> None:
    before = target.state()
    seen = set()
    for number, parameter in enumerate(route.parameters):
        if parameter.location == "query":
            for text in texts(number, number % SHARES):
                form = urlencode({parameter.name: text}, errors="surrogatepass")
                seen.add(target.reader.ask(route.path.strip("/"), form).status)
    assert {status // 100 for status in seen} == {2, 4}
    assert target.state() == before


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
def test_any_parameter_with_any_text(target: Target, route: Route) -> None:
    before = target.state()
    attack_all(target, route, range(SHARES))
    assert target.state() == before


@pytest.mark.parametrize("text", hostile.SQL)
def test_filter_values_match_as_written(target: Target, text: str) -> None:
    """A text with SQL in it is compared as a value, and equals itself."""
    if "\n" in text:
        return
    target.database.apply([city(1_000, key=1_000, name=text)], source=f"commands/{text!a}")
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    for query in ({"name": f"eq.{text}"}, {"name": f'in.("{quoted}")'}):
        response = target.reader.get("cities", query={**query, "select": "name"})
        assert json.loads(response.body) == [{"name": text}], query
    target.database.connection.execute("DELETE FROM cities WHERE geonameid = 1000")
    target.database.connection.execute("TRUNCATE forebay.ledger")


# Cursors have a digest without a secret, so a client can forge them.


def forged(cursor: str, **changes: Any) -> str:
    """Build a cursor with changed content and a matching digest."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    content = json.loads(raw[8:])
    version, owner, backward, values = content
    members = {
        "version": version,
        "owner": owner,
        "backward": backward,
        "values": values,
        **changes,
    }
    line = json.dumps(list(members.values()), separators=(",", ":")).encode()
    digest = hashlib.sha256(line).digest()[:8]
    return base64.urlsafe_b64encode(digest + line).rstrip(b"=").decode()


def ask_list(target: Target, path: str, query: dict[str, str]) -> Response:
    return target.reader.app.handle(event("GET", f"/{path}", query=query))


ORDERS = [
    (route.resource, column.name)
    for route in READS
    if route.name.endswith(".list")
    for column in resources.load()[route.resource].columns
    if column.comparable
]


@pytest.mark.parametrize(("path", "column"), ORDERS, ids=[".".join(order) for order in ORDERS])
def test_a_forged_cursor_is_a_place_in_the_order_or_refused(
    target: Target, path: str, column: str
) -> None:
    """Its values are validated as a filter's are, and the rest of it must match the query."""
    before = target.state()
    query = {"order": column, "limit": "1", "select": column}
    if path == "announcements":
        target.database.apply(
            [ANNOUNCEMENT._replace(id=command_id(12), key=KEYS[path][:-1] + "1")],
            source="commands/second.gz",
        )
        before = target.state()
    link = ask_list(target, path, query).headers["Link"]
    cursor = parse_qs(urlsplit(link[1 : link.index(">")]).query)["cursor"][0]
    _, _, _, values = json.loads(base64.urlsafe_b64decode(cursor + "==="[: -len(cursor) % 4])[8:])
    assert ask_list(target, path, {**query, "cursor": forged(cursor)}).status == 200
    hostile_values: tuple[Any, ...] = (*hostile.TEXTS, None, 5, 1e300, True, [], {"a": 1}, [[[]]])
    for text in hostile_values:
        forged_cursor = forged(cursor, values=[text, *values[1:]])
        response = ask_list(target, path, {**query, "cursor": forged_cursor})
        assert response.status in {200, 206, 400, 416}, ascii((text, response))
        if response.status >= 400:
            problem = json.loads(response.body)
            assert problem["code"] in {"bad_cursor", "PGRST100"}, ascii(problem)
            assert not hostile.leaks(response.body, [str(text)])
    changes: tuple[dict[str, Any], ...] = (
        *({"version": 1}, {"version": "2"}, {"version": 2**70}, {"owner": "x"}, {"owner": None}),
        *({"backward": "x"}, {"backward": None}, {"values": []}, {"values": [*values, "x"]}),
        *({"values": None}, {"values": {"a": 1}}, {"more": 1}, {"owner": "x" * 5_000}),
    )
    for change in changes:
        response = ask_list(target, path, {**query, "cursor": forged(cursor, **change)})
        assert (response.status, json.loads(response.body)["code"]) == (400, "bad_cursor"), change
    assert target.state() == before


# Keys that look alike

TWINS = ("\u00c5", "A\u030a", "\u212b", "\ufb01", "fi", "\u0435", "e", "D\u200bE", "DE", "\u202eDE")


def test_keys_that_look_alike_are_keys_of_their_own(postgres_cluster: PostgresServer) -> None:
    """Keys are not normalised: a client finds the key that it wrote, and no other item."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            create_tables(connection, model.RESOURCES)
            shelves = [
                Command(command_id(n), "put", "shelves", key, 1, "t", None, {"label": f"{n}"})
                for n, key in enumerate(TWINS)
            ]
            outcome = Database(url, connection).apply(shelves, resources=model.RESOURCES)
        assert outcome.counts.applied == len(TWINS)
        reader = reader_for(url, model.RESOURCES)
        for number, key in enumerate(TWINS):
            response = reader.get("shelves", key=quote(key, safe=""))
            assert json.loads(response.body) == {"code": key, "label": f"{number}"}
            listed = reader.get("shelves", query={"code": f"eq.{key}"})
            assert len(json.loads(listed.body)) == 1
        close(reader)
