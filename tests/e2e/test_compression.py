"""Compressed bodies and answers, and the headers that pages of other origins may send."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping

import pytest

from tests.fixtures.stack import RunningStack, new_city

PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
TRACING = "traceparent, tracestate, baggage, content-encoding, content-type"


@pytest.mark.parametrize("coding", PACKERS)
def test_a_compressed_body_is_accepted_and_applied_like_a_plain_one(
    stack: RunningStack, coding: str
) -> None:
    city = new_city()
    reply = stack.send(
        "POST",
        "/cities",
        PACKERS[coding](json.dumps([city]).encode()),
        Content_Encoding=coding,
        Content_Type="application/json",
    )
    assert reply.status == 207
    (result,) = reply.json()["results"]
    assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"
    answer = stack.send("GET", f"/cities/{city['geonameid']}", Read_After=result["command_id"])
    assert answer.json() == city


@pytest.mark.parametrize(
    ("body", "coding", "status", "code"),
    [
        (b"{}", "gzip", 415, "unsupported_media_type"),
        (b"{}", "br", 415, "unsupported_media_type"),
        (gzip.compress(b" " * (10 * 1024 * 1024 + 1)), "gzip", 413, "payload_too_large"),
    ],
    ids=["not gzip", "an unknown coding", "too large once it is inflated"],
)
def test_a_body_that_can_not_be_inflated_is_a_problem(
    stack: RunningStack, body: bytes, coding: str, status: int, code: str
) -> None:
    reply = stack.send(
        "POST", "/cities", body, Content_Encoding=coding, Content_Type="application/json"
    )
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert reply["Content-Type"] == "application/problem+json"


def test_an_answer_above_the_minimum_is_compressed_from_the_cache_too(stack: RunningStack) -> None:
    path = "/openapi.json"
    plain = stack.send("GET", path)
    packed = stack.send("GET", path, Accept_Encoding="gzip, br")
    assert packed["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 4
    assert gzip.decompress(packed.body) == plain.body
    cities = [new_city() for _ in range(20)]
    reply = stack.send("POST", "/cities", cities, Accept_Encoding="deflate")
    assert reply["Content-Encoding"] == "deflate"
    results = json.loads(zlib.decompress(reply.body))["results"]
    assert stack.wait_for_status(results[-1]["links"]["status"])["status"] == "applied"
    keys = ",".join(str(city["geonameid"]) for city in cities)
    listed = f"/cities?geonameid=in.({keys})&order=geonameid"
    first, second, other = (
        stack.send("GET", listed, **headers)
        for headers in ({"Accept_Encoding": "gzip"}, {"Accept_Encoding": "gzip"}, {})
    )
    assert (second["X-Cache"], other["X-Cache"]) == ("Hit", "Hit")
    assert first.body == second.body
    assert gzip.decompress(first.body) == other.body
    assert len(json.loads(other.body)) == 20
    unchanged = stack.send("GET", listed, Accept_Encoding="gzip", If_None_Match=str(first["ETag"]))
    assert (unchanged.status, unchanged.body) == (304, b"")


def test_a_page_may_send_trace_headers_and_a_compressed_body(stack: RunningStack) -> None:
    reply = stack.send(
        "OPTIONS",
        "/cities",
        Origin="http://localhost:5173",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers=TRACING,
    )
    allowed = (reply["Access-Control-Allow-Headers"] or "").lower().split(",")
    assert reply.status == 200
    assert set(TRACING.split(", ")) <= {name.strip() for name in allowed}
