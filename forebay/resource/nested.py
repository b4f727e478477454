"""Refusal of unknown members in nested models, as in the resource itself.

By default pydantic drops unknown members, so a misspelt member would be accepted and lost. Models
with `extra="allow"` in their own configuration keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import CoreSchema

#: Members of a core schema that contain no other schema.
_OPAQUE = frozenset({"default", "expected", "metadata", "config", "cls", "function"})
#: Types of core schemas that configure unknown members in `config`.
_CONFIGURED = frozenset({"model", "dataclass"})


def forbid_unknown(schema: CoreSchema) -> CoreSchema:
    """Return the schema with every model, dataclass and typed dict refusing unknown members."""
    return cast("CoreSchema", _walk(schema))


def described(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema with the same rule in its definitions."""
    definitions = {
        name: {"additionalProperties": False, **one} if "properties" in one else one
        for name, one in schema.get("$defs", {}).items()
    }
    return {**schema, "$defs": definitions} if definitions else dict(schema)


def _walk(value: Any) -> Any:  # noqa: ANN401 - a core schema, or a part of one
    if isinstance(value, list | tuple):
        return type(value)(_walk(one) for one in value)
    if not isinstance(value, dict):
        return value
    found = {name: one if name in _OPAQUE else _walk(one) for name, one in value.items()}
    if found.get("type") in _CONFIGURED:
        found["config"] = _forbidding(found.get("config") or {}, "extra_fields_behavior")
    elif found.get("type") == "typed-dict":
        found = _forbidding(found, "extra_behavior")
    return found


def _forbidding(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**members, name: "allow" if members.get(name) == "allow" else "forbid"}
