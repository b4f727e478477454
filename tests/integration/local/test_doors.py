"""Send every method of every path with every kind of credentials, and compare with the routes.

The expected access is derived from the routes and from `LINES`, the scopes of each kind of route,
without the infrastructure. A new kind of route fails until `LINES` has an entry for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import pytest

import resources
from forebay.routes import API_PREFIX, Action, Route, routes
from tests.fixtures.doors import (
    CALLERS,
    KINDS,
    ONE,
    OTHER,
    Doors,
    Kind,
    allowed_by_policy,
    read_relation,
)
from tests.fixtures.gateway import Reply

# All tests share one emulator with four deployments.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("doors")]

#: The required scopes, of which one is enough; empty for routes that describe the API.
LINES: Final[Mapping[Action, Sequence[str]]] = {
    "index": (),
    "openapi": (),
    "docs": (),
    "asset": (),
    "health": ("status.read",),
    "list": ("{resource}.read",),
    "item": ("{resource}.read",),
    "query": ("{resource}.read",),
    "status": ("{resource}.read", "{resource}.write"),
    "post": ("{resource}.write",),
    "put": ("{resource}.write",),
    "upload": ("{resource}.write",),
    "download": ("{resource}.read",),
    "patch": ("{resource}.write",),
    "patch_many": ("{resource}.write",),
    "delete": ("{resource}.write",),
    "delete_many": ("{resource}.write",),
    "commands": ("commands.write",),
}
#: The methods that API Gateway's `ANY` matches.
METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
#: Two resources with a relation between them, and one with an attachment: every kind of route.
RESOURCES: Final = {
    path: spec
    for path, spec in resources.load().items()
    if path in {ONE, OTHER} or spec.attachments
}
ROUTES: Final = routes(RESOURCES)
PATHS: Final = tuple(dict.fromkeys(route.path for route in ROUTES))
#: Credentials that give no access to any route.
USELESS: Final = ("garbage", "wrong-pool", "expired", "denied")


@dataclass(frozen=True)
class Credentials:
    """The credentials of a request."""

    #: A name in `Doors.tokens`, or None.
    token: str | None
    #: True if the API key is sent.
    key: bool


@dataclass(frozen=True)
class Line:
    """A method of a path."""

    method: str
    path: str

    @property
    def routes(self) -> Sequence[Route]:
        """The route; or if the path lacks the method, all routes of the path."""
        here = [route for route in ROUTES if route.path == self.path]
        return [route for route in here if route.method == self.method] or here

    @property
    def needs(self) -> frozenset[str]:
        """The required scopes, of which one is enough; empty if the line is public."""
        if self.method == "OPTIONS":
            return frozenset()  # a browser's preflight has no credentials
        return frozenset(
            scope.format(resource=route.resource)
            for route in self.routes
            for scope in LINES[route.action]
        )

    @property
    def target(self) -> str:
        return API_PREFIX + self.path.format(
            key="1", id="0199f0c2-0000-7000-8000-000000000000", version="0", file="none"
        )


ALL: Final = tuple(Line(method, path) for path in PATHS for method in METHODS)


def presented(doors: Doors) -> Iterator[Credentials]:
    """Yield every kind of credentials, with an API key if keys are used; two also without a key.

    The emulator checks no policy, so one signature stands for those of all callers.
    """
    has_keys = doors.kind in {"none", "cognito"}
    for token in (None, "everything") if doors.kind == "iam" else (None, *doors.tokens):
        yield Credentials(token, has_keys)
        if has_keys and token in {None, "everything"}:
            yield Credentials(token, key=False)


def may_enter(line: Line, kind: Kind, shown: Credentials) -> bool:
    """Return whether the declaration lets a request reach its function."""
    if not line.needs:
        return True
    needs_key = kind in {"none", "cognito"}
    if needs_key and not shown.key:
        return False
    match kind:
        case "none":
            return True
        case "cognito":
            scopes = CALLERS.get(str(shown.token), ())
            return shown.token not in USELESS and bool(line.needs & set(scopes))
        case "lambda":
            name = "reads-both" if shown.token == "no-relations" else str(shown.token)
            patterns = allowed_by_policy(CALLERS.get(name, ()))
            below = line.target.removeprefix(API_PREFIX)
            return any(
                method == line.method and fnmatchcase(below, pattern)
                for method, pattern in patterns
            )
        case "iam":
            # The emulator only requires a signature, without checking it or any policy.
            return shown.token is not None


def is_refused(reply: Reply) -> bool:
    """Return whether the gateway kept the request from its function.

    To a request without AWS credentials API Gateway answers the same as for an unknown path (see
    `infra.components.gateway_responses`).
    """
    if reply.status in {401, 403}:
        return True
    return (
        reply.status == 404 and reply["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    )


def ask(doors: Doors, line: Line, shown: Credentials) -> Reply:
    return doors.ask(line.method, line.target, shown.token, key=shown.key)


def differing(
    doors: Doors, lines: Sequence[Line], credentials: Sequence[Credentials]
) -> list[tuple[Line, Credentials, int]]:
    """Return the requests that contradict the declaration, with their statuses."""
    wrong = []
    for line in lines:
        for shown in credentials:
            reply = ask(doors, line, shown)
            assert reply.status < 500, (line, shown, reply.body)
            if is_refused(reply) is may_enter(line, doors.kind, shown):
                wrong.append((line, shown, reply.status))
    return wrong


def test_every_kind_of_route_has_a_line() -> None:
    assert {route.action for route in routes(resources.load())} == {
        route.action for route in ROUTES
    }
    assert {route.action for route in ROUTES} <= set(LINES)
    assert {route.public for route in ROUTES if not LINES[route.action]} <= {True}
    assert {route.public for route in ROUTES if LINES[route.action]} <= {False}


@pytest.mark.parametrize("kind", KINDS)
def test_only_declared_callers_get_in(doors: Mapping[Kind, Doors], kind: Kind) -> None:
    door = doors[kind]
    door.gateway.flush()

    assert differing(door, ALL, [*presented(door)]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_answer_is_not_sent_to_other_callers(
    doors: Mapping[Kind, Doors], kind: Kind
) -> None:
    door = doors[kind]
    cached = [Line("GET", route.path) for route in ROUTES if route.cached]
    welcome = Credentials("everything" if door.tokens else None, key=True)
    for line in cached:
        for _ in range(2):
            reply = ask(door, line, welcome)
            assert not is_refused(reply)
        # For other authorizers the gateway records no authorization, so there is no hit.
        if kind in {"none", "cognito"}:
            assert reply["X-Cache"] == "Hit"

    assert differing(door, cached, [*presented(door)]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_spelling_of_a_path_is_a_way_around_its_door(
    doors: Mapping[Kind, Doors], kind: Kind
) -> None:
    door, wrong = doors[kind], []
    for line in (candidate for candidate in ALL if candidate.needs):
        below = line.target.removeprefix(API_PREFIX)
        for target in (
            f"{API_PREFIX}{below}/",
            f"{API_PREFIX}/{below}",
            f"/{API_PREFIX}{below}//",
            f"{API_PREFIX}/.{below}",
            f"{API_PREFIX}/docs/..{below}",
            f"{API_PREFIX}{below[:1]}%{ord(below[1]):x}{below[2:]}",
            f"{API_PREFIX}{below.upper()}",
            f"{API_PREFIX}{below};x",
            f"{API_PREFIX}{below}?x=1",
        ):
            reply = door.ask(line.method, target, key=False)
            # `..` is not a step up here but a name below a public page, which lacks the method.
            of_page = reply.status == 405 and "/docs/" in reply.json()["detail"]
            if reply.status not in {400, 401, 403, 404} and not of_page:
                wrong.append((line.method, target, reply.status))
    assert wrong == []


@pytest.mark.parametrize("kind", ["cognito", "lambda", "iam"])
def test_a_relation_requires_its_scope_with_and_without_a_cached_answer(
    doors: Mapping[Kind, Doors], kind: Kind
) -> None:
    target, scope = read_relation()
    door = doors[kind]
    without = "no-relations" if kind == "lambda" else "reads-one"
    callers = ["reads-both", "reads-both", without, "everything", without, "reads-both"]
    replies = [door.ask("GET", target, name, key=kind == "cognito") for name in callers]

    assert [reply.status for reply in replies] == [200, 200, 403, 200, 403, 200]
    for reply in (replies[2], replies[4]):
        assert reply.json()["code"] == "forbidden"
        assert f"forebay/{scope}" in reply.json()["detail"]
        assert OTHER in reply.json()["detail"]
    if kind == "cognito":
        assert replies[1]["X-Cache"] == "Hit"


def test_an_api_key_alone_reads_relations_if_only_keys_are_required(
    doors: Mapping[Kind, Doors],
) -> None:
    target, _ = read_relation()
    door = doors["none"]

    assert door.ask("GET", target, key=False).status == 403
    assert door.ask("GET", target, key=True).status == 200


def test_answers_to_signed_requests_are_not_cached(doors: Mapping[Kind, Doors]) -> None:
    """A signature may be in the query, which would not be part of a cache key."""
    door = doors["iam"]
    target = f"{API_PREFIX}/{ONE}"
    replies = [door.ask("GET", target, "reads-one", key=False) for _ in range(2)]

    assert [(reply.status, reply["X-Cache"]) for reply in replies] == [(200, None)] * 2
