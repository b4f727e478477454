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
#: Kinds with lists that are ordered element by element, like Postgres arrays.
ORDERED_ITEMS: Final = frozenset({
    Kind.TEXT, Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.DATE, Kind.UUID
})  # fmt: skip


def checked(operand: Operand, text: str) -> str:
    """Return the value as text that Postgres reads as the operand's type.

    Raises:
        ValueError: the value is not of that type; the message states what the operand contains.
    """
    if operand.kind is Kind.JSON and not operand.path and operand.column.shape == "list":
        return _read_list(operand.column, text)
    return _READERS[operand.kind](text)


def contained(operand: Operand, text: str) -> str:
    """Return the JSON text for a containment operator (`cs`, `cd`).

    A list may also be a Postgres array literal, `{a,b}`.

    Raises:
        ValueError: the text is neither JSON nor an array literal.
    """
    shape = None if operand.path else operand.column.shape
    if shape == "list":
        return _read_list(operand.column, text)
    try:
        return _read_json(text)
    except ValueError:
        if shape == "dict" or not text.startswith("{"):
            raise
    return _read_list(operand.column, text)


def elements(operand: Operand, text: str) -> tuple[str, ...]:
    """Return the JSON text of each element of a list, for `ov`.

    Raises:
        ValueError: the value is not a list.
    """
    values = orjson.loads(contained(operand, text))
    if not isinstance(values, list):
        raise ValueError("is not a list")  # noqa: TRY004 - the text is wrong, not the program
    return tuple(orjson.dumps(element).decode() for element in values)


def pattern(text: str) -> str:
    """Return the SQL pattern for `like`, with `*` replaced by `%`.

    Raises:
        ValueError: the text ends with an incomplete escape, which Postgres refuses.
    """
    like_pattern = text.replace("*", "%")
    if (len(like_pattern) - len(like_pattern.rstrip("\\"))) % 2:
        raise ValueError("ends with a single \\, which escapes no character")
    return like_pattern


def _read_integer(text: str) -> str:
    return str(spellings.parse_integer(text))


def _read_float(text: str) -> str:
    spellings.parse_double(text)
    return text


def _read_decimal(text: str) -> str:
    return str(spellings.parse_decimal(text))


def _read_boolean(text: str) -> str:
    return "true" if spellings.parse_boolean(text) else "false"


def _read_date(text: str) -> str:
    return spellings.parse_date(text).isoformat()


def _read_timestamp(text: str) -> str:
    """Return the timestamp in UTC."""
    return _parse_moment(text).astimezone(dt.UTC).isoformat()


def _parse_moment(text: str) -> dt.datetime:
    """Parse a timestamp; a blank before the offset is a `+` that the client did not encode."""
    head, tail = text[:_WITH_TIME], text[_WITH_TIME:]
    return spellings.parse_moment(head + _BLANK_ZONE.sub(r"+\1", tail))


def _read_uuid(text: str) -> str:
    return str(spellings.parse_uuid(text))


def _read_json(text: str) -> str:
    """Return the JSON text as it would be stored in an item, so that equal values compare equal."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"is not JSON: {exc.msg}") from None
    _refuse_unstorable(value)
    return orjson.dumps(value).decode()


def _refuse_unstorable(value: object) -> None:
    """Refuse values that an item can't contain; orjson can't serialize much deeper ones either."""
    stack = [(value, 1)]
    while stack:
        member, level = stack.pop()
        if isinstance(member, str) and "\x00" in member:
            raise ValueError("contains NUL, which Postgres can't store")
        if isinstance(member, dict | list) and level > MAX_JSON_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_JSON_DEPTH} levels")
        if isinstance(member, dict):
            stack += [(child, level + 1) for child in (*member.keys(), *member.values())]
        elif isinstance(member, list):
            stack += [(child, level + 1) for child in member]


def _read_list(column: FieldSpec, text: str) -> str:
    """Return the JSON text of a list, with its elements in their stored spelling."""
    if not text.startswith("{"):
        return _read_json_list(column, text)
    items = column.items or Kind.TEXT
    if items is Kind.JSON:
        raise ValueError(
            "must be written as JSON, because the list's elements are not plain values"
        )
    reader = _BRACED[items]
    return orjson.dumps([_check_fit(reader, element) for element in read_array(text)]).decode()


def _read_json_list(column: FieldSpec, text: str) -> str:
    value = orjson.loads(_read_json(text))
    if isinstance(value, list):
        value = [_read_element(column.items, item) for item in value]
    return orjson.dumps(value).decode()


def _read_element(items: Kind | None, value: object) -> object:
    """Return an element in its stored spelling; only kinds that JSON writes as text change."""
    reader = _ELEMENTS.get(items) if items is not None else None
    return value if reader is None or not isinstance(value, str) else _check_fit(reader, value)


def _check_fit(reader: Callable[[str], object], text: str) -> object:
    try:
        return reader(text)
    except ValueError as exc:
        raise ValueError(f"contains the element {text[:20]!r}, which {exc}") from None


def _read_json_moment(text: str) -> str:
    return _parse_moment(text).isoformat().replace("+00:00", "Z")


#: Stored spelling of list elements, for the kinds that JSON writes as text.
_ELEMENTS: Mapping[Kind, Callable[[str], object]] = {
    Kind.DECIMAL: _read_decimal,
    Kind.DATE: _read_date,
    Kind.TIMESTAMP: _read_json_moment,
    Kind.UUID: _read_uuid,
}
#: Parsers for elements in braces, which are all text.
_BRACED: Mapping[Kind, Callable[[str], object]] = {
    **_ELEMENTS,
    Kind.TEXT: str,
    Kind.INTEGER: spellings.parse_integer,
    Kind.FLOAT: spellings.parse_double,
    Kind.BOOLEAN: spellings.parse_boolean,
}

_READERS: Mapping[Kind, Callable[[str], str]] = {
    Kind.TEXT: str,
    Kind.INTEGER: _read_integer,
    Kind.FLOAT: _read_float,
    Kind.DECIMAL: _read_decimal,
    Kind.BOOLEAN: _read_boolean,
    Kind.DATE: _read_date,
    Kind.TIMESTAMP: _read_timestamp,
    Kind.UUID: _read_uuid,
    Kind.JSON: _read_json,
}
