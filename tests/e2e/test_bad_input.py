"""Bad requests get their own status and code; they don't affect other requests."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from forebay.problem import CATALOGUE
from tests.fixtures.stack import RunningStack, new_city

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True)
class Bad:
    """A bad request and the code of its refusal."""

    method: str
    target: str
    code: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def posted(body: Any, code: str, headers: dict[str, str] = JSON) -> Bad:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Bad("POST", "/cities", code, raw, headers)


REQUESTS = {
    "unknown resource": Bad("GET", "/rivers", "PGRST205"),
    "write to an unknown resource": Bad("POST", "/rivers", "unknown_resource", b"{}", JSON),
    "unknown query parameter": Bad("GET", "/cities?mayor=eq.x", "unknown_parameter"),
    "query parameter of a write": Bad(
        "PUT", "/cities/1?upsert=1", "unknown_parameter", b"{}", JSON
    ),
    "repeated parameter": Bad("GET", "/cities?limit=1&limit=2", "repeated_parameter"),
    "unknown operator": Bad("GET", "/cities?population=around.5", "PGRST100"),
    "operator that the column does not take": Bad("GET", "/cities?population=like.5", "bad_filter"),
    "value of another type": Bad("GET", "/cities?population=gt.many", "bad_filter"),
    "unknown column in the order": Bad("GET", "/cities?order=mayor", "bad_order"),
    "limit that is no number": Bad("GET", "/cities?limit=many", "PGRST100"),
    "limit below zero": Bad("GET", "/cities?limit=-1", "PGRST103"),
    "relation that there is not": Bad("GET", "/cities?select=name,mayor(name)", "PGRST200"),
    "filter on a relation that is not selected": Bad(
        "GET", "/cities?country.name=eq.x", "PGRST108"
    ),
    "sum": Bad("GET", "/cities?select=population.sum()", "PGRST123"),
    "spread relation": Bad("GET", "/cities?select=...country(name)", "PGRST127"),
    "column that there is not": Bad("GET", "/cities?select=mayor", "bad_select"),
    "media type that there is not": Bad(
        "GET", "/cities", "PGRST107", headers={"Accept": "application/xml"}
    ),
    "one object of none": Bad(
        "GET",
        "/cities?geonameid=eq.1",
        "PGRST116",
        headers={"Accept": "application/vnd.pgrst.object+json"},
    ),
    "preference that there is not": Bad(
        "GET", "/cities", "PGRST122", headers={"Prefer": "handling=strict, wait=5"}
    ),
    "cursor of our own making": Bad("GET", "/cities?cursor=abc", "bad_cursor"),
    "key of another type": Bad("GET", "/cities/five", "bad_key"),
    "missing item": Bad("GET", "/cities/1", "not_found"),
    "command id that is none": Bad("GET", "/cities/1/commands/5", "bad_command_id"),
    "Read-After that is no version": Bad(
        "GET", "/cities/1", "bad_header", headers={"Read-After": "yesterday"}
    ),
    "malformed JSON": posted(b'{"name":', "malformed_json"),
    "half a line": posted(b'{"geonameid":5,"name":"Aach', "malformed_json"),
    "Latin-1": posted(
        json.dumps(new_city(name="Köln"), ensure_ascii=False).encode("latin-1"), "not_utf8"
    ),
    "gzip, which no request may be": posted(b"\x1f\x8b\x08\x00garbage", "not_utf8"),
    "duplicate member": posted(b'{"name":"a","name":"b"}', "duplicate_member"),
    "nothing": posted(b"", "empty_body"),
    "empty batch": posted([], "empty_batch"),
    "501 items": posted([{}] * 501, "batch_too_large"),
    "501 lines": posted(b"{}\n" * 501, "batch_too_large", NDJSON),
    "another content type": posted(b"a=b", "unsupported_media_type", {"Content-Type": "text/x"}),
    "unknown field": posted({**new_city(), "mayor": "x"}, "validation_failed"),
    "no key": posted({"name": "x"}, "validation_failed"),
    "NUL": posted(new_city(name="a\0b"), "unstorable_text"),
    "key that is not the path's": Bad(
        "PUT", "/cities/7", "key_mismatch", json.dumps(new_city()).encode(), JSON
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_bad_request_has_its_status_and_code(stack: RunningStack, case: str) -> None:
    bad = REQUESTS[case]
    reply = stack.client.request(bad.method, f"/v1{bad.target}", bad.headers, bad.body)
    problem = reply.json()
    status, title = CATALOGUE[bad.code]
    assert (reply.status, problem["code"], problem["status"]) == (status, bad.code, status)
    assert reply["Content-Type"] == "application/problem+json"
    assert (problem["type"], problem["title"]) == (f"urn:forebay:problem:{bad.code}", title)
    if bad.code == "unknown_resource":  # answered by API Gateway, which can't name the path
        assert problem["instance"].startswith("urn:uuid:")
    else:
        assert problem["instance"] == f"/v1{bad.target.partition('?')[0]}"
    assert problem["detail"]
    if bad.method == "GET":  # shown by PostgREST's clients
        assert problem["message"] == problem["detail"]
        assert {"details", "hint"} <= set(problem)


def test_bad_requests_do_not_stop_the_good_ones_between_them(stack: RunningStack) -> None:
    good = []
    for bad in REQUESTS.values():
        city = new_city()
        good.append(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
        reply = stack.client.request(bad.method, f"/v1{bad.target}", bad.headers, bad.body)
        assert 400 <= reply.status < 500
    assert {stack.wait_for_status(status)["status"] for status in good} == {"applied"}


def test_in_ndjson_every_bad_line_is_refused_alone(stack: RunningStack) -> None:
    first, last = new_city(), new_city()
    lines = [
        json.dumps(first).encode(),
        b'{"geonameid":5,"na',
        b'"a text"',
        b'{"name":"a","name":"b"}',
        json.dumps(new_city(name="")).encode(),
        json.dumps(last).encode(),
    ]
    reply = stack.client.request("POST", "/v1/cities", NDJSON, b"\n".join(lines))
    assert reply.status == 207, reply.body
    results = reply.json()["results"]
    assert [result.get("problem", {}).get("code") for result in results] == [
        None,
        "malformed_json",
        "validation_failed",
        "duplicate_member",
        "validation_failed",
        None,
    ]
    for result in (results[0], results[-1]):
        assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"
