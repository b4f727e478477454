"""Attackers' texts in every part of every write that the API describes.

The parts come from the API's description, so a new part is tested automatically.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resources
from forebay.attachments import Bucket, Upload
from forebay.codec import MAX_LINE_BYTES, decode
from forebay.http import Response
from forebay.ids import IdSource
from forebay.intake.attachments import AttachmentCheck
from forebay.openapi import describe
from forebay.signing import Credentials
from lambdas.write.uploads import UploadForms
from tests.fixtures import hostile
from tests.fixtures.api import WriteBench, document, event
from tests.fixtures.commands import CITY

RESOURCES = resources.load()
DESCRIBED = describe(RESOURCES, require_api_key=True)
VALID: Mapping[str, dict[str, Any]] = {
    "cities": {**CITY},
    "countries": {
        "name": "Andorra",
        "iso3": "AND",
        "capital": None,
        "continent": "EU",
        "currency": "EUR",
        "population": 77006,
        "area_km2": 468.0,
    },
    "announcements": {"title": "t", "body": "b", "published_on": "2026-01-01"},
    "pictures": {"title": "t", "image": None},
    "commands": {"op": "put", "resource": "cities", "key": 5, "body": {**CITY}},
}
KEYS = {
    "cities": "5",
    "countries": "AD",
    "announcements": "0199f0c2-0000-4000-8000-000000000000",
    "pictures": "harbour",
}
#: Headers that the function reads although the description does not list them.
MORE_HEADERS = ("Content-Type", "Content-Encoding", "traceparent", "Prefer", "X-Anything")


#: The form of an upload, which is not an item.
UPLOAD = "/pictures/{key}/image"


def make_bench() -> WriteBench:
    """A write app with a bucket of attachments that has no object."""
    place = Bucket("files", "eu-west-1", "", 900)
    forms = UploadForms(place, IdSource(), lambda: Credentials("AKID", "secret", None))
    return WriteBench(attachments=AttachmentCheck(NoObjects()), uploads=forms)


class NoObjects:
    """An empty bucket."""

    def find(self, _upload: Upload) -> None:
        return None


def writes() -> Iterator[tuple[str, str, list[str]]]:
    """Yield method, path template and described headers of every write."""
    for path, operations in DESCRIBED["paths"].items():
        if path.startswith("/query/"):
            continue
        for method, operation in operations.items():
            if method in {"post", "put", "patch", "delete"}:
                described = [
                    parameter["name"]
                    for parameter in operation.get("parameters", [])
                    if parameter["in"] == "header"
                ]
                yield method.upper(), path, described


WRITES = list(writes())
NAMES = [f"{method} {path}" for method, path, _ in WRITES]


def resource_of(path: str) -> str:
    return path.split("/")[1]


def request_of(
    method: str,
    path: str,
    *,
    body: str | None = None,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Build a valid request, with the given parts replaced."""
    name = resource_of(path)
    good: dict[str, Any] = {"type": "image/png"} if path == UPLOAD else dict(VALID[name])
    if (
        name in RESOURCES
        and method in {"PATCH", "DELETE"}
        and "{key}" not in path
        and query is None
    ):
        query = {RESOURCES[name].key.name: f"eq.{KEYS[name]}"}
    if (
        name in RESOURCES
        and (method, path) == ("POST", f"/{name}")
        and not RESOURCES[name].key_is_made
    ):
        own = KEYS[name]
        good[RESOURCES[name].key.name] = int(own) if own.isdigit() else own
    text = json.dumps([good] if name == "commands" else good) if body is None else body
    return event(
        method,
        path,
        path={"key": KEYS[name] if key is None else key} if "{key}" in path else None,
        query=query,
        headers={"Content-Type": "application/json", **(headers or {})},
        body=None if method == "DELETE" else text,
    )


def judge(bench: WriteBench, request: Mapping[str, Any], *asked: str) -> Response:
    """Return the answer, after checking that it is not a failure and leaks no detail.

    A refused request must send no line; an accepted request must send valid lines only.
    """
    before = len(bench.sink.taken)
    try:
        response = bench.app.handle(request)
        response.body.encode()
    except Exception as exc:  # noqa: BLE001 - a failed test's report can't hold surrogates
        raise AssertionError(ascii((repr(exc), asked))) from None
    assert response.status in {201, 202, 207} or 400 <= response.status < 500, ascii(response)
    for name, value in response.headers.items():
        assert all(" " <= char < "\x7f" for char in value), (name, value)
    body = document(response)
    if response.status >= 400:
        assert response.content_type == "application/problem+json"
        assert body["status"] == response.status
        assert len(bench.sink.taken) == before, "refused, and yet sent"
    assert not hostile.leaks(response.body, asked), (response.body[:500], asked)
    for line in bench.sink.taken[before:]:
        assert line.count(b"\n") == 1
        assert len(line) <= MAX_LINE_BYTES
        assert decode(line)
    return response


def test_the_samples_are_all_there_is() -> None:
    assert {resource_of(path) for _, path, _ in WRITES} == set(VALID)
    bench = make_bench()
    for method, path, _ in WRITES:
        status = {"/commands": 207, UPLOAD: 201}.get(path, 202)
        assert bench.app.handle(request_of(method, path)).status == status, (method, path)


@pytest.mark.parametrize(("method", "path", "described"), WRITES, ids=NAMES)
def test_any_header(method: str, path: str, described: list[str]) -> None:
    bench = make_bench()
    for name in (*described, *MORE_HEADERS):
        for text in (*hostile.TEXTS, *hostile.SURROGATES):
            judge(bench, request_of(method, path, headers={name: text}), text)


@pytest.mark.parametrize(("method", "path", "described"), WRITES, ids=NAMES)
def test_any_key(method: str, path: str, described: list[str]) -> None:
    if "{key}" not in path:
        return
    bench = make_bench()
    for text in (*hostile.TEXTS, *hostile.SURROGATES):
        for sent in (text, quote(text, safe="", errors="surrogatepass")):
            response = judge(bench, request_of(method, path, key=sent), text, sent)
            if response.status in {201, 202}:
                # Addresses are given encoded: no part of a key is a part of their paths.
                assert document(response)["links"]["item"].count("/") == 3


@pytest.mark.parametrize(("method", "path", "described"), WRITES, ids=NAMES)
def test_any_query_parameter_is_refused(method: str, path: str, described: list[str]) -> None:
    bench = make_bench()
    for text in (*hostile.TEXTS, *hostile.SURROGATES):
        response = judge(bench, request_of(method, path, query={text: text}), text)
        assert response.status == 400


@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_any_filter_on_any_field(name: str) -> None:
    bench = make_bench()
    spec = RESOURCES[name]
    for field in (spec.key, *spec.fields):
        for text in (*hostile.TEXTS, *hostile.SURROGATES):
            for sent in (text, f"eq.{text}", f"in.({text})"):
                query = {spec.key.name: f"eq.{KEYS[name]}", field.name: sent}
                judge(bench, request_of("PATCH", f"/{name}", query=query), text, sent)


@pytest.mark.parametrize("member", ["if", "if_match"])
def test_any_condition_of_an_operation(member: str) -> None:
    bench = make_bench()
    good = json.dumps({"op": "delete", "resource": "cities", "key": 5})[1:-1]
    for text in (*hostile.VALUES, *map(json.dumps, hostile.TEXTS)):
        for value in (
            text,
            f"[{text}]",
            f'[["name","eq",{text}]]',
            f'[["population","in",[{text}]]]',
        ):
            body = f'[{{"{member}":{value},{good}}}]'
            judge(bench, request_of("POST", "/commands", body=body), body)


FIELDS = [
    (path, field)
    for path, spec in RESOURCES.items()
    for field in (spec.key.name, *(column.name for column in spec.fields))
]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[".".join(pair) for pair in FIELDS])
def test_any_value_of_any_field(name: str, field: str) -> None:
    bench = make_bench()
    for method, path, _ in WRITES:
        if resource_of(path) != name or method == "DELETE":
            continue
        rest = {member: value for member, value in VALID[name].items() if member != field}
        for text in hostile.VALUES:
            body = f"{{{json.dumps(field)}:{text},{json.dumps(rest)[1:]}"
            judge(bench, request_of(method, path, body=body), body)


@pytest.mark.parametrize(("method", "path", "described"), WRITES, ids=NAMES)
def test_any_body_and_any_name_of_a_member(method: str, path: str, described: list[str]) -> None:
    bench = make_bench()
    good = json.dumps(VALID[resource_of(path)])[1:-1]
    for text in (*hostile.VALUES, *hostile.TEXTS, *hostile.SURROGATES):
        judge(bench, request_of(method, path, body=text), text)
    for text in (*hostile.TEXTS, *hostile.SURROGATES):
        body = f"{{{json.dumps(text)}:1,{good}}}"
        judge(bench, request_of(method, path, body=body), text, json.dumps(text))


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_between_hostile_items_good_ones_are_accepted(name: str, media: str) -> None:
    """Each hostile item is refused alone; the valid items before and after it are accepted."""
    bench = make_bench()
    good = json.loads(request_of("POST", f"/{name}")["body"])
    field = RESOURCES[name].fields[0].name
    small = [text for text in hostile.VALUES if len(text) < 10_000 and "\n" not in text]
    for text in small:
        bad = f"{{{json.dumps(field)}:{text}}}"  # lacks the other members, so it can't be valid
        if media == "application/json" and not _is_json(bad):
            continue
        items = [json.dumps(good), bad, json.dumps(good)]
        body = f"[{','.join(items)}]" if media == "application/json" else "\n".join(items)
        request = request_of("POST", f"/{name}", body=body, headers={"Content-Type": media})
        response = judge(bench, request, body)
        statuses = [result["status"] for result in document(response)["results"]]
        assert (statuses[0], statuses[2]) == (202, 202), (text, statuses)
        assert statuses[1] in {400, 413, 422}, (text, statuses)


def _is_json(text: str) -> bool:
    """Return whether an array with this item is valid JSON; otherwise it is refused whole."""
    return make_bench().send("POST", "/cities", raw=f"[{text}]").status == 207


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.sampled_from(WRITES), st.data())
def test_any_request_at_all(operation: tuple[str, str, list[str]], data: st.DataObject) -> None:
    method, path, described = operation
    names = st.sampled_from([*described, *MORE_HEADERS])
    headers = data.draw(st.dictionaries(names, st.text(), max_size=3))
    resource = resource_of(path)
    fields = st.sampled_from([field for name, field in FIELDS if name == resource] or ["body"])
    changed = data.draw(st.dictionaries(fields, ANYTHING, max_size=3))
    body = json.dumps({**VALID[resource_of(path)], **changed})
    body = data.draw(st.just(body) | ANYTHING.map(json.dumps) | st.text())
    key = data.draw(st.none() | st.text())
    request = request_of(method, path, body=body, key=key, headers=headers)
    texts = [body, key or "", *headers.values()]
    judge(
        make_bench(), request, *texts, *map(ascii, texts), json.dumps(changed, ensure_ascii=False)
    )
