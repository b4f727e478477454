"""Checks a filter's value against its column, before Postgres would refuse the whole query."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from forebay.resource.fields import INT64_MAX, INT64_MIN
from forebay.resource.spec import FieldSpec, Kind

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_MAX_TEXT = 10_000  # characters of a filter's value; API Gateway's URLs are shorter anyway


def checked(column: FieldSpec, text: str) -> str:
    """The value as text that Postgres reads as the column's type.

    Raises:
        ValueError: it is none; the message says what the column holds.
    """
    if "\x00" in text or len(text) > _MAX_TEXT:
        raise ValueError("holds NUL or is far too long")
    return _READERS[column.kind](text)


def _text(text: str) -> str:
    text.encode()  # a surrogate without its partner is a UnicodeEncodeError, a ValueError
    return text


def _integer(text: str) -> str:
    if not _INTEGER.fullmatch(text) or not INT64_MIN <= int(text) <= INT64_MAX:
        raise ValueError("is no integer of 64 bits")
    return text


def _float(text: str) -> str:
    if not _FLOAT.fullmatch(text) or float(text) in (float("inf"), float("-inf")):
        raise ValueError("is no number")
    return text


def _boolean(text: str) -> str:
    if text not in {"true", "false"}:
        raise ValueError("is neither true nor false")
    return text


def _decimal(text: str) -> str:
    try:
        finite = bool(_FLOAT.fullmatch(text)) and Decimal(text).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise ValueError("is no decimal number")
    return text


def _timestamp(text: str) -> str:
    # A `+` in a query string that nobody encoded arrives as a space.
    value = dt.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    if value.tzinfo is None:
        raise ValueError("needs its time zone, such as Z")
    return value.isoformat()


_READERS: Mapping[Kind, Callable[[str], str]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: lambda text: dt.date.fromisoformat(text).isoformat(),
    Kind.TIMESTAMP: _timestamp,
    Kind.UUID: lambda text: str(uuid.UUID(text)),
}
