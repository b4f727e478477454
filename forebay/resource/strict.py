"""Makes pydantic's schemas read text as `forebay.resource.spellings` does, and nothing else.

Strict or not, pydantic-core reads digits in JSON text as Unix time, decimals with blanks and
underscores, and the names of an object's members as any number. Each schema that reads text gets a
function before it, also inside lists, objects and nested models. The functions are of this module,
so that a compiled schema names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from pydantic_core import CoreSchema, PydanticCustomError

from forebay.resource import spellings

_Schema = TypeVar("_Schema", bound=CoreSchema)


def with_strict_text(schema: _Schema) -> _Schema:
    """The schema, with a check before everything in it that reads text."""
    strict: _Schema = _strict(schema, _BEFORE)
    return strict


def as_date(value: object) -> object:
    """The date that a text is; what is no text as it is."""
    return _read(value, spellings.date)


def as_moment(value: object) -> object:
    """The point in time that a text is; what is no text as it is."""
    return _read(value, spellings.moment)


def as_time(value: object) -> object:
    """The time that a text is; what is no text as it is."""
    return _read(value, spellings.time)


def as_duration(value: object) -> object:
    """The duration that a text is; what is no text as it is."""
    return _read(value, spellings.duration)


def as_decimal(value: object) -> object:
    """The decimal that a text or a number is."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Decimal(str(value))
    if not isinstance(value, (str, Decimal)):
        raise _misspelt("is no decimal number, such as 1.50")
    return _read(value, spellings.decimal)


def as_uuid(value: object) -> object:
    """The UUID that a text is."""
    if not isinstance(value, (str, UUID)):
        raise _misspelt("is no UUID")
    return _read(value, spellings.uuid)


def as_integer_name(value: object) -> object:
    """The integer that a member's name is, in the one spelling that it has."""
    number = _read(value, spellings.integer)
    if isinstance(value, str) and str(number) != value:
        raise _misspelt(f"should be written as {number}")
    return number


def as_number_name(value: object) -> object:
    """The double that a member's name is."""
    return _read(value, spellings.double)


def as_boolean_name(value: object) -> object:
    """The boolean that a member's name is: `true` or `false`."""
    if isinstance(value, str) and value not in {"true", "false"}:
        raise _misspelt("is neither true nor false")
    return value == "true" if isinstance(value, str) else value


def _read(value: object, read: Callable[[str], object]) -> object:
    if not isinstance(value, str):
        return value
    try:
        return read(value)
    except ValueError as exc:
        raise _misspelt(str(exc)) from None


def _misspelt(reason: str) -> PydanticCustomError:
    return PydanticCustomError("spelling", "Input {reason}", {"reason": reason})


_Functions = Mapping[str, Callable[[object], object]]

#: By the type of a schema.
_BEFORE: Final[_Functions] = {
    "date": as_date,
    "datetime": as_moment,
    "time": as_time,
    "timedelta": as_duration,
    "decimal": as_decimal,
    "uuid": as_uuid,
}
#: JSON has text only for the names of members.
_BEFORE_NAMES: Final[_Functions] = {
    **_BEFORE,
    "int": as_integer_name,
    "float": as_number_name,
    "bool": as_boolean_name,
}
#: What a schema holds beside other schemas: values and functions of the declaration's.
_NO_SCHEMAS: Final = frozenset(
    ["default", "metadata", "serialization", "config", "expected", "members", "cls", "function"]
)


def _strict(node: Any, before: _Functions) -> Any:  # noqa: ANN401 - schemas of any shape
    if isinstance(node, (list, tuple)):
        return type(node)(_strict(inner, before) for inner in node)
    if not isinstance(node, dict):
        return node
    made = {
        name: inner
        if name in _NO_SCHEMAS and _is_schema(node)
        else _strict(inner, _BEFORE_NAMES if name == "keys_schema" else before)
        for name, inner in node.items()
    }
    function = before.get(made["type"]) if _is_schema(made) else None
    return made if function is None else _before(function, made)


def _is_schema(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("type"), str)


def _before(function: Callable[[object], object], schema: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "function-before",
        "function": {"type": "no-info", "function": function},
        "schema": schema,
    }
    if "ref" in schema:  # by which other schemas find it
        made["ref"] = schema.pop("ref")
    return made
