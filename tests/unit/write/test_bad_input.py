"""Every bad input gets its status and code as a problem, and no command is sent."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import resources
from forebay.codec import MAX_LINE_BYTES
from forebay.problem import CATALOGUE
from lambdas.write.settings import DEFAULT_MAX_BODY_BYTES
from tests.fixtures.api import NOW_MS, WriteBench, document, event
from tests.fixtures.commands import CITY

ITEM = {"geonameid": 5, **CITY}
NEWS = {"title": "t", "body": "b", "published_on": "2026-01-01"}
FUTURE = f"{NOW_MS + 11 * 60_000:012x}"
FUTURE_ID = f"{FUTURE[:8]}-{FUTURE[8:]}-7000-8000-000000000000"


def text(**changes: Any) -> str:
    return json.dumps({**ITEM, **changes})


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


BODIES = {
    "malformed JSON": ('{"name":', 400, "malformed_json"),
    "no JSON at all": ("name=Aachen", 400, "malformed_json"),
    "text after the item": (text() + "x", 400, "malformed_json"),
    "NaN": ('{"geonameid":5,"latitude":NaN}', 400, "malformed_json"),
    "Infinity": ('{"latitude":Infinity}', 400, "malformed_json"),
    "duplicate member": ('{"name":"a","name":"b"}', 400, "duplicate_member"),
    "duplicate member, spelled otherwise": (
        '{"name":"a","n\\u0061me":"b"}',
        400,
        "duplicate_member",
    ),
    "nothing": ("", 400, "empty_body"),
    "white space": (" \n", 400, "empty_body"),
    "a string": ('"item"', 422, "validation_failed"),
    "null": ("null", 422, "validation_failed"),
    "wrong type": (text(population="many"), 422, "validation_failed"),
    "number as text": (text(population="5"), 422, "validation_failed"),
    "truth as number": (text(population=True), 422, "validation_failed"),
    "unknown field": (text(mayor="x"), 422, "validation_failed"),
    "too long": (text(name="x" * 201), 422, "validation_failed"),
    "empty text": (text(name=""), 422, "validation_failed"),
    "wrong pattern": (text(country_code="de"), 422, "validation_failed"),
    "huge integer": (text(population=10**30), 422, "validation_failed"),
    "integer beyond 64 bits": (text(population=2**63), 422, "validation_failed"),
    "integer of 5,000 digits": ('{"population":' + "9" * 5000 + "}", 400, "malformed_json"),
    "float beyond a double": (
        text().replace("50.77664", "1e999"),
        422,
        "validation_failed",
    ),
    "key of the wrong type": (text(geonameid="5"), 422, "validation_failed"),
    "key out of range": (text(geonameid=0), 422, "validation_failed"),
    "no key": (json.dumps(CITY), 422, "key_missing"),
    "NUL": (text(name="a\x00b"), 422, "unstorable_text"),
    "lone surrogate": (text(name="a\ud800b"), 422, "unstorable_text"),
    "lone low surrogate": (text(name="\udc00"), 422, "unstorable_text"),
    "raw control character": ('{"name":"a\x01"}', 400, "malformed_json"),
    "nested beyond reason": (f'{{"name":{deep(500)}}}', 422, "too_deep"),
    "empty array": ("[]", 400, "empty_batch"),
    "501 items": (json.dumps([ITEM] * 501), 413, "batch_too_large"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused_with_its_status_and_code(case: str) -> None:
    body, status, code = BODIES[case]
    bench = WriteBench()
    response = bench.send("POST", "/cities", raw=body)
    problem = document(response)
    assert (response.status, problem["status"], problem["code"]) == (status, status, code)
    assert response.content_type == "application/problem+json"
    assert problem["type"] == f"urn:forebay:problem:{code}"
    assert problem["title"] == CATALOGUE[code][1]
    assert problem["instance"] == "/v1/cities"
    assert problem["detail"]
    assert bench.sink.taken == []
    assert bench.store.taken == []


def test_replacements_by_api_gateway_for_bytes_that_are_not_utf8_are_not_stored() -> None:
    bench = WriteBench()
    response = bench.send("POST", "/cities", raw=text().replace("Aachen", "K\ufffdln"))
    assert (response.status, document(response)["code"]) == (400, "not_utf8")
    assert bench.sink.taken == []
    assert bench.send("POST", "/cities", raw=text(name="\ufffd")).status == 202, "escaped: meant"


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("is_encoded", [False, True])
def test_a_byte_order_mark_at_the_beginning_is_ignored(media: str, is_encoded: bool) -> None:  # noqa: FBT001
    bench = WriteBench()
    data = ("\ufeff" + text()).encode()
    answer = bench.app.handle({
        "resource": "/cities",
        "path": "/cities",
        "httpMethod": "POST",
        "headers": {"Content-Type": media},
        "body": base64.b64encode(data).decode() if is_encoded else data.decode(),
        "isBase64Encoded": is_encoded,
    })  # fmt: skip
    assert answer.status == (202 if media == "application/json" else 207)
    assert [command.key for command in bench.sink.commands] == [ITEM["geonameid"]]
    only = bench.send("POST", "/cities", raw="\ufeff \n")
    assert document(only)["code"] == "empty_body"


def test_everything_that_is_wrong_is_named_at_once_with_its_place() -> None:
    bad = {**ITEM, "population": -1, "latitude": 91, "name": 5, "extra": 1}
    problem = document(WriteBench().send("POST", "/cities", bad))
    assert {error["pointer"] for error in problem["errors"]} == {
        "#/population",
        "#/latitude",
        "#/name",
        "#/extra",
    }
    assert all(error["detail"] for error in problem["errors"])


def test_a_place_in_a_list_is_named_by_its_index() -> None:
    bad = {**NEWS, "tags": ["fine", "x" * 51]}
    problem = document(WriteBench().send("POST", "/announcements", bad))
    assert [error["pointer"] for error in problem["errors"]] == ["#/tags/1"]


def test_a_line_of_exactly_1000_kib_is_accepted_and_one_byte_more_is_413() -> None:
    # No sample resource takes such a body, so the caller's name fills the line.
    bench = WriteBench()
    spec = resources.load()["announcements"]
    caller_probe = bench.send("POST", "/announcements", NEWS)
    assert caller_probe.status == 202
    overhead = len(bench.sink.taken[0])
    assert overhead < MAX_LINE_BYTES
    by = "x" * (MAX_LINE_BYTES - overhead + len("anonymous"))
    for extra, status in (("", 202), ("x", 413)):
        bench = WriteBench()
        context = {"authorizer": {"principalId": (by + extra)[len("principal:") :]}}
        event = {
            "resource": "/announcements",
            "path": "/announcements",
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "requestContext": context,
            "body": json.dumps(NEWS),
        }
        response = bench.app.handle(event)
        assert response.status == status
        if status == 413:
            assert document(response)["code"] == "command_too_large"
            assert bench.sink.taken == []
        else:
            assert len(bench.sink.taken[0]) == MAX_LINE_BYTES
    assert spec.path == "announcements"


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "", None, "application/jsonp"]
)
def test_another_content_type_is_415_with_the_accepted_types(media: str | None) -> None:
    response = WriteBench().send("POST", "/cities", ITEM, media=media)
    assert response.status == 415
    assert document(response)["code"] == "unsupported_media_type"
    assert "application/json" in response.headers["Accept-Post"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "identity, gzip", "x"])
def test_an_encoded_body_is_415_with_the_accepted_codings(encoding: str) -> None:
    bench = WriteBench()
    response = bench.send("POST", "/cities", ITEM, Content_Encoding=encoding)
    assert (response.status, document(response)["code"]) == (415, "unsupported_media_type")
    assert response.headers["Accept-Encoding"] == "gzip, deflate, identity"
    assert bench.sink.taken == []


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " deflate"])
def test_a_body_inflated_by_api_gateway_is_accepted_although_its_coding_header_remains(
    encoding: str,
) -> None:
    bench = WriteBench()
    assert bench.send("POST", "/cities", ITEM, Content_Encoding=encoding).status == 202
    assert len(bench.sink.taken) == 1


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("form", ["text", "base64"])
def test_a_body_that_is_still_compressed_is_415(
    encoding: str, pack: Callable[[bytes], bytes], form: str
) -> None:
    """A request that bypasses the gateway, or a gateway that treats bodies as binary."""
    bench = WriteBench()
    packed = pack(json.dumps(ITEM).encode())
    body = packed.decode(errors="replace")
    if form == "base64":
        body = base64.b64encode(packed).decode()
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    request = event("POST", "/cities", headers=headers, body=body)
    response = bench.app.handle({**request, "isBase64Encoded": form == "base64"})
    assert (response.status, document(response)["code"]) == (415, "unsupported_media_type")
    assert bench.sink.taken == []


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_an_encoding_that_is_none_changes_nothing(encoding: str) -> None:
    assert WriteBench().send("POST", "/cities", ITEM, Content_Encoding=encoding).status == 202


def test_a_content_type_may_have_parameters_and_capitals() -> None:
    assert (
        WriteBench().send("POST", "/cities", ITEM, media="Application/JSON; charset=utf-8").status
        == 202
    )


@pytest.mark.parametrize("key", ["abc", "05", "+5", "5.0", "0", "-1", "99999999999999999999", "5 "])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_bad_key_is_400(method: str, key: str) -> None:
    response = WriteBench().send(method, "/cities/{key}", CITY, key=key)
    assert (response.status, document(response)["code"]) == (400, "bad_key")


@pytest.mark.parametrize("key", ["de", "DEU", "", "D%45%", "D\x00", "\ud800E", "%2544E"])
def test_a_bad_text_key_is_400(key: str) -> None:
    response = WriteBench().send("DELETE", "/countries/{key}", key=key)
    assert (response.status, document(response)["code"]) == (400, "bad_key")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("key", ["%FF", "a%C3%28", "%ED%A0%80"])
def test_path_bytes_that_are_not_utf8_name_no_item(method: str, key: str) -> None:
    bench = WriteBench()
    answer = bench.send(method, "/countries/{key}", {"name": "x"}, key=key)
    assert (answer.status, document(answer)["code"]) == (400, "bad_key")
    assert "UTF-8" in document(answer)["detail"]
    assert bench.sink.taken == []


def test_a_bad_key_is_quoted_decoded() -> None:
    problem = document(WriteBench().send("DELETE", "/countries/{key}", key="D%2FE"))
    assert problem["detail"].startswith("'D/E' is not a valid key of countries")


def test_a_key_in_the_body_that_is_not_the_paths_is_422() -> None:
    response = WriteBench().send("PUT", "/cities/{key}", ITEM, key="6")
    problem = document(response)
    assert (response.status, problem["code"]) == (422, "key_mismatch")
    assert problem["errors"][0]["pointer"] == "#/geonameid"


def test_a_key_in_the_body_that_is_the_paths_is_fine() -> None:
    assert WriteBench().send("PUT", "/cities/{key}", ITEM, key="5").status == 202


def test_a_client_cannot_post_the_key_that_the_server_makes() -> None:
    item = {**NEWS, "id": "0199f0c2-0000-4000-8000-000000000000"}
    response = WriteBench().send("POST", "/announcements", item)
    assert (response.status, document(response)["code"]) == (422, "key_not_allowed")


def test_an_unknown_resource_is_404() -> None:
    response = WriteBench().send("POST", "/planets", ITEM)
    assert (response.status, document(response)["code"]) == (404, "unknown_resource")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("If_None_Match", '"5"'),
        ("If_Match", ""),
        ("If_Match", ","),
        ("If_Match", "no-tag"),
        ("If_Match", '"no-tag"'),
        ("If_Match", '*, "0199f0c2-0000-7000-8000-000000000000"'),
        ("If_Match", '"0199f0c2-0000-7000-8000-000000000000", no-tag'),
        ("If_Match", f'"0199f0c2-0000-7000-8000-000000000000", "{FUTURE_ID}"'),
        ("If_Match", '"0199f0c2-0000-7000-8000-000000000000'),
        ("If_Match", '"0199f0c2-0000-7000-8000-000000000000-0"'),
        ("Read_After", "0199f0c2-0000-7000-8000-000000000000-0123456789ABCDEF"),
        ("Read_After", f'"{FUTURE_ID}-0123456789abcdef"'),
        ("Read_After", "yesterday"),
        ("Read_After", FUTURE_ID),
        ("If_Match", f'"{FUTURE_ID}"'),
        ("Idempotency_Key", '""'),
        ("Idempotency_Key", "a b"),
        ("Idempotency_Key", "x" * 256),
        ("Idempotency_Key", '"unclosed'),
    ],
)
def test_a_header_that_cannot_be_understood_is_400(header: str, value: str) -> None:
    bench = WriteBench()
    response = bench.send("PUT", "/cities/{key}", CITY, key="5", **{header: value})
    assert (response.status, document(response)["code"]) == (400, "bad_header")
    assert bench.sink.taken == []


def test_a_write_takes_no_query_parameter() -> None:
    bench = WriteBench()
    request = {
        "resource": "/cities",
        "path": "/cities",
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json"},
        "multiValueQueryStringParameters": {"dry_run": ["1"]},
        "body": json.dumps(ITEM),
    }
    response = bench.app.handle(request)
    assert (response.status, document(response)["code"]) == (400, "unknown_parameter")
    assert bench.sink.taken == []


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
def test_the_bad_items_of_a_batch_hurt_no_neighbour(media: str) -> None:
    items = [
        json.dumps({**ITEM, "geonameid": 1}),
        json.dumps({**ITEM, "geonameid": "2"}),
        json.dumps({**ITEM, "geonameid": 3, "name": "a\x00"}),
        json.dumps({**ITEM, "geonameid": 4, "population": 10**30}),
        json.dumps({**ITEM, "geonameid": 5}),
    ]
    body = f"[{','.join(items)}]" if media == "application/json" else "\n".join(items) + "\n"
    bench = WriteBench()
    response = bench.send("POST", "/cities", raw=body, media=media)
    results = document(response)["results"]
    assert response.status == 207
    assert [(r["index"], r["status"], r["outcome"]) for r in results] == [
        (0, 202, "accepted"),
        (1, 422, "refused"),
        (2, 422, "refused"),
        (3, 422, "refused"),
        (4, 202, "accepted"),
    ]
    assert [r["problem"]["code"] for r in results[1:4]] == [
        "validation_failed",
        "unstorable_text",
        "validation_failed",
    ]
    assert [command.key for command in bench.sink.commands] == [1, 5]


def test_a_malformed_line_of_ndjson_is_its_own_fault_only() -> None:
    bench = WriteBench()
    lines = [
        json.dumps(ITEM),
        '{"name":',
        '{"a":1,"a":2}',
        "[]",
        json.dumps({**ITEM, "geonameid": 6}),
    ]
    results = document(
        bench.send("POST", "/cities", raw="\n\n".join(lines), media="application/x-ndjson")
    )["results"]
    assert [result["status"] for result in results] == [202, 400, 400, 422, 202]
    assert len(bench.sink.taken) == 2


@pytest.mark.parametrize("path", ["/cities", "/commands"])
def test_only_a_line_feed_ends_a_line_of_ndjson(path: str) -> None:
    bench = WriteBench()
    item: object = ITEM
    if path == "/commands":
        item = {"op": "create", "resource": "cities", "body": ITEM}
    line = json.dumps(item).replace(", ", ",\r", 1)
    raw = f"{line}\r\n\r\n{line}"
    results = document(bench.send("POST", path, raw=raw, media="application/x-ndjson"))["results"]
    assert [result["status"] for result in results] == [202, 202]


#: Text that is valid JSON by its grammar, but can't be stored.
UNSTORABLE_ITEMS = {
    "U+FFFD": (json.dumps({**ITEM, "name": "K\ufffdln"}, ensure_ascii=False), 400, "not_utf8"),
    "U+FFFD in a name": ('{"na\ufffdme":1}', 400, "not_utf8"),
    "a lone surrogate": ('{"name":"a\\ud800b"}', 422, "unstorable_text"),
    "a member twice": ('{"name":"a","name":"]}"}', 400, "duplicate_member"),
    "nested beyond reason": (f'{{"name":{deep(500)}}}', 422, "too_deep"),
    "nested beyond recursion": (f'{{"name":{deep(50_000)}}}', 422, "too_deep"),
}


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("case", UNSTORABLE_ITEMS)
def test_an_item_that_cannot_be_stored_is_refused_alone(case: str, media: str) -> None:
    bad, status, code = UNSTORABLE_ITEMS[case]
    items = [text(geonameid=1, name="]},\\{["), bad, text(geonameid=3), bad, text(geonameid=5)]
    body = f" [ {' , '.join(items)}\n]\n" if media == "application/json" else "\n".join(items)
    bench = WriteBench()
    response = bench.send("POST", "/cities", raw=body, media=media)
    assert response.status == 207
    results = document(response)["results"]
    assert [result["status"] for result in results] == [202, status, 202, status, 202]
    assert results[1]["problem"]["code"] == results[3]["problem"]["code"] == code
    assert results[3]["problem"]["instance"] == "/v1/cities#/3"
    assert [command.key for command in bench.sink.commands] == [1, 3, 5]


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
def test_bytes_that_are_not_utf8_are_a_fault_of_their_item_only(media: str) -> None:
    """If API Gateway treats a body as binary, the function receives its bytes unchanged."""
    items = [text(geonameid=1).encode(), b'{"name":"K\xf6ln"}', text(geonameid=3).encode()]
    body = b"[" + b",".join(items) + b"]" if media == "application/json" else b"\n".join(items)
    bench = WriteBench()
    request = event(
        "POST",
        "/cities",
        headers={"Content-Type": media},
        body=base64.b64encode(body).decode(),
    )
    response = bench.app.handle({**request, "isBase64Encoded": True})
    assert response.status == 207
    results = document(response)["results"]
    assert [result["status"] for result in results] == [202, 400, 202]
    assert results[1]["problem"]["code"] == "not_utf8"


def test_an_escaped_replacement_character_is_valid_even_next_to_a_damaged_item() -> None:
    bench = WriteBench()
    items = [text(geonameid=1, name="\ufffd"), '{"name":"\ufffd"}']
    response = bench.send("POST", "/cities", raw=f"[{','.join(items)}]")
    assert [result["status"] for result in document(response)["results"]] == [202, 400]
    assert bench.sink.commands[0].body is not None
    assert bench.sink.commands[0].body["name"] == "\ufffd"


@pytest.mark.parametrize(
    "body",
    [
        '[{"name":"\ufffd"},]',
        '[{"name":"\ufffd"}',
        '[{"name":"\ufffd"}] []',
        '[{"name":"\ufffd"}],[]',
        '[{"name":"\ufffd"}]]',
        '[,{"name":"\ufffd"}]',
        '[{"name":"\ufffd"},{"name":NaN}]',
        '[{"name":"\ufffd"},{"name":}]',
        '[{"name":"\ufffd"} {"name":1}]',
        '[{"name":"\ufffd"],{"name":1}]',
        "[\ufffd]",
        '["\ufffd',
        '[{"name":"a","name":"b"},{"name":}]',
        '[{"name":"a","name":"b"}',
    ],
)
def test_a_text_that_is_not_an_array_is_refused_as_a_whole(body: str) -> None:
    bench = WriteBench()
    response = bench.send("POST", "/cities", raw=body)
    assert response.status == 400, response.body
    assert bench.sink.taken == []


def test_too_many_items_are_refused_as_a_whole_even_with_an_unstorable_item() -> None:
    response = WriteBench().send("POST", "/cities", raw="[" + '"\ufffd",' * 500 + "1]")
    assert (response.status, document(response)["code"]) == (413, "batch_too_large")


def test_a_malformed_array_is_refused_whole() -> None:
    response = WriteBench().send("POST", "/cities", raw=f"[{json.dumps(ITEM)},")
    assert (response.status, document(response)["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
def test_a_body_above_the_limit_is_413_with_or_without_a_length(
    media: str, *, encoded: bool
) -> None:
    """`Content-Length` is not read: a body in chunks has none."""
    bench = WriteBench()
    item = json.dumps({"geonameid": 5, **CITY})
    # Two bytes for each character: the limit is in bytes.
    room = DEFAULT_MAX_BODY_BYTES - len(item)
    for spaces, status in ((room, 202 if media == "application/json" else 207), (room + 1, 413)):
        text = item + " " * spaces
        request = event("POST", "/cities", headers={"Content-Type": media}, body=text)
        if encoded:
            request["body"] = base64.b64encode(text.encode()).decode()
            request["isBase64Encoded"] = True
        response = bench.app.handle(request)
        assert response.status == status
    assert document(response)["code"] == "payload_too_large"
    assert len(bench.sink.commands) == 1


def test_the_limit_of_a_body_is_a_setting() -> None:
    """The edge has the same limit, but can read `Content-Length` only."""
    bench = WriteBench(max_body_bytes=100)
    response = bench.send("POST", "/announcements", raw='"' + "\u00e9" * 50 + '"')
    assert (response.status, document(response)["code"]) == (413, "payload_too_large")
