"""Schemas of partial bodies, in which every field is optional and numbers may be increments.

An increment is the object `{"$increment": n}` in the place of the value of an integer or decimal
field. The module imports pydantic-core only, like `forebay.resource.body`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, ValidationError

from forebay.resource.strict import as_decimal

#: The only member of an increment.
INCREMENT: Final = "$increment"
#: The type of the errors of values in the place of an increment.
FAULT_OF_INCREMENT: Final = "increment"


@dataclass(frozen=True, slots=True)
class Increment:
    """A valid increment."""

    number: int | Decimal

    def to_json(self) -> dict[str, int | str]:
        """The increment in an archived body; a decimal is text."""
        number = self.number
        if isinstance(number, int):
            return {INCREMENT: number}
        # The exponent of a zero is unbounded.
        return {INCREMENT: str(number) if number else "0"}


def is_increment(value: object) -> bool:
    """Return True for an object with the only member `$increment`."""
    return isinstance(value, dict) and value.keys() == {INCREMENT}


def make_partial(schema: CoreSchema, numbers: Mapping[str, CoreSchema]) -> CoreSchema:
    """Return an item's schema with every field optional.

    Args:
        schema: the schema of a whole item, a model that may be inside `definitions`.
        numbers: schemas of increments, by the fields that can be incremented.
    """
    node: dict[str, Any] = dict(schema)
    if node["type"] != "model-fields":
        node["schema"] = make_partial(node["schema"], numbers)
        return node
    node["fields"] = {
        name: {**field, "schema": _make_optional(field["schema"], numbers.get(name))}
        for name, field in node["fields"].items()
    }
    return node


def build_decimal_schema(digits: int, places: int) -> CoreSchema:
    """Return the schema of the increments of a `numeric(digits, places)`."""
    return {
        "type": "function-before",
        "function": {"type": "no-info", "function": as_decimal},
        "schema": {"type": "decimal", "max_digits": digits, "decimal_places": places},
    }


def _make_optional(schema: CoreSchema, number: CoreSchema | None) -> CoreSchema:
    if number is not None:
        read = partial(_read_number, SchemaValidator(number))
        function: dict[str, Any] = {"type": "no-info", "function": read}
        schema = {"type": "function-wrap", "function": function, "schema": schema}
    # The default is never used: a partial body has the fields that were sent only.
    return {"type": "default", "schema": schema, "default": None}


def _read_number(
    numbers: SchemaValidator, value: object, validate: Callable[[object], object]
) -> object:
    """Validate a field's value, or an increment in its place."""
    if not isinstance(value, dict):
        return validate(value)
    if not is_increment(value):
        raise _describe_fault(f"Input should be a number, or an object with {INCREMENT} only")
    try:
        return Increment(numbers.validate_python(value[INCREMENT], strict=True))
    except ValidationError as exc:
        message = exc.errors(include_url=False)[0]["msg"]
        raise _describe_fault(f"{INCREMENT}: {message}") from None


def _describe_fault(text: str) -> PydanticCustomError:
    return PydanticCustomError(FAULT_OF_INCREMENT, "{text}", {"text": text})
