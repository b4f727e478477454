"""PATCH: some fields of an item, increments, and the items that filters name."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from forebay.db.schema import list_index_names
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from forebay.resource import Key, Resource, Resources, shape
from forebay.resource.shape import Recorded
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from tests.fixtures.api import OPEN, WriteBench, document
from tests.fixtures.commands import CITY

MERGE = "application/merge-patch+json"


class Tag(BaseModel):
    """An element of a product's list."""

    word: str
    weight: int = 1


class Product(Resource, path="products"):
    """A resource with a field of each kind."""

    sku: Annotated[str, Field(max_length=9), Key()]
    name: Annotated[str, Field(max_length=10)]
    stock: Annotated[int, Field(ge=0)] = 7
    price: Annotated[Decimal, Field(max_digits=20, decimal_places=2, ge=0)]
    weight: float | None = None
    sold: bool = False
    seen_at: dt.datetime | None = None
    data: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    tags: list[Tag] = []  # noqa: RUF012


SPEC = Product.spec_


def bench_of(*specs: Any, shapes: Any = dict) -> WriteBench:
    """The write app with these resources."""
    bench = WriteBench()
    log = Log("test")
    bench.app = WriteApp(
        resources={spec.path: spec for spec in specs},
        acceptor=Acceptor(bench.sink, bench.store, log),
        ids=IdSource(lambda: bench.now_ms),
        answers=Answers(2.0),
        log=log,
        access=OPEN,
        shapes=shapes,
    )
    return bench


def patch(text: str, *, media: str = "application/json") -> Any:
    """The archived body of a patch that is accepted, or the problem with it."""
    bench = bench_of(SPEC)
    answer = bench.send("PATCH", "/products/{key}", raw=text, key="a", media=media)
    if answer.status != 202:
        assert bench.sink.taken == []
        return document(answer)
    (command,) = bench.sink.commands
    assert (command.op, command.key, command.condition) == ("patch", "a", None)
    return command.body


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('{"name":"b"}', {"name": "b"}),
        ('{"sku":"a","sold":true}', {"sold": True}),
        ('{"weight":null}', {"weight": None}),
        ('{"seen_at":"2026-01-01T00:00:00+01:00"}', {"seen_at": "2025-12-31T23:00:00Z"}),
        ('{"price":123456789012345678.90}', {"price": "123456789012345678.90"}),
        ('{"price":0e5,"stock":1e3}', {"price": "0", "stock": 1000}),
        ('{"data":{"a":1}}', {"data": {"a": 1}}),
        ('{"tags":[{"word":"x"}]}', {"tags": [{"word": "x", "weight": 1}]}),
    ],
)
def test_a_patch_archives_the_sent_fields_only_in_the_form_of_a_put(
    text: str, body: dict[str, Any]
) -> None:
    assert patch(text) == body


def test_a_patch_is_answered_like_a_put() -> None:
    bench = WriteBench()
    patched = bench.send("PATCH", "/cities/{key}", {"population": 5}, key="5")
    put = bench.send("PUT", "/cities/{key}", CITY, key="5")
    assert patched.status == put.status == 202
    assert patched.headers.keys() == put.headers.keys()
    assert document(patched).keys() == document(put).keys()
    first, second = bench.sink.commands
    assert document(patched)["command_id"] == first.id < second.id
    assert patched.headers["Location"] == f"/v1/cities/5/commands/{first.id}"


@pytest.mark.parametrize(
    ("text", "code", "pointers"),
    [
        ("{}", "empty_patch", ["#"]),
        ('{"sku":"a"}', "empty_patch", ["#"]),
        ('{"sku":"b","name":"x"}', "key_mismatch", ["#/sku"]),
        ('{"sku":null,"name":"x"}', "validation_failed", ["#/sku"]),
        ('{"name":null}', "validation_failed", ["#/name"]),
        ('{"stock":null}', "validation_failed", ["#/stock"]),
        ('{"bogus":1,"name":"01234567890"}', "validation_failed", ["#/name", "#/bogus"]),
        ('{"stock":-1}', "validation_failed", ["#/stock"]),
        ('{"stock":9223372036854775808}', "validation_failed", ["#/stock"]),
        ('{"price":1.234}', "validation_failed", ["#/price"]),
        ('{"weight":9007199254740993.0}', "validation_failed", ["#/weight"]),
        ('{"tags":[{"word":"x","n":1}]}', "validation_failed", ["#/tags/0/n"]),
        ('{"name":"a\\u0000"}', "unstorable_text", ["#/name"]),
        ('{"data":{"a":1e999}}', "number_too_large", ["#/data/a"]),
        ("[]", "validation_failed", ["#"]),
        ("5", "validation_failed", ["#"]),
    ],
)
def test_an_invalid_patch_is_422(text: str, code: str, pointers: list[str]) -> None:
    problem = patch(text)
    assert (problem["status"], problem["code"]) == (422, code)
    assert [error["pointer"] for error in problem["errors"]] == pointers


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('{"stock":{"$increment":-2}}', {"stock": {"$increment": -2}}),
        ('{"stock":{"$increment":5.0}}', {"stock": {"$increment": 5}}),
        ('{"stock":{"$increment":1e2}}', {"stock": {"$increment": 100}}),
        ('{"stock":{"$increment":-9223372036854775808}}', {"stock": {"$increment": -(2**63)}}),
        ('{"price":{"$increment":-0.10}}', {"price": {"$increment": "-0.10"}}),
        ('{"price":{"$increment":"1.5"}}', {"price": {"$increment": "1.5"}}),
        ('{"price":{"$increment":5}}', {"price": {"$increment": "5"}}),
        ('{"price":{"$increment":1.500}}', {"price": {"$increment": "1.500"}}),
        ('{"price":{"$increment":0e99}}', {"price": {"$increment": "0"}}),
        (
            '{"price":{"$increment":123456789012345678.91},"name":"x"}',
            {"price": {"$increment": "123456789012345678.91"}, "name": "x"},
        ),
    ],
)
def test_an_increment_keeps_every_digit(text: str, body: dict[str, Any]) -> None:
    assert patch(text) == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stock", '{"$increment":null}'),
        ("stock", '{"$increment":"1"}'),
        ("stock", '{"$increment":1.5}'),
        ("stock", '{"$increment":true}'),
        ("stock", '{"$increment":9223372036854775808}'),
        ("stock", '{"$increment":{"$increment":1}}'),
        ("stock", '{"$increment":1,"more":1}'),
        ("stock", '{"$decrement":1}'),
        ("stock", "{}"),
        ("price", '{"$increment":null}'),
        ("price", '{"$increment":1.234}'),
        ("price", '{"$increment":"NaN"}'),
        ("price", '{"$increment":"Infinity"}'),
        ("price", '{"$increment":1e18}'),
        ("price", '{"$increment":1e400}'),
        ("weight", '{"$increment":1}'),
        ("name", '{"$increment":1}'),
        ("sold", '{"$increment":1}'),
        ("seen_at", '{"$increment":1}'),
        ("data", '{"$increment":1}'),
        ("tags", '{"$increment":1}'),
        ("sku", '{"$increment":1}'),
    ],
)
def test_another_increment_is_422_at_its_field(field: str, value: str) -> None:
    problem = patch(f'{{"{field}":{value}}}')
    assert (problem["status"], problem["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{field}"]


NO_INCREMENT = "only a PATCH of an integer or decimal field can have $increment"


@pytest.mark.parametrize("field", ["weight", "name", "sold", "seen_at", "data", "tags", "sku"])
def test_the_increment_of_another_field_is_named_as_such(field: str) -> None:
    problem = patch(f'{{"{field}":{{"$increment":1}}}}')
    assert [error["detail"] for error in problem["errors"]] == [NO_INCREMENT]


def test_a_put_has_no_increment() -> None:
    bench = bench_of(SPEC)
    item = {"name": "x", "price": 1, "stock": {"$increment": 1}}
    answer = bench.send("PUT", "/products/{key}", item, key="a")
    fault = {"pointer": "#/stock", "detail": NO_INCREMENT}
    assert document(answer)["errors"] == [fault]


def test_the_stored_values_of_some_fields_can_be_checked() -> None:
    check = SPEC.body.check_fields
    assert check({}) == check({"stock": 0, "price": "3.00", "weight": None}) == ()
    assert [fault.pointer for fault in check({"stock": -1, "price": "-0.01"})] == [
        "#/stock",
        "#/price",
    ]
    assert check({"stock": 2**63})
    assert check({"price": "1000000000000000000"})


@pytest.mark.parametrize("media", ["application/json", MERGE])
def test_both_media_types_replace_values_and_lists(media: str) -> None:
    text = '{"weight":null,"tags":[{"word":"x"}],"stock":{"$increment":1}}'
    assert patch(text, media=media) == {
        "weight": None,
        "tags": [{"word": "x", "weight": 1}],
        "stock": {"$increment": 1},
    }


def test_a_merge_patch_with_an_object_is_422_because_it_would_be_merged() -> None:
    problem = patch('{"data":{"a":1},"name":"x"}', media=MERGE)
    assert (problem["status"], problem["code"]) == (422, "validation_failed")
    (error,) = problem["errors"]
    assert error["pointer"] == "#/data"
    assert "application/json" in error["detail"]


@pytest.mark.parametrize("media", ["text/plain", "application/x-ndjson", "", None])
def test_another_media_type_is_415_with_the_accepted_types(media: str | None) -> None:
    bench = WriteBench()
    answer = bench.send("PATCH", "/cities/{key}", {"population": 5}, key="5", media=media)
    assert answer.status == 415
    assert answer.headers["Accept-Patch"] == f"application/json, {MERGE}"
    assert bench.sink.taken == []


def test_a_patch_that_takes_too_much_room_is_413() -> None:
    problem = patch(json.dumps({"data": {"a": "x" * 1_030_000}}))
    assert (problem["status"], problem["code"]) == (413, "command_too_large")


@pytest.mark.parametrize("query", [{}, {"sku": ["eq.a"]}])
def test_a_patch_and_a_delete_by_a_filter_have_no_if_none_match(query: dict[str, Any]) -> None:
    bench = bench_of(SPEC)
    for method, body in (("PATCH", '{"stock":1}'), ("DELETE", None)):
        answer = bench.app.handle({
            "resource": "/products",
            "path": "/products",
            "httpMethod": method,
            "headers": {"Content-Type": "application/json", "If-None-Match": "*"},
            "multiValueQueryStringParameters": query,
            "body": body,
        })  # fmt: skip
        assert (answer.status, document(answer)["code"]) == (400, "bad_header")
    assert bench.sink.taken == []


@pytest.mark.parametrize("header", [{"If_None_Match": "*"}, {"Idempotency_Key": '"unclosed'}])
def test_a_header_that_a_patch_cannot_honour_is_400(header: dict[str, str]) -> None:
    bench = WriteBench()
    answer = bench.send("PATCH", "/cities/{key}", {"population": 5}, key="5", **header)
    assert (answer.status, document(answer)["code"]) == (400, "bad_header")


def test_a_patch_takes_an_idempotency_key() -> None:
    bench = WriteBench()
    answer = bench.send("PATCH", "/cities/{key}", {"population": 5}, key="5", Idempotency_Key='"k"')
    assert answer.status == 202


# Patches of an earlier schema version


class OldOrder(Resource, path="orders"):
    """The declaration of schema version 1."""

    number: Annotated[int, Key()]
    total: Annotated[Decimal, Field(max_digits=9, decimal_places=2)]
    note: str | None = None
    dropped: str = ""


def rename(body: dict[str, Any]) -> dict[str, Any]:
    """Convert a partial body: only the fields that it has."""
    if "total" in body:
        body["amount"] = body.pop("total")
    body.pop("dropped", None)
    if body.get("note") == "bad":
        raise ValueError("a bad note")
    return body


class Order(
    Resource,
    path="orders",
    schema_version=3,
    upcasters={1: rename, 2: dict},
    patch_upcasters={1: rename, 2: dict},
):
    """The current declaration."""

    number: Annotated[int, Key()]
    amount: Annotated[Decimal, Field(max_digits=9, decimal_places=2)]
    note: str | None = None


class Unpatchable(Resource, path="orders", schema_version=2, upcasters={1: rename}):
    """A declaration that can't convert old patches."""

    number: Annotated[int, Key()]
    amount: Annotated[Decimal, Field(max_digits=9, decimal_places=2)]
    note: str | None = None


def recorded() -> dict[str, Recorded]:
    declared = Resources({"orders": OldOrder.spec_})
    return shape.update_record({}, declared, list_index_names(declared))


def patch_old(content: str, declared: type[Resource] = Order) -> tuple[Any, Any]:
    bench = bench_of(declared.spec_, shapes=recorded)
    answer = bench.send(
        "PATCH", "/orders/{key}", raw=content, key="7", media="application/json;schema=1"
    )
    return answer, bench.sink.commands


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('{"total":1.50}', {"amount": "1.50"}),
        ('{"number":7,"total":{"$increment":-1.10}}', {"amount": {"$increment": "-1.10"}}),
        ('{"note":null,"dropped":"x"}', {"note": None}),
    ],
)
def test_a_patch_of_an_old_version_is_archived_as_one_of_today(text: str, body: Any) -> None:
    answer, commands = patch_old(text)
    assert answer.status == 202, answer.body
    assert [(command.schema, command.body) for command in commands] == [(3, body)]


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ('{"amount":1}', 422, "validation_failed"),
        ('{"total":null}', 422, "validation_failed"),
        ('{"total":"much"}', 422, "validation_failed"),
        ('{"total":{"$increment":"much"}}', 422, "validation_failed"),
        ('{"note":{"$increment":1}}', 422, "validation_failed"),
        ('{"note":"bad"}', 422, "validation_failed"),
        ('{"dropped":"x"}', 422, "empty_patch"),
        ("[]", 422, "validation_failed"),
    ],
)
def test_an_old_patch_that_does_not_fit_is_refused(text: str, status: int, code: str) -> None:
    answer, commands = patch_old(text)
    assert (answer.status, document(answer)["code"]) == (status, code)
    assert commands == []


def test_an_old_patch_without_an_upcaster_is_415_and_never_guessed() -> None:
    answer, commands = patch_old('{"note":"x"}', Unpatchable)
    assert (answer.status, document(answer)["code"]) == (415, "unsupported_media_type")
    assert "schema version 1" in document(answer)["detail"]
    assert commands == []


@pytest.mark.parametrize("text", ["eq.a\ufffd", "in.(a,\ufffd)"])
def test_a_filter_with_bytes_that_are_not_utf8_names_no_item(text: str) -> None:
    bench = bench_of(SPEC)
    answer = bench.app.handle({
        "resource": "/products",
        "path": "/products",
        "httpMethod": "DELETE",
        "headers": {},
        "multiValueQueryStringParameters": {"sku": [text]},
        "body": None,
    })  # fmt: skip
    assert (answer.status, document(answer)["code"]) == (400, "not_utf8")
    assert bench.sink.taken == []


def test_patches_of_a_list_of_keys_are_made_in_its_order() -> None:
    bench = WriteBench()
    proxy = {
        "resource": "/cities",
        "path": "/cities",
        "httpMethod": "PATCH",
        "headers": {"Content-Type": "application/json", "If-Match": "*"},
        "multiValueQueryStringParameters": {"geonameid": ["in.(7,5,7)"]},
        "body": json.dumps({"population": 5}),
    }
    answer = bench.app.handle(proxy)
    assert answer.status == 207
    made = [(command.op, command.key, command.condition) for command in bench.sink.commands]
    assert made == [("patch", 7, {"match": ["*"]}), ("patch", 5, {"match": ["*"]})]
    assert sorted(command.id for command in bench.sink.commands) == [
        result["command_id"] for result in document(answer)["results"]
    ]
