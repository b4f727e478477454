"""Writes, filters, imports and cursors accept the same spellings, with the same meaning."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from pydantic.functional_validators import AfterValidator

from forebay.errors import DeclarationError
from forebay.ids import IdSource
from forebay.intake.commands import CommandMaker, Origin
from forebay.intake.json_text import parse_text
from forebay.problem import ProblemError
from forebay.query.ast import Filter, Operand, OrderTerm
from forebay.query.cursor import make_cursor, read_cursor
from forebay.query.parse import parse_list
from forebay.resource import Kind, Resource
from forebay.resource.compiled import dump, load
from lambdas.imports.formats import Dialect, SourceFile
from lambdas.imports.items import read_items

MOST = Field(max_digits=1000, decimal_places=500)


class Inner(BaseModel):
    """An object inside a field."""

    day: dt.date


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("is odd")
    return value


def _small(value: int) -> int:
    if value > 10:
        raise AssertionError("is large")  # a failed `assert` raises the same
    return value


class Spelled(Resource, path="spelled"):
    """One field of each type with a text that has several readings."""

    text: str | None = None
    whole: int | None = None
    double: float | None = None
    money: Annotated[Decimal | None, MOST] = None
    flag: bool | None = None
    day: dt.date | None = None
    moment: dt.datetime | None = None
    link: uuid.UUID | None = None
    days: list[dt.date] = Field(default=[])
    moments: list[dt.datetime] = Field(default=[])
    links: list[uuid.UUID] = Field(default=[])
    sums: list[Annotated[Decimal, MOST]] = Field(default=[])
    inner: list[Inner] = Field(default=[])
    by_day: dict[dt.date, int] = Field(default={})
    by_number: dict[int, int] = Field(default={})
    by_weight: dict[float, int] = Field(default={})
    by_flag: dict[bool, int] = Field(default={})
    times: list[dt.time] = Field(default=[])
    spans: list[dt.timedelta] = Field(default=[])
    even: Annotated[int, AfterValidator(_even), AfterValidator(_small)] = 0


SPEC = Spelled.spec_
FINGERPRINT = "0" * 16
#: Kinds with values that are strings in JSON.
QUOTED = {Kind.TEXT, Kind.DECIMAL, Kind.DATE, Kind.TIMESTAMP, Kind.UUID}
FIELDS = {
    Kind.TEXT: "text",
    Kind.INTEGER: "whole",
    Kind.FLOAT: "double",
    Kind.DECIMAL: "money",
    Kind.BOOLEAN: "flag",
    Kind.DATE: "day",
    Kind.TIMESTAMP: "moment",
    Kind.UUID: "link",
}
MEMBERS = {
    Kind.DECIMAL: "sums",
    Kind.DATE: "days",
    Kind.TIMESTAMP: "moments",
    Kind.UUID: "links",
}

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
MOMENTS = st.datetimes(timezones=ZONES | st.just(dt.UTC))
NUMBERS = st.from_regex(
    re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?", re.ASCII), fullmatch=True
)
VALID: Mapping[Kind, st.SearchStrategy[str]] = {
    Kind.TEXT: st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1).map(str) | NUMBERS,
    Kind.FLOAT: st.floats(allow_nan=False, allow_infinity=False).map(repr) | NUMBERS,
    Kind.DECIMAL: NUMBERS,
    Kind.BOOLEAN: st.sampled_from(
        ["true", "false", "t", "f", "yes", "no", "on", "off", "1", "0", "True", "FALSE", "y", "N"]
    ),
    Kind.DATE: st.dates().map(dt.date.isoformat) | st.dates().map("{:%Y%m%d}".format),
    Kind.TIMESTAMP: MOMENTS.map(str)
    | MOMENTS.map(dt.datetime.isoformat)
    | MOMENTS.map("{:%Y-%m-%dT%H:%M:%SZ}".format)
    | MOMENTS.map("{:%Y-%m-%d %H:%M:%S+00}".format)
    | st.integers(0, 2**41).map(str),
    Kind.UUID: st.uuids().map(str) | st.uuids().map(lambda value: value.hex.upper()),
}
_JSON_SPACE = " \t\r\n"
LETTERS = st.sampled_from([*"0123456789+-.:eETtZzWfxn_, /{}", "\n", "\u00a0", "\u0665", "\uff15"])


@st.composite
def near(draw: st.DrawFn, kind: Kind) -> str:
    """Draw a valid text, or a text with a few letters changed, added or removed."""
    letters = list(draw(VALID[kind]))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(letters)))
        letters[at : at + draw(st.integers(0, 1))] = draw(st.just("") | LETTERS)
    return "".join(letters)


def write(field: str, text: str, *, quoted: bool, within: str = "{}") -> Any:
    """Return the value that a POST with the text in a field stores; None if it is refused."""
    literal = within.format(json.dumps(text) if quoted else text)
    return _body(f'{{"{field}":{literal}}}'.encode(), field)


def imported(field: str, cell: str) -> Any:
    """Return the value that a CSV file with the text in a cell stores; None if it is refused."""
    content = io.StringIO()
    csv.writer(content).writerows(
        [["text", field], ["x", cell]] if field != "text" else [["text", "whole"], [cell, "1"]]
    )
    file = SourceFile(io.BytesIO(content.getvalue().encode()), "csv", Dialect())
    (item,) = read_items(file, SPEC)
    return _body(item.text, field) if item.fault is None else None


def _body(item: bytes, field: str) -> Any:
    try:
        line = CommandMaker(IdSource()).create(SPEC, parse_text(item), Origin("test"))
    except ProblemError:
        return None
    assert line.command.body is not None
    return line.command.body[field]


def filtered(field: str, text: str, operator: str = "eq") -> Any:
    """Return the value that a list's filter reads from the text; None if it is refused."""
    try:
        (condition,) = parse_list(SPEC, (), {field: f"{operator}.{text}"}, None).where.members
    except ProblemError:
        return None
    assert isinstance(condition, Filter)
    return condition.value


def continued(field: str, text: str) -> Any:
    """Return the value that a cursor reads from the text; None if it is refused."""
    column = SPEC.column(field)
    assert column is not None
    cursor = make_cursor(FINGERPRINT, [text])
    assert cursor is not None
    try:
        order = [OrderTerm(Operand(column), descending=False, nulls_first=False)]
        return read_cursor(cursor, FINGERPRINT, order).values[0]
    except ProblemError:
        return None


VALUES: Mapping[Kind, Callable[[Any], object]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.BOOLEAN: lambda value: value in {True, "true"},
    Kind.DATE: dt.date.fromisoformat,
    Kind.TIMESTAMP: dt.datetime.fromisoformat,
    Kind.UUID: uuid.UUID,
}


def _value(kind: Kind, found: Any) -> object:
    return None if found is None else VALUES[kind](found)


@pytest.mark.parametrize("kind", FIELDS)
def test_write_filter_import_and_cursor_agree_on_every_spelling(kind: Kind) -> None:
    field = FIELDS[kind]
    taken = 0

    @given(near(kind))
    @settings(max_examples=400)
    @example("1704067200")
    @example("20240131120000")
    @example("2026-02-28")
    @example("2026-02-28T10:00:00")
    @example("2026-02-28 10:00:00+00")
    @example("2026-02-28T10:00:00+0000")
    @example("2026-02-28T10:00Z")
    @example("2026-02-28_10:00:00Z")
    @example("1.23457E+11")
    @example("1_000")
    @example(" 5 ")
    @example("+5")
    @example("007")
    @example("\u0665")
    @example("5.0")
    @example("9007199254740993.0")
    @example("null")
    @example("\ntrue")
    def agree(text: str) -> None:
        nonlocal taken
        assume(text and "\x00" not in text and not re.search("[eE][+-]?[0-9]{3}", text))
        # A blank in the place of a zone's `+` comes from the decoding of the query string.
        assume(kind is not Kind.TIMESTAMP or not re.search(r"[0-9] [0-9]{2}(:[0-9]{2})?\Z", text))
        by_filter = _value(kind, filtered(field, text))
        by_import = _value(kind, imported(field, text))
        assert by_import == by_filter, "import"
        assert _value(kind, continued(field, text)) == by_filter, "cursor"
        by_write = _value(kind, write(field, text, quoted=kind in QUOTED))
        taken += by_filter is not None
        if kind is Kind.BOOLEAN and text.strip(_JSON_SPACE) not in {"true", "false"}:
            assert by_write is None  # JSON has booleans of its own, so text is refused
        elif kind is Kind.INTEGER and re.search("[eE]", text):
            assert by_filter is None  # JSON has one kind of number; text integers have no exponent
        else:
            assert by_write == by_filter or _is_json_space(text), "write"

    agree()
    assert taken > 50


def _is_json_space(text: str) -> bool:
    """Return whether the text begins or ends with white space that JSON skips."""
    return text.strip(_JSON_SPACE) != text


@pytest.mark.parametrize("kind", MEMBERS)
def test_members_of_lists_are_spelled_like_fields(kind: Kind) -> None:
    field, member = FIELDS[kind], MEMBERS[kind]

    @given(near(kind))
    @settings(max_examples=200)
    @example("1704067200")
    @example("1_000")
    @example("2026-02-28 10:00:00+00")
    def agree(text: str) -> None:
        assume(text and "\x00" not in text and not re.search("[eE][+-]?[0-9]{3}", text))
        assume(kind is not Kind.TIMESTAMP or not re.search(r"[0-9] [0-9]{2}(:[0-9]{2})?\Z", text))
        cell = json.dumps([text])
        by_write = write(member, text, quoted=True, within="[{}]")
        assert (by_write is None) == (write(field, text, quoted=True) is None)
        assert imported(member, cell) == by_write
        by_filter = filtered(member, cell, "cs")
        assert (None if by_filter is None else json.loads(by_filter)) == by_write

    agree()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"day":"1704067200"}', "#/day"),
        ('{"moment":"20240131120000"}', "#/moment"),
        ('{"moment":"1704067200"}', "#/moment"),
        ('{"moment":1704067200}', "#/moment"),
        ('{"day":1704067200}', "#/day"),
        ('{"money":" 1"}', "#/money"),
        ('{"money":"1_000"}', "#/money"),
        ('{"money":true}', "#/money"),
        ('{"link":"urn:uuid:00000000-0000-0000-0000-000000000000"}', "#/link"),
        ('{"link":5}', "#/link"),
        ('{"days":["2026-02-28","1704067200"]}', "#/days/1"),
        ('{"moments":["1704067200"]}', "#/moments/0"),
        ('{"inner":[{"day":"1704067200"}]}', "#/inner/0/day"),
        ('{"by_day":{"1704067200":1}}', "#/by_day/1704067200/%5Bkey%5D"),
        ('{"by_number":{"1_0":1}}', "#/by_number/1_0/%5Bkey%5D"),
        ('{"by_number":{"007":1}}', "#/by_number/007/%5Bkey%5D"),
        ('{"by_weight":{"1_0":1}}', "#/by_weight/1_0/%5Bkey%5D"),
        ('{"by_weight":{"inf":1}}', "#/by_weight/inf/%5Bkey%5D"),
        ('{"by_flag":{"yes":1}}', "#/by_flag/yes/%5Bkey%5D"),
        ('{"times":["10:00"]}', "#/times/0"),
        ('{"spans":["1 day"]}', "#/spans/0"),
        ('{"spans":[5]}', "#/spans/0"),
    ],
)
@pytest.mark.parametrize("source", ["declared", "compiled"])
def test_text_that_is_read_as_something_else_is_refused_with_its_place(
    body: str, pointer: str, source: str
) -> None:
    spec = SPEC
    if source == "compiled":
        loaded = load(dump({"spelled": SPEC}))
        assert loaded is not None
        spec = loaded["spelled"]
    item = parse_text(body.encode())
    with pytest.raises(ProblemError) as caught:
        CommandMaker(IdSource()).create(spec, item, Origin("test"))
    assert [fault["pointer"] for fault in caught.value.problem.errors] == [pointer]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('{"moment":"2026-02-28 10:00:00+00"}', "2026-02-28T10:00:00Z"),
        ('{"moment":"2026-02-28t10:00:00.5z"}', "2026-02-28T10:00:00.500000Z"),
        ('{"moments":["2026-02-28T10:00:00+00"]}', ["2026-02-28T10:00:00Z"]),
        ('{"sums":[5,"1.50",2.5]}', ["5", "1.50", "2.5"]),
        ('{"times":["10:00:00"]}', ["10:00:00"]),
        ('{"spans":["P1DT12H"]}', ["P1DT12H"]),
        ('{"by_number":{"-7":1}}', {"-7": 1}),
        ('{"by_flag":{"true":1}}', {"true": 1}),
    ],
)
def test_valid_spellings_are_kept(body: str, kept: object) -> None:
    (field,) = json.loads(body)
    assert _body(body.encode(), field) == kept


def test_no_message_has_the_words_that_the_library_puts_before_it() -> None:
    for sent, message in (("3", "is odd"), ("12", "is large")):
        item = parse_text(f'{{"even":{sent}}}'.encode())
        with pytest.raises(ProblemError) as caught:
            CommandMaker(IdSource()).create(SPEC, item, Origin("test"))
        assert [fault["detail"] for fault in caught.value.problem.errors] == [message]


def test_a_refused_default_is_named_as_in_the_declaration() -> None:
    with pytest.raises(DeclarationError, match="the default 3 is not valid: is odd"):

        class Odd(Resource, path="odd"):
            number: Annotated[int, AfterValidator(_even)] = 3


def test_a_default_of_a_date_is_not_a_text() -> None:
    with pytest.raises(DeclarationError, match="the default '1704067200' is not valid"):

        class Late(Resource, path="late"):
            day: dt.date = "1704067200"  # type: ignore[assignment]
