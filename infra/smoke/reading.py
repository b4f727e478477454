"""Steps that only read: they are safe on every environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forebay.errors import SettingsError
from forebay.routes import API_PREFIX
from infra.preflight.findings import Finding, State
from infra.smoke.client import Answer, SmokeClient

_OK = 200
_NOT_MODIFIED = 304
_REFUSED = frozenset({401, 403})
#: A path that no resource can have: names of resources contain no dots.
_UNKNOWN_PATH = "/no.such.path"
_ORIGIN = "https://smoke.example"


def check_root(client: SmokeClient) -> Iterator[Finding]:
    """The API answers, and its root names its parts.

    Raises:
        SettingsError: the API is not at this address, but below it.
    """
    answer = client.send("GET", "/")
    links = _read_links(answer)
    if links:
        yield Finding(State.OK, "root", client.url, f"{len(links)} links")
        return
    if _read_links(client.send("GET", f"{API_PREFIX}/")):
        raise SettingsError(
            f"{client.url} is not the address of the API; pass the stage as well: "
            f"make smoke URL={client.url}{API_PREFIX}"
        )
    next_step = "compare URL with the outputs ApiId and StageName of the service stack"
    detail = f"expected 200 with links, not {answer.describe()}"
    yield Finding(State.WILL_FAIL, "root", client.url, detail, next_step)


def _read_links(answer: Answer) -> Mapping[str, Any]:
    """The links of the API's root; empty if the answer is of another resource."""
    document = answer.read_json()
    if answer.status != _OK or not isinstance(document, dict):
        return {}
    links = document.get("links")
    return links if isinstance(links, dict) else {}


def read_description(client: SmokeClient) -> Mapping[str, Any]:
    """The API's description; empty if there is none."""
    document = client.send("GET", "/openapi.json").read_json()
    return document if isinstance(document, dict) and "paths" in document else {}


def list_resources(description: Mapping[str, Any]) -> list[str]:
    """The paths of the resources, without a slash: those that have items and lists."""
    paths: Mapping[str, Mapping[str, Any]] = description["paths"]
    return sorted(
        path.strip("/")
        for path, operations in paths.items()
        if "get" in operations and f"{path}/{{key}}" in paths
    )


def check_description(description: Mapping[str, Any]) -> Iterator[Finding]:
    """The API describes itself, and has resources."""
    if not description:
        detail = "no description in OpenAPI"
        next_step = "read the log of the function `about`"
        yield Finding(State.WILL_FAIL, "description", "/openapi.json", detail, next_step)
        return
    names = list_resources(description)
    if names:
        detail = f"{len(names)} resources: {', '.join(names)}"
        yield Finding(State.OK, "description", "/openapi.json", detail)
    else:
        next_step = "declare one in resources/, and deploy"
        yield Finding(
            State.WARNING, "description", "/openapi.json", "it has no resources", next_step
        )


def check_health(client: SmokeClient) -> Iterator[Finding]:
    """The pipeline's parts reach each other."""
    answer = client.send("GET", "/status")
    document = answer.read_json()
    if answer.status in _REFUSED:
        yield Finding(
            State.WILL_FAIL,
            "health",
            "/status",
            f"the credentials are refused: {answer.describe()}",
            "pass KEY, or TOKEN, or both, as the environment requires (docs/security.md)",
        )
    elif not isinstance(document, dict) or "reasons" not in document:
        next_step = "read the log of the function `about`"
        yield Finding(State.WILL_FAIL, "health", "/status", answer.describe(), next_step)
    elif document["reasons"]:
        reasons = ", ".join(str(reason["code"]) for reason in document["reasons"])
        next_step = "docs/http.md describes the reasons, docs/runbooks what to do"
        yield Finding(State.WARNING, "health", "/status", reasons, next_step)
    else:
        yield Finding(State.OK, "health", "/status", str(document.get("status", "ok")))


def check_lists(client: SmokeClient, names: Sequence[str]) -> Iterator[Finding]:
    """Each resource's list can be read: its table exists, and a replica answers."""
    for name in names:
        answer = client.send("GET", f"/{name}?limit=1")
        if answer.status == _OK:
            yield Finding(State.OK, "list", f"/{name}", "readable")
        elif answer.status in _REFUSED:
            detail = f"the caller may not read it: {answer.describe()}"
            next_step = f"pass credentials with the scope {name}.read to check it"
            yield Finding(State.WARNING, "list", f"/{name}", detail, next_step)
        else:
            next_step = "read the log of the function `read`"
            yield Finding(State.WILL_FAIL, "list", f"/{name}", answer.describe(), next_step)


def check_problem(client: SmokeClient) -> Iterator[Finding]:
    """An unknown path is answered 404, as a problem that clients can parse."""
    answer = client.send("GET", _UNKNOWN_PATH)
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status == 404 and kind == "application/problem+json":  # noqa: PLR2004 - Not Found
        yield Finding(State.OK, "problem", _UNKNOWN_PATH, answer.describe())
    else:
        detail = (
            f"expected 404 as application/problem+json, not {answer.status} as {kind or 'no type'}"
        )
        next_step = "check that URL ends with the stage, as in …/v1"
        yield Finding(State.WILL_FAIL, "problem", _UNKNOWN_PATH, detail, next_step)


def check_preflight_request(client: SmokeClient, name: str) -> Iterator[Finding]:
    """Browsers may call the API from other origins, if the settings allow it."""
    headers = {"Origin": _ORIGIN, "Access-Control-Request-Method": "GET"}
    answer = client.send("OPTIONS", f"/{name}", headers=headers, with_credentials=False)
    allowed = answer.headers.get("access-control-allow-origin")
    if answer.status in {200, 204} and allowed:
        yield Finding(State.OK, "cors", f"/{name}", f"allows {allowed}")
    elif answer.status in {200, 204, 403}:
        detail = f"{_ORIGIN} is not allowed"
        next_step = 'as intended, unless api.cors_allow_origin is "*"'
        yield Finding(State.WARNING, "cors", f"/{name}", detail, next_step)
    else:
        next_step = "OPTIONS must need no credentials: check the method in API Gateway"
        yield Finding(State.WILL_FAIL, "cors", f"/{name}", answer.describe(), next_step)


def check_cache(client: SmokeClient, name: str) -> Iterator[Finding]:
    """A repeated read has the same tag, and is answered 304 to a client that has the answer."""
    path = f"/{name}?limit=1"
    first, second = client.send("GET", path), client.send("GET", path)
    tag = second.headers.get("etag")
    if first.status != _OK or tag is None:
        next_step = "read the log of the function `read`"
        detail = f"{first.describe()}, tag {tag}"
        yield Finding(State.WILL_FAIL, "cache", path, detail, next_step)
        return
    again = client.send("GET", path, headers={"If-None-Match": tag})
    shown = _describe_cache(second)
    if again.status in {_OK, _NOT_MODIFIED}:
        revalidated = "304 for its tag" if again.status == _NOT_MODIFIED else "new content"
        yield Finding(State.OK, "cache", path, f"{shown}; {revalidated}")
    else:
        next_step = "read the log of the function `read`"
        yield Finding(State.WILL_FAIL, "cache", path, again.describe(), next_step)


def _describe_cache(answer: Answer) -> str:
    """API Gateway names no hits: only CloudFront and the one-machine stack do."""
    hit = answer.headers.get("x-cache", "no X-Cache (the stage cache sends none)")
    return f"{answer.headers.get('cache-control', 'no Cache-Control')}, {hit}"


def check_stranger(client: SmokeClient, name: str) -> Iterator[Finding]:
    """A caller without credentials is refused, if the caller of the test has some."""
    answer = client.send("GET", f"/{name}?limit=1", with_credentials=False)
    if answer.status in _REFUSED:
        yield Finding(State.OK, "stranger", f"/{name}", f"refused: {answer.describe()}")
    elif client.credentials:
        detail = f"answered {answer.status} without credentials, although the test has some"
        next_step = "set api.authorization or api.require_api_key, unless the API is public"
        yield Finding(State.WILL_FAIL, "stranger", f"/{name}", detail, next_step)
    else:
        detail = "everyone may read: the environment requires no credentials"
        yield Finding(State.WARNING, "stranger", f"/{name}", detail)
