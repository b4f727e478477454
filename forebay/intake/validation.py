"""Validation of an item: its numbers are stored exactly, or they are faults.

JSON numbers have any number of digits; the archive and most columns store 64-bit integers and
doubles. An integer or a decimal is exact if it reads back as the same number. A double is exact if,
rounded to the digits of the sent text, it equals that text: `0.1` and `0.10000000000000001` are
exact (the same double), but `9007199254740993.0` is not, because the nearest double ends in 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import jiter

from forebay.command import KeyValue
from forebay.intake.json_text import JsonText, dump
from forebay.resource.body import (
    INT64_MAX,
    INT64_MIN,
    BodyInvalidError,
    Fault,
    ValidItem,
    format_pointer,
)
from forebay.resource.partial import INCREMENT, is_increment
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from forebay.resource.spellings import is_text_of

#: A number in a request, or in a body.
_Number: TypeAlias = "int | float | jiter.LosslessFloat"

# Without an exponent, a double preserves any 15 digits (IEEE 754; DBL_DIG). A point counts as a
# digit: a more exact expression takes twice the time.
_MAYBE_INEXACT = re.compile(rb"[0-9][0-9.]{15}|[0-9][eE]")
_INTEGER_DIGITS = 19  # of 64 bits
_INT64 = range(INT64_MIN, INT64_MAX + 1)


def validate_item(spec: ResourceSpec, item: JsonText) -> ValidItem:
    """Validate an item; its body contains each of its numbers exactly.

    Raises:
        BodyInvalidError: the item is invalid, or a number would change.
    """
    return _validate(spec, item, spec.body.validate)


def validate_patch(spec: ResourceSpec, patch: JsonText) -> ValidItem:
    """Validate some fields of an item, as `validate_item`; a number may be an increment.

    Raises:
        BodyInvalidError: a field is invalid, or a number would change.
    """
    return _validate(spec, patch, spec.body.validate_patch)


def _validate(
    spec: ResourceSpec, item: JsonText, validate: Callable[[bytes], ValidItem]
) -> ValidItem:
    may_change = _MAYBE_INEXACT.search(item.text) is not None
    converted = _convert_numbers(spec, item.value, may_change=may_change)
    valid = validate(dump(item.value | converted) if converted else item.text)
    faults = tuple(find_changed_numbers(item.value, valid.body)) if may_change else ()
    if faults:
        raise BodyInvalidError(faults)
    return valid


def validate_key(spec: ResourceSpec, item: JsonText) -> KeyValue:
    """Validate the key in an item, an object with that member.

    Raises:
        BodyInvalidError: the key is invalid.
    """
    may_change = _MAYBE_INEXACT.search(item.text) is not None
    converted = _convert_numbers(spec, item.value, may_change=may_change)
    return spec.body.validate_key(dump((item.value | converted)[spec.key.name]))


def find_changed_numbers(sent: object, body: object) -> Iterator[Fault]:
    """Yield a fault for each number of an item that differs in its body.

    Args:
        sent: the item's value, as `json_text.parse` returns it.
        body: the validated body of the same item.
    """
    stack: list[tuple[Any, Any, tuple[str | int, ...]]] = [(sent, body, ())]
    while stack:
        value, stored, place = stack.pop()
        if isinstance(value, dict) and isinstance(stored, dict):
            stack += [
                (value[name], stored[name], (*place, name)) for name in stored if name in value
            ]
        elif isinstance(value, list) and isinstance(stored, list):
            pairs = zip(value, stored, strict=False)
            stack += [(*pair, (*place, index)) for index, pair in enumerate(pairs)]
        elif _is_number(value) and not _is_kept(value, stored):
            yield Fault(format_pointer(place), f"it would be kept as {stored}; send that, or text")


def _convert_numbers(spec: ResourceSpec, item: object, *, may_change: bool) -> dict[str, Any]:
    """Return the members with numbers that need another form, which `BodyValidator` preserves."""
    if not isinstance(item, dict):
        return {}
    converted = {
        column.name: _convert_exactly(column, item[column.name])
        for column in spec.columns
        if (may_change or column.kind is Kind.DECIMAL) and column.name in item
    }
    return {name: value for name, value in converted.items() if value is not item[name]}


def _convert_exactly(column: FieldSpec, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if column.kind is Kind.JSON:
        return _convert_to_doubles(value)
    if is_increment(value):
        return {INCREMENT: _convert_exactly(column, value[INCREMENT])}
    if not isinstance(value, jiter.LosslessFloat):
        return value
    if column.kind is Kind.DECIMAL:
        return bytes(value).decode()
    return _convert_integer(value) if column.kind is Kind.INTEGER else value


def _convert_integer(value: jiter.LosslessFloat) -> int | jiter.LosslessFloat:
    """Convert a number such as `5.0` or `1e3` to an integer: JSON has only one kind of number."""
    exact = _parse_decimal(value)
    if exact is None or exact.adjusted() >= _INTEGER_DIGITS or exact != exact.to_integral_value():
        return value
    return int(exact)


def _convert_to_doubles(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert integers beyond 64 bits inside JSON to doubles if these have the same value.

    An answer can contain such integers: Postgres writes the double `1e22` in JSON without exponent.
    """
    if isinstance(value, dict):
        return {name: _convert_to_doubles(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_convert_to_doubles(element) for element in value]
    if not isinstance(value, int) or value in _INT64:
        return value
    try:
        double = float(value)
    except OverflowError:
        return value
    return double if Decimal(repr(double)) == value else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | jiter.LosslessFloat) and not isinstance(value, bool)


def _is_kept(value: _Number, stored: object) -> bool:
    exact = _parse_decimal(value)
    if exact is None:  # the exponent exceeds the limits of `decimal`
        return False
    if isinstance(stored, float):
        return is_text_of(exact, stored)
    if isinstance(stored, int):
        return exact == stored
    return not isinstance(stored, str) or _parse_decimal(stored) in {exact, None}


def _parse_decimal(value: _Number | str) -> Decimal | None:
    text = bytes(value).decode() if isinstance(value, jiter.LosslessFloat) else str(value)
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
