"""An item is read as it was accepted: intake, archive line, apply, the item's SELECT."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from forebay.apply import Source, apply
from forebay.codec import decode
from forebay.db.schema import metadata
from forebay.ids import IdSource
from forebay.intake.commands import CommandMaker, Line, Origin
from forebay.intake.json_text import JsonText, dump, parse
from forebay.problem import ProblemError
from forebay.resource import Resource
from lambdas.read.sql.rows import item_query
from tests.fixtures import hostile
from tests.fixtures.tables import Database


class Size(enum.Enum):
    """An enumeration with values that differ from its names; the values are stored."""

    SMALL = "small"
    ODD = "\t\\N"


class Sample(Resource, path="samples"):
    """A resource with a field of each type."""

    text: str = "\\."
    short: Annotated[str, Field(max_length=10)] = ""
    big: int = 0
    small: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    double: float = 0.0
    money: Annotated[Decimal, Field(max_digits=20, decimal_places=4)] = Decimal(0)
    fraction: Annotated[Decimal, Field(max_digits=6, decimal_places=5)] = Decimal(0)
    flag: bool = False
    day: dt.date = dt.date(1, 1, 1)
    moment: dt.datetime = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    link: uuid.UUID = uuid.UUID(int=0)
    size: Size = Size.SMALL
    word: Literal["a", "\\N", "\n"] = "a"
    things: list[Any] = Field(default=[])
    names: dict[str, Any] = Field(default={})
    perhaps: Annotated[dt.datetime | None, Field()] = None
    perhaps_json: Annotated[dict[str, Any] | None, Field()] = None


STORABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
TEXT = st.text(STORABLE) | st.sampled_from(
    ["\\N", "\\.", "\t\n\r\\", "\b\f\v", "e\u0301", "\U0010ffff", "\u2028\x85", '"', "NULL", " a "]
)
INTEGERS = st.sampled_from([-(2**63), -(2**31) - 1, 2**31, 2**53 + 1, 2**63 - 1]) | st.integers(
    -(2**63), 2**63 - 1
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
MOMENTS = st.datetimes(
    dt.datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    dt.datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=ZONES,
).map(dt.datetime.isoformat)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXT,
        "short": TEXT.filter(lambda text: len(text) <= 10),
        "big": INTEGERS,
        "small": st.integers(-(2**31), 2**31 - 1),
        "double": FLOATS,
        "money": st.decimals(-(10**15), 10**15, places=4).map(str),
        "fraction": st.decimals(Decimal("-0.99999"), Decimal("0.99999"), places=5).map(str),
        "flag": st.booleans(),
        "day": st.dates().map(dt.date.isoformat),
        "moment": MOMENTS,
        "link": st.uuids().map(str),
        "size": st.sampled_from([size.value for size in Size]),
        "word": st.sampled_from(["a", "\\N", "\n"]),
        "things": st.lists(JSON, max_size=3),
        "names": st.dictionaries(TEXT, JSON, max_size=3),
        "perhaps": st.none() | MOMENTS,
        "perhaps_json": st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    },
)


@pytest.fixture
def samples(database: Database) -> Database:
    """The database with the table of `Sample`."""
    engine = sa.create_engine(
        sa.make_url(database.url).set(drivername="postgresql+psycopg"),
        poolclass=sa.NullPool,
        connect_args={"options": "-c search_path=public"},
    )
    tables = metadata({"samples": Sample.spec_})
    with engine.begin() as connection:
        tables.tables["samples"].create(connection)
    return database


def accepted(raw: str, *, in_array: bool) -> Line:
    """Build the command of a JSON text that is sent by itself, or as an item of an array."""
    value = parse(f"[{raw}]".encode())
    item = JsonText(dump(value[0]) if in_array else raw.encode(), value[0])
    return CommandMaker(IdSource()).create(Sample.spec_, item, Origin("test"))


def stored(database: Database, raw: str, *, in_array: bool = False) -> dict[str, Any]:
    """Write an item and return it as a client reads it; check the archived line too."""
    line = accepted(raw, in_array=in_array)
    assert decode(line.data) == line.command
    outcome = apply(
        database.connection,
        [[decode(line.data)]],
        Source(f"commands/{line.command.id}"),
        resources={"samples": Sample.spec_},
        decision_log=database.decision_log(),
    )
    assert outcome.counts.applied == 1, database.archived
    row = database.connection.execute(*item_query(Sample.spec_, line.command.key)).fetchone()
    assert row is not None
    document: dict[str, Any] = json.loads(row[2], parse_float=Decimal)
    assert document.pop("id") == line.command.key
    return document


def same(sent: Any, found: Any) -> bool:
    """Return whether both are the same JSON value; floats are compared as doubles."""
    if isinstance(sent, dict) and isinstance(found, dict):
        return sent.keys() == found.keys() and all(same(sent[k], found[k]) for k in found)
    if isinstance(sent, list) and isinstance(found, list):
        return len(sent) == len(found) and all(map(same, sent, found))
    if isinstance(sent, float):
        return not isinstance(found, bool) and sent == float(found)
    return type(sent) is type(found) and bool(sent == found)


def check(sent: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in sent.items():
        match name:
            case "moment" | "perhaps" if value is not None:
                assert dt.datetime.fromisoformat(found[name]) == dt.datetime.fromisoformat(value)
            case "money" | "fraction":
                assert Decimal(found[name]) == Decimal(value)
            case _:
                assert same(value, found[name]), (name, value, found[name])


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=BODIES, in_array=st.booleans())
@example(sent={}, in_array=False)
@example(sent={"double": -0.0, "things": [-0.0, 5e-324, 1.7976931348623157e308]}, in_array=True)
@example(sent={"double": 5e-324, "text": "x" * 500_000, "names": {"": {}}}, in_array=False)
@example(sent={"moment": "0001-01-01T00:00:00-14:00"}, in_array=False)
@example(sent={"moment": "9999-12-31T23:59:59.999999+14:00", "day": "9999-12-31"}, in_array=False)
@example(sent={"moment": "2026-01-01T00:00:00+23:59"}, in_array=False)
@example(sent={"money": "0E-500", "fraction": "0E+40"}, in_array=False)
@example(sent={"money": "0E-999999", "fraction": "1E-5"}, in_array=False)
@example(sent={"money": "-9999999999999999.9999", "fraction": "-0"}, in_array=False)
def test_accepted_values_are_read_back_unchanged(
    samples: Database, sent: dict[str, Any], *, in_array: bool
) -> None:
    check(sent, stored(samples, json.dumps(sent), in_array=in_array))


NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**9) | st.integers(2**53, 2**53 + 9) | st.integers(0, 10**25),
    st.just("") | st.from_regex(r"\.[0-9]{1,20}", fullmatch=True),
    st.just("") | st.builds("e{}".format, st.integers(-330, 330) | st.integers(-9, 22)),
)
PLACES = {
    "double": "{}",
    "big": "{}",
    "money": "{}",
    "things": "[[{}]]",
    "names": '{{"a":{{"b":{}}}}}',
}


def numbers_in(value: Any) -> list[Decimal]:
    """Return all numbers of a nested value."""
    if isinstance(value, list):
        return [number for inner in value for number in numbers_in(inner)]
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_in(inner)]
    return [Decimal(value)]


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(field=st.sampled_from(sorted(PLACES)), number=NUMBERS, in_array=st.booleans())
@example(field="things", number="1e22", in_array=False)
@example(field="names", number="1.7976931348623157e308", in_array=True)
@example(field="names", number="5e-324", in_array=True)
@example(field="double", number="9007199254740993.0", in_array=False)
@example(field="big", number="9007199254740993.0", in_array=True)
def test_a_number_is_refused_or_is_read_as_it_was_written_and_can_be_written_so_again(
    samples: Database, field: str, number: str, *, in_array: bool
) -> None:
    value = PLACES[field].format(number)
    try:
        read_back = stored(samples, f'{{"{field}":{value}}}', in_array=in_array)
    except ProblemError:
        assert field != "double" or not is_text_of_double(number)
        return
    (read,) = numbers_in(read_back[field])
    if field in {"big", "money"} or (field != "double" and number.strip("-").isdigit()):
        assert read == Decimal(number)
    else:
        assert is_text_of_double(number)
        assert float(read) == float(number)
    shown = PLACES[field].format(format(read, "f"))
    again = stored(samples, f'{{"{field}":{shown}}}', in_array=in_array)
    assert again[field] == read_back[field]


def is_text_of_double(number: str) -> bool:
    """Return whether the nearest double is within half a unit of the text's last digit."""
    double = float(number)
    if not math.isfinite(double):
        return False
    if Decimal(number) == 0:
        return True
    mantissa, _, exponent = number.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    zeros = len(digits) - len(digits.rstrip("0"))
    unit = Fraction(10) ** (int(exponent or 0) - len(fraction) + zeros)
    return abs(Fraction(double) - Fraction(number)) * 2 <= unit


def test_sixty_levels_of_json_come_back(samples: Database) -> None:
    value: list[Any] = []
    for _ in range(60):
        value = [value, {"a": "\\u0000"}]
    assert stored(samples, json.dumps({"things": value}))["things"] == value


@pytest.mark.parametrize("in_array", [False, True])
def test_decimals_keep_their_digits_next_to_an_integer_beyond_64_bits(
    samples: Database, *, in_array: bool
) -> None:
    sent = '{"money": 1234567890123456.7891, "double": 18446744073709551616}'
    value = stored(samples, sent, in_array=in_array)
    assert value["money"] == Decimal("1234567890123456.7891")
    assert float(value["double"]) == 2.0**64


@pytest.mark.parametrize(
    "sent",
    [
        '{"moment": "0001-01-01T00:00:00+14:00"}',
        '{"perhaps": "9999-12-31T23:59:59-14:00"}',
        '{"things": [{"a": 1e400}]}',
        '{"names": {"a": -1e400}}',
        '{"double": 1e400}',
        '{"big": 9223372036854775808}',
        '{"small": 2147483648}',
        '{"things": [9223372036854775808]}',
        '{"text": "\\u0000"}',
        '{"names": {"\\u0000": 1}}',
        '{"money": 1e17}',
        '{"moment": "2026-01-01T00:00:00"}',
        f'{{"big": {"9" * 5000}}}',
    ],
    ids=lambda sent: sent[:40],
)
@pytest.mark.parametrize("in_array", [False, True])
def test_values_that_could_not_be_read_back_are_refused(sent: str, *, in_array: bool) -> None:
    with pytest.raises(ProblemError):
        accepted(sent, in_array=in_array)


def test_accepted_hostile_values_are_not_rejected_later(
    samples: Database,
) -> None:
    """In any field, and as a value within JSON: intake refuses all that Postgres can't store."""
    lines = []
    for field in Sample.spec_.fields:
        for text in hostile.VALUES:
            for value in (text, f"[{text}]", f'{{"a":{text}}}', f'{{{text}:"a"}}'):
                try:
                    lines.append(accepted(f'{{"{field.name}":{value}}}', in_array=False))
                except ProblemError:
                    continue
    entries = [decode(line.data) for line in lines]
    outcome = apply(
        samples.connection,
        [entries],
        Source("commands/hostile.gz"),
        resources={"samples": Sample.spec_},
        decision_log=samples.decision_log(),
    )
    assert samples.archived == []
    assert outcome.counts.applied == len(lines) > len(hostile.VALUES)
