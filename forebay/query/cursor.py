"""Keyset cursors: opaque to clients, bound to the query that they belong to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import orjson

from forebay.problem import Problem, ProblemError
from forebay.query.ast import OrderTerm
from forebay.query.values import checked

_VERSION = 1
#: With filters and order beside it, a link must stay below API Gateway's 10,240 bytes.
_MAX_LENGTH = 4096


def make_cursor(fingerprint: str, values: Sequence[str | None]) -> str:
    """A cursor that goes on after the row with these values of the order's columns.

    Raises:
        ProblemError: they are too long for one.
    """
    raw = orjson.dumps([_VERSION, fingerprint, list(values)])
    cursor = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(cursor) > _MAX_LENGTH:
        # Without a link the page would look like the last one.
        raise ProblemError(
            Problem(
                "bad_order",
                "order: the next page can't be named, as values to order by are too long here; "
                "order by shorter fields, or use a larger limit",
            )
        )
    return cursor


def read_cursor(text: str, fingerprint: str, order: Sequence[OrderTerm]) -> tuple[str | None, ...]:
    """The values that the cursor goes on after.

    Raises:
        ProblemError: it is no cursor, or belongs to another order or other filters.
    """
    try:
        values = _decode(text, fingerprint, len(order))
        return tuple(
            None if value is None else checked(term.column, value)
            for term, value in zip(order, values, strict=True)
        )
    except ValueError as exc:
        raise ProblemError(
            Problem(
                "bad_cursor", f"cursor: take it from Link, with the same order and filters: {exc}"
            )
        ) from None


def _decode(text: str, fingerprint: str, length: int) -> list[str | None]:
    if len(text) > _MAX_LENGTH:
        raise ValueError("it is too long")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        content = orjson.loads(raw)
    except (binascii.Error, UnicodeEncodeError, orjson.JSONDecodeError):
        raise ValueError("it is none") from None
    match content:
        case [version, owner, [*values]] if all(_is_text_or_null(value) for value in values):
            pass
        case _:
            raise ValueError("it is none")
    if version != _VERSION or owner != fingerprint or len(values) != length:
        raise ValueError("it belongs to another query")
    return values


def _is_text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)
