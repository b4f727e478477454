"""Clients may send bodies of an earlier schema version; upcasters bring them up to date."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.access import Access
from forebay.db.schema import list_index_names
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from forebay.resource import Key, Resource, Resources, shape
from forebay.resource.shape import Recorded
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from tests.fixtures.api import WriteBench, document

OLD_TYPE = "application/json;schema=1"
Price = Annotated[Decimal, Field(max_digits=30, decimal_places=4)]


class Old(Resource, path="authors"):
    """The declaration of schema version 1."""

    isni: Annotated[str, Field(max_length=16), Key()]
    name: Annotated[str, Field(max_length=100)]
    price: Price = Decimal(1)
    tags: list[str] = []  # noqa: RUF012 - pydantic copies it
    note: str | None


def split(body: dict[str, Any]) -> dict[str, Any]:
    given, _, family = body.pop("name").rpartition(" ")
    if not given:
        raise ValueError("only one name")
    body["tags"].append(body.pop("price"))
    return {**body, "given": given, "family": family}


class New(Resource, path="authors", schema_version=3, upcasters={1: split, 2: dict}):
    """The current declaration."""

    isni: Annotated[str, Field(max_length=16), Key()]
    given: Annotated[str, Field(max_length=100)]
    family: Annotated[str, Field(max_length=10)]
    tags: list[str]
    note: str | None


def recorded() -> dict[str, Recorded]:
    declared = Resources({"authors": Old.spec_})
    return shape.update_record({}, declared, list_index_names(declared))


@pytest.fixture
def bench() -> WriteBench:
    new_bench = WriteBench()
    log = Log("test")
    new_bench.app = WriteApp(
        resources={"authors": New.spec_},
        acceptor=Acceptor(new_bench.sink, new_bench.store, log),
        ids=IdSource(lambda: new_bench.now_ms),
        answers=Answers(2.0),
        log=log,
        access=Access("none"),
        shapes=recorded,
    )
    return new_bench


ADA = {"name": "Ada Lovelace", "note": None}
NOW = {"given": "Ada", "family": "Lovelace", "note": None}


@pytest.mark.parametrize(
    "media", [OLD_TYPE, 'application/json; charset=utf-8; Schema="1"', "application/JSON ;schema=1"]
)
def test_a_put_of_an_old_body_is_archived_as_one_of_today(bench: WriteBench, media: str) -> None:
    answer = bench.send("PUT", "/authors/{key}", ADA, key="1", media=media)
    assert answer.status == 202
    (command,) = bench.sink.commands
    assert (command.schema, command.key) == (3, "1")
    assert command.body == {**NOW, "tags": ["1"]}


def test_a_post_keeps_its_key_and_its_digits(bench: WriteBench) -> None:
    raw = (
        '{"isni":"7","name":"Ada Lovelace","note":null,"tags":["x"],'
        '"price":12345678901234567890.1234}'
    )
    assert bench.send("POST", "/authors", raw=raw, media=OLD_TYPE).status == 202
    (command,) = bench.sink.commands
    assert command.key == "7"
    assert command.body == {**NOW, "tags": ["x", "12345678901234567890.1234"]}


def test_the_items_of_a_batch_do_not_suffer_from_each_other(bench: WriteBench) -> None:
    items = [{**ADA, "isni": "1"}, {**ADA, "isni": "2", "name": "Plato"}, {**ADA, "isni": "3"}]
    answer = bench.send("POST", "/authors", items, media=OLD_TYPE)
    assert answer.status == 207
    assert [command.key for command in bench.sink.commands] == ["1", "3"]
    tags = [(command.body or {})["tags"] for command in bench.sink.commands]
    assert tags == [["1"], ["1"]]


def test_lines_may_be_old_too(bench: WriteBench) -> None:
    raw = '{"isni":"1","name":"Ada Lovelace","note":null}\nnonsense\n'
    answer = bench.send("POST", "/authors", raw=raw, media="application/x-ndjson;schema=1")
    assert answer.status == 207
    assert [command.key for command in bench.sink.commands] == ["1"]


@pytest.mark.parametrize(
    ("changes", "pointer", "detail"),
    [
        ({"given": "Ada"}, "#/given", "that version has no such member"),
        ({"name": 7}, "#/name", "is not a string"),
        ({"name": None}, "#/name", "is null"),
        ({"name": "x" * 101}, "#/name", "is longer than 100 characters"),
        ({"price": "much"}, "#/price", "is not a number"),
        ({"name": "Plato"}, "#", "the upcaster from schema version 1 raised ValueError"),
        ({"name": "A Lovelacesson"}, "#/family", "String should have at most 10 characters"),
    ],
)
def test_an_old_body_that_does_not_fit_is_refused(
    bench: WriteBench, changes: dict[str, Any], pointer: str, detail: str
) -> None:
    answer = bench.send("PUT", "/authors/{key}", {**ADA, **changes}, key="1", media=OLD_TYPE)
    assert answer.status == 422
    (fault,) = document(answer)["errors"]
    assert fault["pointer"] == pointer
    assert detail in fault["detail"]
    assert bench.sink.commands == []


def test_a_member_without_a_default_must_be_there(bench: WriteBench) -> None:
    answer = bench.send("PUT", "/authors/{key}", {"name": "A B"}, key="1", media=OLD_TYPE)
    assert document(answer)["errors"] == [{"pointer": "#/note", "detail": "Field required"}]


@pytest.mark.parametrize("version", ["4", "2", "0", "x", "1.0", ""])
def test_a_version_that_is_not_known_is_named(bench: WriteBench, version: str) -> None:
    media = f"application/json;schema={version}"
    answer = bench.send("PUT", "/authors/{key}", ADA, key="1", media=media)
    assert answer.status == 415
    assert document(answer)["code"] == "unsupported_media_type"


def test_the_current_version_may_be_named(bench: WriteBench) -> None:
    body: dict[str, Any] = {**NOW, "tags": []}
    answer = bench.send("PUT", "/authors/{key}", body, key="1", media="application/json;schema=3")
    assert answer.status == 202
