"""Restriction of pydantic's schemas to the spellings in `forebay.resource.spellings`.

Even in strict mode, pydantic-core reads digits in JSON text as Unix time, accepts blanks and
underscores in decimals, and parses member names as numbers leniently. Therefore a function runs
before each schema that parses text, also inside lists, objects and nested models. The functions are
module-level, so that compiled schemas can refer to them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from pydantic_core import CoreSchema, PydanticCustomError

from forebay.resource import spellings

_Schema = TypeVar("_Schema", bound=CoreSchema)


def add_strict_text(schema: _Schema) -> _Schema:
    """Return the schema with a function before each schema in it that parses text."""
    strict: _Schema = _make_strict(schema, _BEFORE)
    return strict


def as_date(value: object) -> object:
    """Convert text to a date; return other values unchanged."""
    return _read(value, spellings.parse_date)


def as_moment(value: object) -> object:
    """Convert text to a timestamp; return other values unchanged."""
    return _read(value, spellings.parse_moment)


def as_time(value: object) -> object:
    """Convert text to a time of day; return other values unchanged."""
    return _read(value, spellings.parse_time)


def as_duration(value: object) -> object:
    """Convert text to a duration; return other values unchanged."""
    return _read(value, spellings.parse_duration)


def as_decimal(value: object) -> object:
    """Convert text or a number to a decimal."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Decimal(str(value))
    if not isinstance(value, (str, Decimal)):
        raise _describe_misspelt("is not a decimal number, such as 1.50")
    return _read(value, spellings.parse_decimal)


def as_uuid(value: object) -> object:
    """Convert text to a UUID."""
    if not isinstance(value, (str, UUID)):
        raise _describe_misspelt("is not a UUID")
    return _read(value, spellings.parse_uuid)


def as_integer_name(value: object) -> object:
    """Convert a member's name to an integer; only the canonical spelling is accepted."""
    number = _read(value, spellings.parse_integer)
    if isinstance(value, str) and str(number) != value:
        raise _describe_misspelt(f"must be written as {number}")
    return number


def as_number_name(value: object) -> object:
    """Convert a member's name to a double."""
    return _read(value, spellings.parse_double)


def as_boolean_name(value: object) -> object:
    """Convert a member's name, `true` or `false`, to a boolean."""
    if isinstance(value, str) and value not in {"true", "false"}:
        raise _describe_misspelt("is neither true nor false")
    return value == "true" if isinstance(value, str) else value


def _read(value: object, reader: Callable[[str], object]) -> object:
    if not isinstance(value, str):
        return value
    try:
        return reader(value)
    except ValueError as exc:
        raise _describe_misspelt(str(exc)) from None


def _describe_misspelt(reason: str) -> PydanticCustomError:
    return PydanticCustomError("spelling", "Input {reason}", {"reason": reason})


_Functions = Mapping[str, Callable[[object], object]]

#: The function before each schema, by the schema's type.
_BEFORE: Final[_Functions] = {
    "date": as_date,
    "datetime": as_moment,
    "time": as_time,
    "timedelta": as_duration,
    "decimal": as_decimal,
    "uuid": as_uuid,
}
#: The same for member names, where JSON writes integers, doubles and booleans as text.
_BEFORE_NAMES: Final[_Functions] = {
    **_BEFORE,
    "int": as_integer_name,
    "float": as_number_name,
    "bool": as_boolean_name,
}
#: Members of a schema that contain no schemas, but values and functions of the declaration.
_NO_SCHEMAS: Final = frozenset(
    ["default", "metadata", "serialization", "config", "expected", "members", "cls", "function"]
)


def _make_strict(node: Any, functions: _Functions) -> Any:  # noqa: ANN401 - schemas of any shape
    if isinstance(node, (list, tuple)):
        return type(node)(_make_strict(child, functions) for child in node)
    if not isinstance(node, dict):
        return node
    strict_node = {
        name: child
        if name in _NO_SCHEMAS and _is_schema(node)
        else _make_strict(child, _BEFORE_NAMES if name == "keys_schema" else functions)
        for name, child in node.items()
    }
    function = functions.get(strict_node["type"]) if _is_schema(strict_node) else None
    return strict_node if function is None else _run_before(function, strict_node)


def _is_schema(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("type"), str)


def _run_before(function: Callable[[object], object], schema: dict[str, Any]) -> dict[str, Any]:
    wrapper: dict[str, Any] = {
        "type": "function-before",
        "function": {"type": "no-info", "function": function},
        "schema": schema,
    }
    if "ref" in schema:  # other schemas refer to the outermost schema
        wrapper["ref"] = schema.pop("ref")
    return wrapper
