"""Nested models refuse unknown members, in every form that a declaration can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from forebay.resource import Key, Resource, compiled
from forebay.resource.body import BodyInvalidError, BodyValidator


class Part(BaseModel):
    """A part of a part."""

    number: int


class Line(BaseModel):
    """A line of an order."""

    article: str
    count: int = 1
    parts: list[Part] = []
    lines: list[Line] = []


class Open(BaseModel):
    """A model that keeps unknown members."""

    model_config = ConfigDict(extra="allow")
    number: int


class Ignoring(BaseModel):
    """A model that would drop unknown members."""

    model_config = ConfigDict(extra="ignore")
    number: int


class Typed(TypedDict):
    """A typed dictionary."""

    number: int


@dataclass
class Plain:
    """A dataclass."""

    number: int


class Odd(TypedDict):
    """Fields with the names of the members of schemas."""

    type: str
    config: Part
    default: Part


class Order(Resource, path="orders"):
    """An order."""

    number: Annotated[int, Key()]
    lines: Annotated[list[Line], Field(max_length=9)] = []  # noqa: RUF012
    by_name: dict[str, Part] = {}  # noqa: RUF012
    open: list[Open] = []  # noqa: RUF012
    ignoring: list[Ignoring] | None = None
    typed: list[Typed] = []  # noqa: RUF012
    plain: list[Plain] = []  # noqa: RUF012
    odd: list[Odd] = []  # noqa: RUF012
    free: dict[str, Any] = {}  # noqa: RUF012


ODD = {"type": "model", "config": {"number": 1}, "default": {"number": 1}}


def reader(packaged: bool) -> BodyValidator:  # noqa: FBT001 - a parameter of the tests
    if not packaged:
        return Order.spec_.body
    loaded = compiled.load(compiled.dump({"orders": Order.spec_}))
    assert loaded is not None
    return loaded["orders"].body


@pytest.mark.parametrize("packaged", [False, True])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"lines": [{"article": "a", "cuont": 2}]}, "#/lines/0/cuont"),
        ({"lines": [{"article": "a", "parts": [{"number": 1, "x": 2}]}]}, "#/lines/0/parts/0/x"),
        ({"lines": [{"article": "a", "lines": [{"article": "b", "x": 2}]}]}, "#/lines/0/lines/0/x"),
        ({"by_name": {"a": {"number": 1, "x": 2}}}, "#/by_name/a/x"),
        ({"ignoring": [{"number": 1, "x": 2}]}, "#/ignoring/0/x"),
        ({"typed": [{"number": 1, "x": 2}]}, "#/typed/0/x"),
        ({"plain": [{"number": 1, "x": 2}]}, "#/plain/0/x"),
        ({"odd": [{**ODD, "x": 2}]}, "#/odd/0/x"),
        ({"odd": [{**ODD, "config": {"number": 1, "x": 2}}]}, "#/odd/0/config/x"),
        ({"odd": [{**ODD, "default": {"number": 1, "x": 2}}]}, "#/odd/0/default/x"),
    ],
)
def test_a_misspelt_member_is_refused(body: dict[str, Any], pointer: str, packaged: bool) -> None:  # noqa: FBT001
    with pytest.raises(BodyInvalidError) as refused:
        reader(packaged).validate(orjson.dumps(body))
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


@pytest.mark.parametrize("packaged", [False, True])
def test_models_that_allow_other_members_still_accept_them(packaged: bool) -> None:  # noqa: FBT001
    body = {
        "lines": [{"article": "a", "count": 1, "parts": [{"number": 1}], "lines": []}],
        "open": [{"number": 1, "x": [2]}],
        "free": {"type": "model", "config": {}},
        "typed": [{"number": 1}],
        "plain": [{"number": 1}],
    }
    read = reader(packaged).validate(orjson.dumps(body)).body
    assert {name: read[name] for name in body} == body


def test_the_description_names_closed_and_open_models() -> None:
    definitions = Order.spec_.body.json_schema()["$defs"]
    closed = {name for name, one in definitions.items() if one["additionalProperties"] is False}
    assert closed == {"Line", "Part", "Ignoring", "Typed", "Plain", "Odd"}
    assert definitions["Open"]["additionalProperties"] is True
