"""Validation of a filter's values against its operand, ahead of Postgres's own errors."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Final

import orjson

from forebay.query.arrays import read_array
from forebay.query.ast import Operand
from forebay.resource import spellings
from forebay.resource.body import MAX_DEPTH as MAX_JSON_DEPTH
from forebay.resource.spec import FieldSpec, Kind

_BLANK_ZONE = re.compile(r" ([0-9]{2}(?::[0-9]{2})?)\Z")
_WITH_TIME = len("2026-02-28T10:00:00")
#: Kinds whose lists are ordered element by element, like Postgres arrays.
ORDERED_ITEMS: Final = frozenset({
    Kind.TEXT, Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, Kind.UUID
})  # fmt: skip


def checked(operand: Operand, text: str) -> str:
    """Return the value as text that Postgres reads as the operand's type.

    Raises:
        ValueError: the value is not of that type; the message states what the operand contains.
    """
    if operand.kind is Kind.JSON and not operand.path and operand.column.shape == "list":
        return _list(operand.column, text)
    return _READERS[operand.kind](text)


def contained(operand: Operand, text: str) -> str:
    """Return the JSON text for a containment operator (`cs`, `cd`).

    A list may also be a Postgres array literal, `{a,b}`.

    Raises:
        ValueError: the text is neither JSON nor an array literal.
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
    """Return the JSON text of each element of a list, for `ov`.

    Raises:
        ValueError: the value is not a list.
    """
    found = orjson.loads(contained(operand, text))
    if not isinstance(found, list):
        raise ValueError("is no list")  # noqa: TRY004 - the text is wrong, not the program
    return tuple(orjson.dumps(element).decode() for element in found)


def pattern(text: str) -> str:
    """Return the SQL pattern for `like`, with `*` replaced by `%`.

    Raises:
        ValueError: the text ends with an incomplete escape, which Postgres refuses.
    """
    made = text.replace("*", "%")
    if (len(made) - len(made.rstrip("\\"))) % 2:
        raise ValueError("ends with a single \\, which escapes nothing")
    return made


def _integer(text: str) -> str:
    return str(spellings.integer(text))


def _float(text: str) -> str:
    spellings.double(text)
    return text


def _decimal(text: str) -> str:
    return str(spellings.decimal(text))


def _boolean(text: str) -> str:
    return "true" if spellings.boolean(text) else "false"


def _date(text: str) -> str:
    return spellings.date(text).isoformat()


def _timestamp(text: str) -> str:
    """Return the timestamp in UTC."""
    return _moment(text).astimezone(dt.UTC).isoformat()


def _moment(text: str) -> dt.datetime:
    """Parse a timestamp; a blank before the offset is a `+` that the client did not encode."""
    head, tail = text[:_WITH_TIME], text[_WITH_TIME:]
    return spellings.moment(head + _BLANK_ZONE.sub(r"+\1", tail))


def _uuid(text: str) -> str:
    return str(spellings.uuid(text))


def _json(text: str) -> str:
    """Return the JSON text as it would be stored in an item, so that equal values compare equal."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"is no JSON: {exc.msg}") from None
    _refuse_unstorable(value)
    return orjson.dumps(value).decode()


def _refuse_unstorable(value: object) -> None:
    """Refuse values that an item can't contain; orjson can't serialize much deeper ones either."""
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
    """Return the JSON text of a list, with its elements in their stored spelling."""
    if not text.startswith("{"):
        return _json_list(column, text)
    items = column.items or Kind.TEXT
    if items is Kind.JSON:
        raise ValueError("has to be written as JSON here, the list's elements are no plain values")
    read = _BRACED[items]
    return orjson.dumps([_fitting(read, element) for element in read_array(text)]).decode()


def _json_list(column: FieldSpec, text: str) -> str:
    found = orjson.loads(_json(text))
    if isinstance(found, list):
        found = [_element(column.items, item) for item in found]
    return orjson.dumps(found).decode()


def _element(items: Kind | None, value: object) -> object:
    """Return an element in its stored spelling; only kinds that JSON writes as text change."""
    read = _ELEMENTS.get(items) if items is not None else None
    return value if read is None or not isinstance(value, str) else _fitting(read, value)


def _fitting(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except ValueError as exc:
        raise ValueError(f"has an element, {text[:20]!r}, that {exc}") from None


def _json_moment(text: str) -> str:
    return _moment(text).isoformat().replace("+00:00", "Z")


#: Stored spelling of list elements, for the kinds that JSON writes as text.
_ELEMENTS: Mapping[Kind, Callable[[str], object]] = {
    Kind.DECIMAL: _decimal,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _json_moment,
    Kind.UUID: _uuid,
}
#: Parsers for elements in braces, which are all text.
_BRACED: Mapping[Kind, Callable[[str], object]] = {
    **_ELEMENTS,
    Kind.TEXT: str,
    Kind.INTEGER: spellings.integer,
    Kind.FLOAT: spellings.double,
    Kind.BOOLEAN: spellings.boolean,
}

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
