"""Checks a filter's value against what it is compared with, before Postgres would refuse it."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import orjson

from forebay.query.arrays import read_array
from forebay.query.ast import Operand
from forebay.resource.body import INT64_MAX, INT64_MIN
from forebay.resource.body import MAX_DEPTH as MAX_JSON_DEPTH
from forebay.resource.spec import FieldSpec, Kind

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
#: How the elements of a list of this kind are written in JSON, from their text.
_NUMERIC_ITEMS = (Kind.INTEGER, Kind.FLOAT)
#: Of lists of these one comes before another, element by element, as Postgres's arrays do.
ORDERED_ITEMS: Final = frozenset({
    Kind.TEXT, Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, Kind.UUID
})  # fmt: skip


def checked(operand: Operand, text: str) -> str:
    """The value as text that Postgres reads as the operand's type.

    Raises:
        ValueError: it is none; the message says what the operand holds.
    """
    if operand.kind is Kind.JSON and not operand.path and operand.column.shape == "list":
        return _list(operand.column, text)
    return _READERS[operand.kind](text)


def contained(operand: Operand, text: str) -> str:
    """JSON text of what a JSON operand shall contain, or be contained in.

    Lists are also read from Postgres's spelling, `{a,b}`.

    Raises:
        ValueError: it is neither.
    """
    shape = None if operand.path else operand.column.shape
    if shape == "list":
        return _list(operand.column, text)
    try:
        return _json(text)
    except ValueError:
        if shape == "dict" or not text.startswith("{"):
            raise
    return _list(operand.column, text)


def elements(operand: Operand, text: str) -> tuple[str, ...]:
    """JSON text of each element that a JSON list shall overlap with.

    Raises:
        ValueError: the value is no list.
    """
    found = orjson.loads(contained(operand, text))
    if not isinstance(found, list):
        raise ValueError("is no list")  # noqa: TRY004 - the text is wrong, not the program
    return tuple(orjson.dumps(element).decode() for element in found)


def pattern(text: str) -> str:
    """SQL's pattern for `like`, where `*` may stand for `%`.

    Raises:
        ValueError: it ends with half an escape, which Postgres refuses.
    """
    made = text.replace("*", "%")
    if (len(made) - len(made.rstrip("\\"))) % 2:
        raise ValueError("ends with a single \\, which escapes nothing")
    return made


def _integer(text: str) -> str:
    if not _INTEGER.fullmatch(text) or not INT64_MIN <= int(text) <= INT64_MAX:
        raise ValueError("is no integer of 64 bits")
    return text


def _float(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("is no number")
    value = float(text)
    if math.isinf(value) or (value == 0 and re.search("[1-9]", text.lower().partition("e")[0])):
        raise ValueError("is beyond a double")
    return text


def _decimal(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("is no decimal number")
    return text


def _boolean(text: str) -> str:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("is neither true nor false")
    return "true" if word in _TRUE else "false"


def _date(text: str) -> str:
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("is no date, such as 2026-02-28") from None


def _timestamp(text: str) -> str:
    """In UTC; without a zone it is read as UTC, which is what the database's sessions speak."""
    try:
        # A `+` in a query string that nobody encoded arrives as a space.
        value = dt.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC).isoformat()
    except (ValueError, OverflowError):  # the latter at the ends of the years 1 to 9999
        raise ValueError("is no point in time, such as 2026-02-28T10:00:00Z") from None


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError("is no UUID")
    return str(uuid.UUID(text))


def _json(text: str) -> str:
    """As the body of an item would be stored, so that equal values are equal."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"is no JSON: {exc.msg}") from None
    _refuse_unstorable(value)
    return orjson.dumps(value).decode()


def _refuse_unstorable(value: object) -> None:
    """What no item can have; orjson would not write much deeper values either."""
    stack = [(value, 1)]
    while stack:
        found, level = stack.pop()
        if isinstance(found, str) and "\x00" in found:
            raise ValueError("holds NUL, which Postgres can't store")
        if isinstance(found, dict | list) and level > MAX_JSON_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_JSON_DEPTH} levels")
        if isinstance(found, dict):
            stack += [(inner, level + 1) for inner in (*found.keys(), *found.values())]
        elif isinstance(found, list):
            stack += [(inner, level + 1) for inner in found]


def _list(column: FieldSpec, text: str) -> str:
    if not text.startswith("{"):
        return _json(text)
    items = column.items
    if items in _NUMERIC_ITEMS:
        return _json(f"[{','.join(_json_number(element) for element in read_array(text))}]")
    if items is Kind.BOOLEAN:
        return _json(f"[{','.join(_boolean(element) for element in read_array(text))}]")
    if items is Kind.JSON:
        raise ValueError("has to be written as JSON here, the list's elements are no plain values")
    return orjson.dumps(read_array(text)).decode()


def _json_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"has an element that is no number: {text[:20]!r}")
    return str(int(text)) if _INTEGER.fullmatch(text) else repr(float(Decimal(text)))


_READERS: Mapping[Kind, Callable[[str], str]] = {
    Kind.TEXT: str,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.UUID: _uuid,
    Kind.JSON: _json,
}
