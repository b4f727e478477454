"""Check of a decoded JSON body against the columns of its resource, without a database."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from forebay.resource.body import INT64_MAX, INT64_MIN
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

_INT32_MAX = 2**31 - 1


def misfit(spec: ResourceSpec, body: Mapping[str, Any]) -> str | None:
    """Return the reason why a body of the current schema version fits no row; None if it fits.

    The reason names fields but not values, so that many bodies share few reasons. A field with a
    default or a nullable field may be missing, as in bodies older than the field.
    """
    names = {field.name for field in spec.fields}
    unknown = sorted(body.keys() - names)
    if unknown:
        return f"the resource has no field {', '.join(unknown)}"
    missing = sorted(
        field.name
        for field in spec.fields
        if field.name not in body and field.required and not field.nullable
    )
    if missing:
        return f"the body lacks {', '.join(missing)}"
    for field in spec.fields:
        reason = value_reason(field, body[field.name]) if field.name in body else None
        if reason is not None:
            return f"{field.name} {reason}"
    return None


def value_reason(field: FieldSpec, value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return the reason why a column can't store a value; None if it can."""
    if value is None:
        return None if field.nullable else "is null"
    return _REASONS[field.kind](field, value)


def _check_text(field: FieldSpec, value: object) -> str | None:
    if not isinstance(value, str):
        return "is not a string"
    if field.max_length is not None and len(value) > field.max_length:
        return f"is longer than {field.max_length} characters"
    return "contains NUL" if "\x00" in value else None


def _check_integer(field: FieldSpec, value: object) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "is not an integer"
    small = field.sql_type == "integer"
    low, high = (-_INT32_MAX - 1, _INT32_MAX) if small else (INT64_MIN, INT64_MAX)
    return None if low <= value <= high else "is too large for its column"


def _check_float(_field: FieldSpec, value: object) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "is not a number"
    try:
        return None if math.isfinite(float(value)) else "is not finite"
    except OverflowError:
        return "is too large for its column"


def _check_decimal(field: FieldSpec, value: object) -> str | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return "is not a number"
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return "is not a number"
    integer_digits = (field.precision or 0) - (field.scale or 0)
    if not number.is_finite() or (number and number.adjusted() >= integer_digits):
        return "is too large for its column"
    return None


def _check_boolean(_field: FieldSpec, value: object) -> str | None:
    return None if isinstance(value, bool) else "is neither true nor false"


def _build_check(
    parse: Callable[[str], object], noun: str
) -> Callable[[FieldSpec, object], str | None]:
    def reason(_field: FieldSpec, value: object) -> str | None:
        if not isinstance(value, str):
            return f"is not a {noun}"
        try:
            parse(value)
        except ValueError:
            return f"is not a {noun}"
        return None

    return reason


def _check_json(_field: FieldSpec, value: object) -> str | None:
    return None if isinstance(value, dict | list | str | int | float | bool) else "is not JSON"


_REASONS: Final[Mapping[Kind, Callable[[FieldSpec, object], str | None]]] = {
    Kind.TEXT: _check_text,
    Kind.INTEGER: _check_integer,
    Kind.FLOAT: _check_float,
    Kind.DECIMAL: _check_decimal,
    Kind.BOOLEAN: _check_boolean,
    Kind.DATE: _build_check(dt.date.fromisoformat, "date"),
    Kind.TIMESTAMP: _build_check(dt.datetime.fromisoformat, "timestamp"),
    Kind.UUID: _build_check(uuid.UUID, "UUID"),
    Kind.JSON: _check_json,
}
