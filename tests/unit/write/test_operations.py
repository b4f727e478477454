"""`POST /commands`: operations on any resources in one request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.access import Access
from tests.fixtures.api import RecordingStore, WriteBench, document
from tests.fixtures.commands import CITY

COUNTRY = {
    "name": "Kosovo",
    "iso3": "XKX",
    "capital": "Pristina",
    "continent": "EU",
    "currency": "EUR",
    "population": 1_800_000,
    "area_km2": 10_908.0,
}
NEWS = {"title": "t", "body": "b", "published_on": "2026-01-01"}
NEWS_ID = "7b4e0d6e-8a34-4d3c-9a51-0d8a3f1f0c11"


def send(bench: WriteBench, operations: Any, **options: Any) -> Any:
    return bench.send("POST", "/commands", operations, **options)


def results(bench: WriteBench, operations: Any, **options: Any) -> list[dict[str, Any]]:
    response = send(bench, operations, **options)
    assert response.status == 207, response.body
    told: list[dict[str, Any]] = document(response)["results"]
    return told


def test_every_operation_makes_its_command_in_the_requests_order() -> None:
    bench = WriteBench()
    told = results(
        bench,
        [
            {"op": "put", "resource": "countries", "key": "XK", "body": COUNTRY},
            {"op": "create", "resource": "cities", "key": 5, "body": CITY},
            {"op": "create", "resource": "cities", "body": {"geonameid": 6, **CITY}},
            {"op": "delete", "resource": "cities", "key": 7},
            {"op": "create", "resource": "announcements", "body": NEWS},
            {"op": "put", "resource": "announcements", "key": NEWS_ID, "body": NEWS},
            {"op": "create", "resource": "announcements", "key": NEWS_ID, "body": NEWS},
        ],
    )
    made = [(command.op, command.resource, command.key) for command in bench.sink.commands]
    generated = bench.sink.commands[4].key
    assert made == [
        ("put", "countries", "XK"),
        ("create", "cities", 5),
        ("create", "cities", 6),
        ("delete", "cities", 7),
        ("create", "announcements", generated),
        ("put", "announcements", NEWS_ID),
        ("create", "announcements", NEWS_ID),
    ]
    assert [result["command_id"] for result in told] == [c.id for c in bench.sink.commands]
    assert [result["index"] for result in told] == [*range(7)]
    assert told[1]["links"]["item"] == "/v1/cities/5"
    assert bench.sink.commands[1].body == bench.sink.commands[2].body == CITY


def test_lines_are_operations_too() -> None:
    bench = WriteBench()
    lines = [json.dumps({"op": "delete", "resource": "cities", "key": key}) for key in (5, 6)]
    told = results(bench, None, raw="\n".join([*lines, "{"]), media="application/x-ndjson")
    assert [result["outcome"] for result in told] == ["accepted", "accepted", "refused"]


@pytest.mark.parametrize(
    ("operation", "status", "code", "pointers"),
    [
        (5, 422, "validation_failed", ["#"]),
        ({}, 422, "validation_failed", ["#/op", "#/body", "#/resource"]),
        ({"op": "upsert", "resource": "cities", "body": {}}, 422, "validation_failed", ["#/op"]),
        ({"op": "put", "resource": "towns", "body": {}}, 422, "validation_failed", ["#/resource"]),
        ({"op": "put", "resource": 5, "body": {}}, 422, "validation_failed", ["#/resource"]),
        ({"op": "put", "resource": "cities", "body": []}, 422, "validation_failed", ["#/body"]),
        (
            {"op": "put", "resource": "cities", "body": CITY},
            422,
            "key_missing",
            ["#/body/geonameid"],
        ),
        ({"op": "delete", "resource": "cities"}, 422, "validation_failed", ["#/key"]),
        (
            {"op": "delete", "resource": "cities", "key": 5, "body": {}},
            422,
            "validation_failed",
            ["#/body"],
        ),
        ({"op": "delete", "resource": "cities", "key": "x"}, 422, "validation_failed", ["#/key"]),
        (
            {"op": "put", "resource": "cities", "key": 5, "body": CITY, "if": {}},
            422,
            "validation_failed",
            ["#/if"],
        ),
        (
            {"op": "put", "resource": "cities", "key": 5, "body": {**CITY, "population": "many"}},
            422,
            "validation_failed",
            ["#/body/population"],
        ),
        (
            {"op": "put", "resource": "cities", "key": 5, "body": {**CITY, "geonameid": 6}},
            422,
            "key_mismatch",
            ["#/body/geonameid"],
        ),
        (
            {"op": "create", "resource": "announcements", "body": {**NEWS, "id": NEWS_ID}},
            422,
            "key_not_allowed",
            ["#/body/id"],
        ),
    ],
)
def test_an_operation_is_refused_alone_with_pointers_that_begin_at_it(
    operation: Any, status: int, code: str, pointers: list[str]
) -> None:
    bench = WriteBench()
    good = {"op": "delete", "resource": "cities", "key": 5}
    first, second = results(bench, [operation, good])
    assert (first["status"], first["problem"]["code"]) == (status, code)
    assert [error["pointer"] for error in first["problem"]["errors"]] == pointers
    assert second["outcome"] == "accepted"
    assert len(bench.sink.taken) == 1


def test_each_resource_takes_its_own_scope() -> None:
    bench = WriteBench(access=Access("cognito"))
    operations = [
        {"op": "delete", "resource": "cities", "key": 5},
        {"op": "delete", "resource": "countries", "key": "XK"},
    ]
    scope = "forebay/commands.write forebay/cities.write forebay/countries.read"
    context = {"authorizer": {"claims": {"scope": scope}}}
    first, second = results(bench, operations, context=context)
    assert first["outcome"] == "accepted"
    assert (second["status"], second["problem"]["code"]) == (403, "forbidden")
    assert "forebay/countries.write" in second["problem"]["detail"]
    assert [command.resource for command in bench.sink.commands] == ["cities"]


def test_a_repetition_with_an_idempotency_key_makes_the_same_keys() -> None:
    bench = WriteBench()
    operations = [{"op": "create", "resource": "announcements", "body": NEWS}] * 2
    first = results(bench, operations, Idempotency_Key='"a"')
    again = results(bench, operations, Idempotency_Key='"a"')
    assert [result["key"] for result in first] == [result["key"] for result in again]
    assert first[0]["key"] != first[1]["key"]


def test_an_answer_without_room_for_refusals_takes_all_operations_or_none() -> None:
    bench = WriteBench()
    good = {"op": "delete", "resource": "cities", "key": 5}
    refused = send(bench, [good, {"op": "x"}], Prefer="return=minimal")
    assert (refused.status, document(refused)["code"]) == (422, "validation_failed")
    assert "item 1" in document(refused)["detail"]
    assert bench.sink.taken == []
    accepted = send(bench, [good, good], Prefer="return=minimal")
    assert (accepted.status, accepted.body) == (202, "")


def test_each_operation_has_its_own_outcome() -> None:
    bench = WriteBench(store=RecordingStore(down=True))
    bench.sink.refuse = {1}
    good = {"op": "delete", "resource": "cities", "key": 5}
    first, second = results(bench, [good, good])
    assert (first["outcome"], second["status"]) == ("accepted", 503)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"raw": "[]"}, 400, "empty_batch"),
        ({"raw": "{"}, 400, "malformed_json"),
        ({"raw": "{}"}, 422, "validation_failed"),
        ({"raw": "5"}, 422, "validation_failed"),
        ({"raw": ""}, 400, "empty_body"),
        ({"raw": "[]", "media": "text/plain"}, 415, "unsupported_media_type"),
        ({"raw": "[1]", "media": "application/json;schema=1"}, 415, "unsupported_media_type"),
        ({"raw": json.dumps([1] * 501)}, 413, "batch_too_large"),
        ({"raw": "[1]", "Prefer": "tx=rollback"}, 400, "PGRST122"),
        ({"raw": "[1]", "Prefer": "resolution=merge-duplicates"}, 400, "PGRST122"),
        ({"raw": "[1]", "Prefer": "resolution=ignore-duplicates"}, 400, "PGRST122"),
    ],
)
def test_a_request_that_holds_no_operations_is_refused(
    options: dict[str, Any], status: int, code: str
) -> None:
    bench = WriteBench()
    response = send(bench, None, **options)
    assert (response.status, document(response)["code"]) == (status, code)
    assert bench.sink.taken == []
