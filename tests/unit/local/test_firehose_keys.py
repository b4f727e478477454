"""Prefixes and object names, as the Firehose developer guide defines them."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.firehose.keys import PrefixError, check_prefix, evaluate_prefix, object_key

MOMENT = datetime(2018, 8, 7, 4, 3, 2, 1_000, UTC)  # a Tuesday

# The output of java.time's DateTimeFormatter for each pattern.
FIELDS: dict[str, Callable[[datetime], str]] = {
    "yyyy": lambda t: f"{t.year:04d}",
    "yy": lambda t: f"{t.year % 100:02d}",
    "MM": lambda t: f"{t.month:02d}",
    "M": lambda t: f"{t.month}",
    "dd": lambda t: f"{t.day:02d}",
    "d": lambda t: f"{t.day}",
    "HH": lambda t: f"{t.hour:02d}",
    "H": lambda t: f"{t.hour}",
    "hh": lambda t: f"{(t.hour + 11) % 12 + 1:02d}",
    "mm": lambda t: f"{t.minute:02d}",
    "ss": lambda t: f"{t.second:02d}",
    "SSS": lambda t: f"{t.microsecond // 1000:03d}",
    "DDD": lambda t: f"{(t - t.replace(month=1, day=1)).days + 1:03d}",
}

moments = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis requires naive bounds
    max_value=datetime(2999, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
# A quoted literal may hold every character but the brace that ends the expression.
literals = st.text(st.characters(exclude_characters="}", exclude_categories=["Cs"]), max_size=12)
separators = st.sampled_from(["/", "-", "_", "=", ".", " ", ":"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'" if text else ""


@st.composite
def patterns(draw: st.DrawFn) -> tuple[str, Callable[[datetime], str]]:
    """Draw a timestamp pattern, and the function that it should evaluate to."""
    pieces: list[tuple[str, Callable[[datetime], str]]] = []
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=6)):
        separator, literal = draw(separators), draw(literals)
        pieces.append((name, FIELDS[name]))
        pieces.append((separator, lambda _t, text=separator: text))  # type: ignore[misc]
        # Between separators: two adjacent quoted literals would be read as one, with a quote.
        pieces.append((quoted(literal), lambda _t, text=literal: text))  # type: ignore[misc]
        pieces.append((separator, lambda _t, text=separator: text))  # type: ignore[misc]
    return "".join(text for text, _ in pieces), lambda t: "".join(value(t) for _, value in pieces)


@given(patterns(), moments, st.from_regex(r"[a-z/=-]{0,20}", fullmatch=True))
def test_a_timestamp_expression_means_what_java_makes_of_it(
    pattern: tuple[str, Callable[[datetime], str]], moment: datetime, around: str
) -> None:
    text, meaning = pattern

    evaluated = evaluate_prefix(f"{around}!{{timestamp:{text}}}{around}", moment)

    assert evaluated == around + meaning(moment) + around


@given(st.from_regex(r"[A-Za-z0-9/_.!=-]{0,40}", fullmatch=True), moments)
def test_a_prefix_without_timestamp_gets_the_hour_appended(prefix: str, moment: datetime) -> None:
    expected = f"{prefix}{moment.year:04d}/{moment.month:02d}/{moment.day:02d}/{moment.hour:02d}/"

    assert evaluate_prefix(prefix, moment) == expected


@pytest.mark.parametrize(
    ("prefix", "evaluated"),
    [
        ("", "2018/08/07/04/"),
        ("commands/!{timestamp:yyyy/MM/dd/HH}/", "commands/2018/08/07/04/"),
        (
            "a/year=!{timestamp:yyyy}/month=!{timestamp:MM}/hour=!{timestamp:HH}/",
            "a/year=2018/month=08/hour=04/",
        ),
        (
            "!{timestamp:'year='yyyy'/month='MM'/day='dd'/hour='HH}/",
            "year=2018/month=08/day=07/hour=04/",
        ),
        ("!{timestamp:EEE d MMM yyyy h 'o''clock' a}/", "Tue 7 Aug 2018 4 o'clock AM/"),
        ("!{timestamp:yyyy''''}/", "2018'/"),
    ],
)
def test_the_guides_examples(prefix: str, evaluated: str) -> None:
    assert evaluate_prefix(prefix, MOMENT) == evaluated


def test_every_random_string_is_new() -> None:
    prefix = "!{firehose:random-string}/!{firehose:random-string}/"

    one, other, rest = evaluate_prefix(prefix, MOMENT).split("/", 2)

    assert len(one) == len(other) == 11
    assert one != other
    assert rest == "2018/08/07/04/"
    assert not evaluate_prefix(prefix, MOMENT).startswith(one)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("a/!{timestamp:yyyy", "outside"),
        ("a/!{yyyy}/", "outside"),
        ("!{firehose:error-output-type}/", "error-output-type"),
        ("!{partitionKeyFromQuery:tenant}/", "tenant"),
        ("!{timestamp:YYYY/MM}/", "'yyyy'"),
        ("!{timestamp:'year}/", "quote"),
        ("!{timestamp:HHH}/", "'HHH'"),
        ("!{timestamp:[yyyy]}/", r"'\['"),
        ("x" * 500 + "/", "512"),
    ],
)
def test_a_prefix_that_can_not_be_evaluated_is_refused(prefix: str, reason: str) -> None:
    with pytest.raises(PrefixError, match=reason):
        check_prefix(prefix)


def test_an_object_is_named_after_stream_version_and_oldest_arrival() -> None:
    object_id = uuid.UUID("7b0a6d7e-8f5c-4a54-9a3e-0c7c2c6f8f11")

    key = object_key(
        prefix="commands/!{timestamp:yyyy/MM/dd/HH}/",
        stream="commands",
        version="3",
        oldest_arrival=MOMENT,
        object_id=object_id,
        extension=".gz",
    )

    assert key == f"commands/2018/08/07/04/commands-3-2018-08-07-04-03-02-{object_id}.gz"
    assert re.search(r"-\d{4}(-\d\d){5}-", key)
