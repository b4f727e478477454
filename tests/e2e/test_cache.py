"""Law 5 through the gateway: the cache can't lie."""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import psycopg
import pytest

import resources
from forebay.codec import encode
from forebay.conditional import parse_version
from forebay.routes import Parameter, Route, routes
from local.postgres.config import locate_primary
from tests.fixtures.emulator import wait_until
from tests.fixtures.gateway import Reply
from tests.fixtures.hand import hand_made, status_path
from tests.fixtures.stack import RunningStack, gzipped, new_city

GETS = [route for route in routes(resources.load()) if route.method == "GET"]
CACHED = [(route, part) for route in GETS if route.cached for part in route.parameters]


def named(case: object) -> str:
    return case.name if isinstance(case, Route | Parameter) else str(case)


def asked(stack: RunningStack, route: Route, values: Mapping[Parameter, str]) -> Reply:
    """Request a route with these values of declared parameters, and no others.

    Most of these values are invalid for the function. The cache stores its 400 under the same key
    as a 200.
    """
    by_place = {
        place: {part.name: value for part, value in values.items() if part.location == place}
        for place in ("path", "query", "header")
    }
    path = route.path.format(**{name: quote(text) for name, text in by_place["path"].items()})
    query = f"?{urlencode(by_place['query'])}" if by_place["query"] else ""
    reply = stack.client.get(f"/v1{path}{query}", by_place["header"])
    assert reply.status < 500, reply.body
    return reply


@pytest.mark.parametrize(("route", "part"), CACHED, ids=named)
def test_requests_that_differ_in_a_declared_parameter_share_no_cache_entry(
    stack: RunningStack, route: Route, part: Parameter
) -> None:
    stack.flush_cache()
    base = {other: "1" for other in route.parameters if other.location == "path"}
    variants = [base | {part: "value-a"}, base | {part: "value-b"}, base | {part: ""}]
    if part.location != "path":
        variants.append(base)
    else:
        variants.remove(base | {part: ""})  # addresses another route
    for values in variants:
        assert asked(stack, route, values)["X-Cache"] == "Miss", values
        assert asked(stack, route, values)["X-Cache"] == "Hit", values


@pytest.mark.parametrize("route", [route for route in GETS if route.action == "list"], ids=named)
def test_two_parameters_that_swap_their_values_share_no_cache_entry(
    stack: RunningStack, route: Route
) -> None:
    stack.flush_cache()
    for first, second in itertools.pairwise(route.parameters):
        for values in ({first: "x", second: "y"}, {first: "y", second: "x"}):
            assert asked(stack, route, values)["X-Cache"] == "Miss", values


def test_the_status_of_a_command_is_never_cached(stack: RunningStack) -> None:
    city = new_city()
    status = stack.accepted("PUT", f"/cities/{city['geonameid']}", city)
    assert stack.client.get(status)["X-Cache"] is None
    assert stack.wait_for_status(status)["status"] == "applied"
    assert stack.client.get(status)["X-Cache"] is None


def test_an_undeclared_header_changes_neither_answer_nor_entry(stack: RunningStack) -> None:
    city = new_city()
    stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    path = f"/cities/{city['geonameid']}"
    plain = stack.send("GET", path)
    other = stack.send("GET", path, Prefer="return=minimal", X_Tenant="other", Accept_Language="de")
    assert (plain["X-Cache"], other["X-Cache"]) == ("Miss", "Hit")
    assert plain.body == other.body


@pytest.mark.parametrize("kind", ["item", "list", "status"])
def test_a_transient_failure_is_503_and_never_cached(stack: RunningStack, kind: str) -> None:
    city = new_city()
    key = city["geonameid"]
    status = stack.accepted("PUT", f"/cities/{key}", city)
    stack.wait_for_status(status)
    target = {
        "item": f"/v1/cities/{key}",
        "list": f"/v1/cities?geonameid=eq.{key}",
        "status": status,
    }[kind]
    with stack.replica_away():
        for _ in range(2):
            failed = stack.client.get(target)
            assert (failed.status, failed["Content-Type"]) == (503, "application/problem+json")
            assert failed.json()["code"] == "unavailable"
            assert int(failed["Retry-After"] or 0) >= 1
            assert failed["X-Cache"] != "Hit"
    reply = stack.client.get(target)
    assert reply.status == 200, reply.body
    assert reply["X-Cache"] in (None, "Miss")


@contextmanager
def cities_locked(stack: RunningStack) -> Iterator[None]:
    """Lock `cities` as a migration does that never ends; the replica replays the lock."""
    with psycopg.connect(locate_primary(stack.settings).url()) as migration:
        migration.execute("LOCK TABLE cities IN ACCESS EXCLUSIVE MODE")
        wait_until(
            lambda: (
                stack.as_superuser(
                    "SELECT 1 FROM pg_locks WHERE relation = 'cities'::regclass "
                    "AND mode = 'AccessExclusiveLock'",
                    on_replica=True,
                )
                == [(1,)]
            ),
            "the replica has the lock",
        )
        yield
        migration.rollback()


def test_a_timeout_is_504_and_never_cached(stack: RunningStack) -> None:
    stack.flush_cache()
    target = "/v1/cities?limit=1&order=name"
    with cities_locked(stack):
        slow = stack.client.get(target)
        assert (slow.status, slow["Content-Type"]) == (504, "application/problem+json")
        assert slow.json()["code"] == "timeout"
        assert int(slow["Retry-After"] or 0) >= 1
    reply = stack.client.get(target)
    assert (reply.status, reply["X-Cache"]) == (200, "Miss")


def test_a_304_is_cached_only_for_clients_that_have_the_answer(stack: RunningStack) -> None:
    stack.flush_cache()
    for target in ("/v1/cities?limit=1", "/v1/cities?limit=1&order=name.desc"):
        tag = stack.client.get(target, {"Accept": "text/csv"})["ETag"] or ""
        for use in ("Miss", "Hit"):
            known = stack.client.get(target, {"Accept": "text/csv", "If-None-Match": tag})
            assert (known.status, known.body, known["X-Cache"]) == (304, b"", use)
        stack_answer = stack.client.get(target, {"Accept": "text/csv"})
        assert (stack_answer.status, stack_answer["X-Cache"]) == (200, "Hit")
        assert stack_answer.body
        assert stack.client.get(target)["Content-Type"] == "application/json; charset=utf-8"


def test_head_comes_from_no_cache_and_has_no_body(stack: RunningStack) -> None:
    for _ in range(2):
        head = stack.client.request("HEAD", "/v1/cities", headers={"Prefer": "count=exact"})
        assert (head.status in {200, 206}, head.body, head["X-Cache"]) == (True, b"", None)
        assert "/" in (head["Content-Range"] or "")
    refused = stack.client.request("HEAD", "/v1/cities?contry_code=eq.DE")
    assert refused.status == 400


def test_a_cached_answer_outlives_a_transient_failure(stack: RunningStack) -> None:
    city = new_city()
    stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    before = stack.send("GET", f"/cities/{city['geonameid']}")
    with stack.replica_away():
        during = stack.send("GET", f"/cities/{city['geonameid']}")
    # On a slow machine, the entry may have expired by now.
    if during.status == 200:
        assert (during["X-Cache"], during.body) == ("Hit", before.body)


def test_a_version_that_is_not_there_yet_is_503_and_then_the_same_request_shows_it(
    stack: RunningStack,
) -> None:
    city = new_city()
    command = hand_made(city)
    path = f"/cities/{command.key}"
    early = stack.send("GET", path, Read_After=command.id)
    assert (early.status, early.json()["code"]) == (503, "unavailable")
    assert int(early["Retry-After"] or 0) >= 1

    stack.wait_until_applied(stack.archive(f"late-{uuid.uuid4()}", gzipped([encode(command)])))
    assert stack.wait_for_status(status_path(command))["status"] == "applied"
    reply = stack.send("GET", path, Read_After=command.id)
    assert (reply.status, reply.json()) == (200, city)
    assert parse_version(reply["ETag"] or "") == command.id
