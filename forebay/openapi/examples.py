"""Example values: declared with `Field(examples=[…])`, or generated to fit the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: The id of a command accepted on 21 November 2026.
COMMAND_ID: Final = "01a1fc5d-903c-779d-961e-d3f40d76fc6e"
#: The tag of an item that this command produced.
ITEM_TAG: Final = f'"{COMMAND_ID}-5d41402abc4b2a76"'
KEY_MADE_BY_SERVER: Final = "6f0d4b8e-3a55-4c2c-9d3e-0d8f3c2b7a11"

_BY_KIND: Final[Mapping[Kind, Any]] = {
    Kind.TEXT: "text",
    Kind.INTEGER: 1000,
    Kind.FLOAT: 1.5,
    Kind.DECIMAL: "1.5",
    Kind.BOOLEAN: True,
    Kind.DATE: "2026-11-21",
    Kind.TIMESTAMP: "2026-11-21T10:00:00Z",
    Kind.UUID: KEY_MADE_BY_SERVER,
    Kind.JSON: {},
}


def make_value(field: FieldSpec, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    """Return an example value.

    Args:
        field: a field or the key.
        schema: the JSON Schema of its values in requests.
    """
    if schema.get("examples"):
        return schema["examples"][0]
    if field.choices:
        return field.choices[0]
    if not field.required:
        return field.default
    return _make_example(field, schema)


def make_comparable_value(field: FieldSpec, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return an example value for comparisons, which is never null."""
    value = make_value(field, schema)
    return _make_example(field, schema) if value is None else value


def _make_example(field: FieldSpec, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401
    value = _BY_KIND[field.kind]
    if field.kind is Kind.TEXT:
        return value[: schema.get("maxLength", len(value))]
    if field.kind in {Kind.INTEGER, Kind.FLOAT}:
        return min(max(value, schema.get("minimum", value)), schema.get("maximum", value))
    return [] if field.shape == "list" else value


def make_item(spec: ResourceSpec, properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return an example item with its key and all fields."""
    return {
        column.name: make_value(column, properties.get(column.name, {})) for column in spec.columns
    }
