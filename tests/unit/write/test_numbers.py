"""A number is stored exactly as sent, or refused with its place: never changed silently."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from forebay.codec import decode
from forebay.ids import IdSource
from forebay.intake.commands import CommandMaker, Origin
from forebay.intake.json_text import parse_text
from forebay.problem import ProblemError
from forebay.resource import Key, Resource


class Reading(Resource, path="readings"):
    """Numbers of every kind."""

    number: Annotated[int, Key()]
    count: int = 0
    ratio: float = 0.0
    price: Annotated[Decimal, Field(max_digits=20, decimal_places=4)] = Decimal(0)
    things: list[Any] = Field(default=[])
    ratios: list[float] = Field(default=[])
    names: dict[str, Any] = Field(default={})


def body(text: str) -> dict[str, Any]:
    line = CommandMaker(IdSource()).create(Reading.spec_, parse_text(text.encode()), Origin("test"))
    assert decode(line.data) == line.command
    assert line.command.body is not None
    return dict(line.command.body)


def kept(field: str, value: str) -> Any:
    return body(f'{{"number":1,"{field}":{value}}}')[field]


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("count", "9007199254740993.0", 9007199254740993),
        ("count", "1e3", 1000),
        ("count", "9.223372036854775807e18", 2**63 - 1),
        ("count", "-0.0", 0),
        ("ratio", "1e22", 1e22),
        ("ratio", "0.1", 0.1),
        ("ratio", "0.10000000000000001", 0.1),
        ("ratio", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("ratio", "1.0000000000000000000000000000000", 1.0),
        ("ratio", "18446744073709551616", 2.0**64),
        ("ratio", "4.94e-324", 5e-324),
        ("ratio", "0e-400", 0.0),
        ("price", "1234567890123456.7891", "1234567890123456.7891"),
        ("things", "[1e22, 10000000000000000000000, 9007199254740993]", [1e22, 1e22, 2**53 + 1]),
        ("things", "[[9007199254740992.0]]", [[9007199254740992.0]]),
        ("names", '{"a": {"b": -100000000000000000000}}', {"a": {"b": -1e20}}),
        ("ratios", "[9007199254740992, 1e22]", [9007199254740992.0, 1e22]),
    ],
)
def test_a_number_that_its_place_holds_is_kept(field: str, value: str, found: Any) -> None:
    assert kept(field, value) == found
    assert repr(kept(field, value)) == repr(found)


def test_the_key_of_an_item_is_exact_in_any_spelling() -> None:
    item = parse_text(b'{"number": 9007199254740993.0}')
    line = CommandMaker(IdSource()).create(Reading.spec_, item, Origin("test"))
    assert line.command.key == 9007199254740993


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("count", "9007199254740993.5", "#/count"),
        ("count", "9.3e18", "#/count"),
        ("count", "1e999999999999999999999", "#/count"),
        ("ratio", "9007199254740993.0", "#/ratio"),
        ("ratio", "9007199254740993", "#/ratio"),
        ("ratio", "0.1000000000000000000001", "#/ratio"),
        ("ratio", "1e-400", "#/ratio"),
        ("ratio", "5.1e-324", "#/ratio"),
        ("ratio", "1e-999999999999999999999", "#/ratio"),
        ("ratio", "1e400", "#/ratio"),
        ("ratio", "0." + "1" * 800, "#/ratio"),
        ("price", "1e-5", "#/price"),
        ("things", "[1, [9007199254740993.0]]", "#/things/1/0"),
        ("things", "[9223372036854775808]", "#/things/0"),
        ("things", "[1e-400]", "#/things/0"),
        ("names", '{"a": {"b": 10000000000000000000001}}', "#/names/a/b"),
        ("names", '{"a": 1' + "0" * 400 + "}", "#/names/a"),
        ("ratios", "[9007199254740993]", "#/ratios/0"),
    ],
)
def test_a_number_that_its_place_cannot_hold_is_refused_with_its_place(
    field: str, value: str, place: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        kept(field, value)
    assert refused.value.problem.status == 422
    assert [fault["pointer"] for fault in refused.value.problem.errors or ()] == [place]


@given(number=st.floats(allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("form", ["{!r}", "{:.16e}", "{:.17g}", "{:.20e}"])
def test_every_double_is_kept_however_many_of_its_digits_are_written(
    number: float, form: str
) -> None:
    text = form.format(number)
    assert kept("ratio", text) == number
    assert kept("things", f"[{text}]") == [number]
