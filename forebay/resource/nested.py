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


def forbid_unknown_in_definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema with the same rule in its definitions."""
    definitions = {
        name: {"additionalProperties": False, **definition}
        if "properties" in definition
        else definition
        for name, definition in schema.get("$defs", {}).items()
    }
    return {**schema, "$defs": definitions} if definitions else dict(schema)


def _walk(value: Any) -> Any:  # noqa: ANN401 - a core schema, or a part of one
    if isinstance(value, list | tuple):
        return type(value)(_walk(element) for element in value)
    if not isinstance(value, dict):
        return value
    # Fields by name have no type, unless a field has this name: then it is a schema.
    kind = value.get("type")
    opaque = _OPAQUE if isinstance(kind, str) else frozenset()
    members = {
        name: element if name in opaque else _walk(element) for name, element in value.items()
    }
    if not isinstance(kind, str):
        return members
    if kind in _CONFIGURED:
        members["config"] = _forbid_extra(members.get("config") or {}, "extra_fields_behavior")
    elif kind == "typed-dict":
        members = _forbid_extra(members, "extra_behavior")
    return members


def _forbid_extra(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**members, name: "allow" if members.get(name) == "allow" else "forbid"}
