"""Unusual but legal HTTP: each list request has its standard meaning, cached or not."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pytest

from loader.data import read_countries
from tests.fixtures.gateway import Reply
from tests.fixtures.stack import RunningStack

COUNTRIES = {str(item.key): item.body for item in read_countries()}
CODES = sorted(COUNTRIES)
OBJECT = "application/vnd.pgrst.object+json"
# Headers that differ from answer to answer.
OF_ONE_ANSWER = {"date", "x-cache", "x-amzn-requestid", "x-amz-apigw-id", "content-length"}
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def loaded(shared_stack: RunningStack) -> RunningStack:
    """The stack with every country."""
    shared_stack.empty()
    reply = shared_stack.send("POST", "/countries", list(COUNTRIES.values()))
    shared_stack.settle()
    shared_stack.wait_for_status(reply.json()["results"][-1]["links"]["status"])
    shared_stack.flush_cache()
    return shared_stack


def ask(stack: RunningStack, query: str = "", headers: Headers = ()) -> Reply:
    """Return the answer; check that the cached answer and the answer to HEAD agree with it."""
    target = f"/v1/countries{query and '?'}{query}"
    first, again = (stack.client.get(target, headers) for _ in range(2))
    assert first.status < 500, first.body
    assert told(again) == told(first)
    head = stack.client.request("HEAD", target, headers)
    assert (head.status, head.body, meaning(head)) == (first.status, b"", meaning(first))
    return first


def meaning(reply: Reply) -> dict[str, str]:
    """The headers that all answers to the same request share."""
    named = {name.lower(): value for name, value in reply.headers}
    return {name: value for name, value in named.items() if name not in OF_ONE_ANSWER}


def told(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """The status, the body and the shared headers of an answer."""
    return reply.status, reply.body, meaning(reply)


def codes(reply: Reply) -> list[str]:
    assert reply.status in {200, 206}, reply.body
    return [row["code"] for row in reply.json()]


# Headers


@pytest.mark.parametrize("name", ["accept", "ACCEPT", "aCCept"])
@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/csv", "text/csv"),
        ("TEXT/CSV ; q=0.8, application/json;q=0.80", "text/csv"),
        ("text/csv;q=0.9,*/*;q=0.1", "text/csv"),
        ("text/*, application/xml", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("*/*;q=0.000, application/json;q=0.001", "application/json"),
        (f"{OBJECT};q=0.5, application/json", "application/json"),
        ("text/csv;charset=utf-8", "text/csv"),
        ("", "application/json"),
        (",,text/csv,,", "text/csv"),
        ("application/xml", None),
        ("text/csv;q=0", None),
        ("text/csv;q=nonsense", None),
    ],
)
def test_accept(loaded: RunningStack, name: str, accept: str, media: str | None) -> None:
    reply = ask(loaded, "code=eq.DE&select=code", {name: accept})
    if media is None:
        assert (reply.status, reply.json()["code"]) == (406, "PGRST107")
    else:
        assert reply.status == 200
        assert (reply["Content-Type"] or "").partition(";")[0] == media
        body = {"text/csv": b"code\r\nDE\r\n", "application/json": b'[{"code":"DE"}]'}[media]
        assert reply.body == body


@pytest.mark.parametrize(
    ("headers", "found", "content_range"),
    [
        ({"Range": "0-1"}, CODES[:2], "0-1/*"),
        ({"range": "5-", "range-unit": "items"}, CODES[5:], "5-251/*"),
        ({"Range": " 3-3 ", "Range-Unit": " ITEMS "}, CODES[3:4], "3-3/*"),
        ({"Range": "250-9999999999999999999999"}, CODES[250:], "250-251/*"),
        # Not in this API's syntax, so ignored (RFC 9110 §14.2).
        ({"Range": "items=0-1"}, CODES[:100], "0-99/*"),
        ({"Range": "bytes=0-1"}, CODES[:100], "0-99/*"),
        ({"Range": "0-1", "Range-Unit": "bytes"}, CODES[:100], "0-99/*"),
        ({"Range": "-5"}, CODES[:100], "0-99/*"),
        ({"Range": "0-1,5-6"}, CODES[:100], "0-99/*"),
        ({"Range": "0x1-2"}, CODES[:100], "0-99/*"),
        ({"Range": "\xb2-3"}, CODES[:100], "0-99/*"),
        ({"Range": ""}, CODES[:100], "0-99/*"),
        ({"Range": "900-"}, [], "*/*"),
    ],
)
def test_range(
    loaded: RunningStack, headers: dict[str, str], found: list[str], content_range: str
) -> None:
    reply = ask(loaded, "select=code", headers)
    assert codes(reply) == found
    assert reply["Content-Range"] == content_range


def test_a_range_that_can_mean_no_row_is_416(loaded: RunningStack) -> None:
    for query, range_ in (("", "9-5"), ("limit=5", "10-19"), ("offset=7", "0-3")):
        reply = ask(loaded, query, {"Range": range_})
        assert (reply.status, reply.json()["code"]) == (416, "PGRST103"), (query, range_)


@pytest.mark.parametrize(
    ("prefer", "applied", "total"),
    [
        ("count=exact", "count=exact", "252"),
        ("COUNT=exact", "count=exact", "252"),
        ('count="exact"', "count=exact", "252"),
        ("count=exact;x=1, handling=lenient", "count=exact, handling=lenient", "252"),
        ("handling=strict,count=estimated", "count=estimated, handling=strict", "252"),
        ("count=exact, count=planned", "count=exact", "252"),
        ("respond-async, wait=5", None, "*"),
        ("count=all", None, "*"),
        ("count", None, "*"),
        ("", None, "*"),
        (",,=,;", None, "*"),
    ],
)
def test_prefer(loaded: RunningStack, prefer: str, applied: str | None, total: str) -> None:
    reply = ask(loaded, "limit=1", {"Prefer": prefer})
    assert reply["Preference-Applied"] == applied
    assert reply["Content-Range"] == f"0-0/{total}"
    assert reply.status == (200 if total == "*" else 206)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Accept", ("text/csv", "application/json")),
        ("Prefer", ("count=exact", "handling=lenient")),
        ("Range", ("0-1", "5-6")),
        ("If-None-Match", ('W/"a"', "*")),
    ],
)
def test_function_and_cache_see_the_same_value_of_a_repeated_header(
    loaded: RunningStack, name: str, values: tuple[str, str]
) -> None:
    """API Gateway chooses the value; the cache entry must be for the chosen value."""
    alone = [told(ask(loaded, "select=code", {name: value})) for value in values]
    for pair in (values, values[::-1]):
        both = told(ask(loaded, "select=code", [(name, value) for value in pair]))
        assert both in [*alone, told(ask(loaded, "select=code", {name: ", ".join(pair)}))]
    assert alone == [told(ask(loaded, "select=code", {name: value})) for value in values]


def test_requests_that_differ_in_a_header_have_answers_of_their_own(loaded: RunningStack) -> None:
    """The second round gets every answer from the cache."""
    tag = ask(loaded, "code=eq.DE")["ETag"] or ""
    variants: list[dict[str, str]] = [
        *({}, {"Accept": "text/csv"}, {"Accept": OBJECT}, {"Accept": "application/xml"}),
        *({"Prefer": "count=exact"}, {"Prefer": "count=exact", "Accept": "text/csv"}),
        *({"Range": "0-0"}, {"Range": "0-0", "Range-Unit": "bytes"}, {"Range": "5-"}),
        *({"If-None-Match": tag}, {"If-None-Match": "*"}, {"If-None-Match": 'W/"no"'}),
        *({"Prefer": "handling=strict, x"}, {"Range": "9-5"}),
    ]
    fresh = []
    loaded.flush_cache()
    for variant, use in itertools.chain(
        ((variant, "Miss") for variant in variants), ((variant, "Hit") for variant in variants)
    ):
        reply = loaded.client.get("/v1/countries?code=eq.DE", variant)
        assert reply["X-Cache"] == use, variant
        fresh.append(told(reply))
    assert fresh[: len(variants)] == fresh[len(variants) :]
    assert [status for status, _, _ in fresh[: len(variants)]] == [
        *(200, 200, 200, 406, 200, 200, 200, 200, 200, 304, 304, 200, 400, 416),
    ]
    for status, body, headers in fresh:
        if status in {200, 304}:
            assert headers["vary"] == "Accept, Prefer, Range, Range-Unit, Read-After"
            assert headers["cache-control"] == "no-cache"
            assert headers["etag"].startswith('W/"')
        else:
            assert headers["cache-control"] == "no-store"
            assert json.loads(body)["status"] == status


# Parameters


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("code=in.(DE,FR)", ["DE", "FR"]),
        ("code=in.%28DE%2cFR%29", ["DE", "FR"]),
        ("%63ode=in.%28DE%2CFR%29", ["DE", "FR"]),
        ("name=eq.Bonaire,%20Saint%20Eustatius%20and%20Saba%20", ["BQ"]),
        ("name=eq.Bonaire,+Saint+Eustatius+and+Saba+", ["BQ"]),
        ("name=eq.S%C3%A3o+Tom%C3%A9+and+Pr%C3%ADncipe", []),
        # Invalid UTF-8: the gateway replaces it by U+FFFD.
        ("name=eq.%ff", []),
        ("name=eq.%ed%a0%80", []),
        ("capital=like.*%f0%9f%98%80*", []),
        ("capital=eq.a%26b%3Dc%23d%25", []),
        ("and=(code.gte.ZA,code.lt.ZZ)", [code for code in CODES if code >= "ZA"]),
        ("order=code.desc&limit=2", CODES[:-3:-1]),
        ("code=eq.DE&", ["DE"]),
    ],
)
def test_percent_encoding(loaded: RunningStack, query: str, found: list[str]) -> None:
    assert codes(ask(loaded, query)) == found


@pytest.mark.parametrize(
    "query",
    [
        *("limit=", "limit", "order=", "cursor=", "code=", "and=", "or=()", "offset=-1"),
        *("code=eq.%00", "code=eq", "code=.eq.DE", "=1", "==="),
        *("code=eq.DE&code=eq.DE", "code=eq.DE&%63ode=eq.FR", "CODE=eq.DE", "code[]=eq.DE"),
        *("select=code,code", "select=*,code", "limit=1e3", "limit=%EF%BC%91", "offset=0x1"),
        "and=" + "(and" * 9 + "(code.eq.DE" + ")" * 10,
        "or=(" + ",".join(["code.eq.DE"] * 101) + ")",
        "select=" + ",".join(f"a{number}:code" for number in range(101)),
        "select=code," + ",".join(f"c{number}:cities(name)" for number in range(60)),
        "order=" + ",".join(["code", "name", "iso3", "capital", "continent", "currency"] * 2),
    ],
)
def test_a_meaningless_request_is_a_problem(loaded: RunningStack, query: str) -> None:
    reply = ask(loaded, query)
    assert 400 <= reply.status < 500, reply.body
    problem: dict[str, Any] = reply.json()
    assert problem["status"] == reply.status
    assert problem["message"]
    assert reply["Cache-Control"] == "no-store"


def test_long_parameters(loaded: RunningStack) -> None:
    """Parameters up to the length limit of a URL; beyond it the gateway refuses."""
    listed = ",".join(["DE"] * 3_000)
    assert codes(ask(loaded, f"code=in.({listed})&select=code")) == ["DE"]
    for length, status in ((9_000, 200), (11_000, 400), (70_000, 400)):
        reply = loaded.client.get(f"/v1/countries?name=eq.{'x' * length}&select=code")
        assert reply.status == status
        assert reply["Content-Type"] == (
            "application/json; charset=utf-8" if status == 200 else "application/problem+json"
        )
    smile = quote("😀" * 700)
    assert codes(ask(loaded, f"name=eq.{smile}")) == []


def test_links_can_be_followed_as_they_are(loaded: RunningStack) -> None:
    """A client need not encode any part of the links."""
    target: str | None = (
        "/v1/countries?select=" + quote('"näme":name,code') + "&order=continent.desc,name"
        "&and=" + quote('(population.gt.0,name.not.eq."a,(b)")') + "&limit=60"
    )
    seen: list[str] = []
    while target is not None:
        reply = loaded.client.get(target)
        seen += codes(reply)
        following = re.search(r'<([^>]*)>; rel="next"', reply["Link"] or "")
        target = following[1] if following else None
    inhabited = {code for code, country in COUNTRIES.items() if country["population"] > 0}
    assert len(seen) == len(set(seen))
    assert set(seen) == inhabited
