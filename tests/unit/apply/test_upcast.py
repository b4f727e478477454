"""Bodies archived under older schema versions reach the current one, step by step."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.apply.prepare import upcast
from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource import Resource
from tests.fixtures.commands import command_id


def split_name(body: dict[str, Any]) -> dict[str, Any]:
    given, family = body.pop("name").split(" ", 1)
    return {**body, "given": given, "family": family}


def add_country(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "country": "??"}


class Person(Resource, path="people", schema_version=3, upcasters={1: split_name, 2: add_country}):
    """A resource with a schema that has changed twice."""

    given: Annotated[str, Field(max_length=50)]
    family: Annotated[str, Field(max_length=50)]
    country: Annotated[str, Field(max_length=2)]


def person(schema: int, body: dict[str, Any] | None) -> Command:
    op = "delete" if body is None else "put"
    return Command(command_id(1), op, "people", "k", schema, "test", None, body)  # type: ignore[arg-type]


ADA = {"given": "Ada", "family": "Lovelace", "country": "??"}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (1, {"name": "Ada Lovelace"}),
        (2, {"given": "Ada", "family": "Lovelace"}),
        (3, ADA),
    ],
)
def test_every_version_comes_to_the_current_one(schema: int, body: dict[str, Any]) -> None:
    archived = person(schema, dict(body))
    current = upcast(archived, Person.spec_)
    assert (current.schema, current.body) == (3, ADA)
    assert archived.body == body, "the archived command is left as it is"
    assert (current.id, current.op, current.key) == (archived.id, archived.op, archived.key)


def test_a_delete_of_an_old_version_needs_no_upcaster() -> None:
    assert upcast(person(1, None), Person.spec_).body is None


@pytest.mark.parametrize("body", [{}, {"name": 5}, {"name": "Plato"}])
def test_a_body_that_an_upcaster_cannot_take_is_named(body: dict[str, Any]) -> None:
    with pytest.raises(BodyError, match="from version 1") as caught:
        upcast(person(1, body), Person.spec_)
    assert caught.value.code == "upcast_failed"


def test_an_upcaster_that_makes_no_object_is_named() -> None:
    class Broken(
        Resource,
        path="broken",
        schema_version=2,
        upcasters={1: lambda _: None},
    ):
        """A resource with an upcaster that returns None."""

        name: str

    with pytest.raises(BodyError, match="no object"):
        upcast(person(1, {}), Broken.spec_)
