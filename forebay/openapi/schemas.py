"""JSON Schemas of items in requests and answers, and of other answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from forebay.resource.partial import INCREMENT
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

Schema: TypeAlias = dict[str, Any]

#: The member for text formats that JSON Schema can't express. Generators warn about unknown names
#: in `format`.
OWN_FORMAT: Final = "x-format"

_LARGEST: Final = sys.float_info.max
#: Postgres can't store NUL.
_NO_NUL: Final = r"^[^\u0000]*$"
#: The text keys that `forebay.resource.body.check_plain_key` accepts.
_PLAIN_KEY: Final = r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f%/\\?#]+$"

TIMESTAMP: Final = {"type": "string", "format": "date-time"}

#: The reasons for a status other than `ok`, by code.
STATUS_REASONS: Final[Mapping[str, str]] = {
    "database_unreachable": "No replica, and no primary in its place, responds.",
    "archive_unreachable": "The archive can't be listed.",
    "dead_letters_unknown": "The dead-letter queue does not respond.",
    "dead_letters": "Messages about archive objects failed at every delivery.",
    "rejections_open": "Rejected commands wait for an operator.",
    "commands_waiting": "Patches have waited for their item for too long.",
    "objects_not_applied": "An archive object has not been applied for too long.",
    "replica_behind": "The replica is too far behind its primary.",
}


def open_text(*values: str, nullable: bool = False, description: str = "") -> Schema:
    """Describe a text in answers that currently has one of these values.

    The schema has no `enum`, because a strict client would fail on other values, from a later
    release or from a row that was written under an earlier declaration.
    """
    sentence = f"One of {', '.join(f'`{value}`' for value in values)}; further values are possible."
    return {
        "type": ["string", "null"] if nullable else "string",
        "description": f"{description} {sentence}".strip(),
        "examples": [*values],
    }


def reference(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def build_request_properties(spec: ResourceSpec) -> dict[str, Schema]:
    """Return the JSON Schemas of values in requests, by column, with declared limits."""
    schema = spec.body.json_schema()
    resolved = {"$defs": schema.get("$defs", {})}
    return {
        column.name: _build_request_schema(column, schema["properties"][column.name], resolved)
        for column in spec.columns
    }


def build_resource_schemas(spec: ResourceSpec) -> dict[str, Schema]:
    """Return a resource's schemas by name: `City`, `NewCity`, `CityContent`, `CityPatch`."""
    properties = build_request_properties(spec)
    required = [field.name for field in spec.fields if field.required]
    fields = {field.name: properties[field.name] for field in spec.fields}
    new = (
        fields
        if spec.key_is_made
        else {spec.key.name: build_key_schema(spec, properties), **fields}
    )
    needed = required if spec.key_is_made else [spec.key.name, *required]
    return {
        spec.name: {
            "type": "object",
            "description": spec.description,
            "properties": {column.name: _build_answer_schema(column) for column in spec.columns},
            "required": [column.name for column in spec.columns],
        },
        f"New{spec.name}": {
            "type": "object",
            "description": f"{_add_article(spec.name)} for POST"
            + (", without its key, which the server generates." if spec.key_is_made else "."),
            "properties": new,
            "required": needed,
            "additionalProperties": False,
        },
        f"{spec.name}Content": {
            "type": "object",
            "description": f"{_add_article(spec.name)} for PUT. Omitted fields get their defaults. "
            f"`{spec.key.name}` can be repeated if it equals the key in the path.",
            "properties": fields,
            "required": required,
            "additionalProperties": False,
        },
        f"{spec.name}Patch": {
            "type": "object",
            "description": f"Fields to set of {_add_article(spec.name).lower()}, for PATCH. Other "
            "fields keep their values. An object `$increment` adds to a number. "
            f"`{spec.key.name}` can be repeated if it equals the key in the path.",
            "properties": {
                field.name: _build_patch_schema(field, properties[field.name])
                for field in spec.fields
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    }


def build_key_schema(spec: ResourceSpec, taken: Mapping[str, Schema]) -> Schema:
    """Return the schema of the key in paths and bodies."""
    schema = {name: value for name, value in taken[spec.key.name].items() if name != "default"}
    if spec.key.kind is Kind.TEXT and schema.get("pattern") in (None, _NO_NUL):
        schema |= {"pattern": _PLAIN_KEY, "minLength": 1}
    return schema


def _build_patch_schema(field: FieldSpec, schema: Schema) -> Schema:
    """Return the schema of a field in a patch; a default does not count there."""
    own = {name: value for name, value in schema.items() if name != "default"}
    if field.kind is Kind.INTEGER:
        return {"anyOf": [own, reference("IntegerIncrement")]}
    if field.kind is Kind.DECIMAL:
        return {"anyOf": [own, build_increment({"type": ["number", "string"]})]}
    return own


def build_increment(number: Schema) -> Schema:
    """Return the schema of an increment of such a number."""
    return {
        "type": "object",
        "properties": {INCREMENT: number},
        "required": [INCREMENT],
        "additionalProperties": False,
    }


def _add_article(name: str) -> str:
    return f"{'An' if name[0] in 'AEIOU' else 'A'} {name}"


def _build_request_schema(
    column: FieldSpec, schema: Mapping[str, Any], defs: Mapping[str, Any]
) -> Schema:
    tidied: Schema = _tidy(schema, defs)
    if column.references is not None:
        tidied["description"] = " ".join(
            text
            for text in (tidied.get("description"), f"A key of {column.references.path}.")
            if text
        )
    return tidied


def _tidy(schema: Any, defs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    """Remove titles from pydantic's schema, resolve its references and add limits of storage."""
    if isinstance(schema, list):
        return [_tidy(element, defs) for element in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = defs["$defs"][schema["$ref"].rpartition("/")[2]]
        return _tidy({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, defs)
    tidied = {
        name: value if name in {"default", "examples", "enum"} else _tidy(value, defs)
        for name, value in schema.items()
        if name != "title"
    }
    if tidied.get("type") == "string" and not tidied.keys() & {
        "pattern",
        "format",
        "enum",
        "const",
    }:
        tidied["pattern"] = _NO_NUL
    if tidied.get("type") == "number":
        tidied.setdefault("minimum", -_LARGEST)
        tidied.setdefault("maximum", _LARGEST)
    return tidied


def _build_answer_schema(column: FieldSpec) -> Schema:
    """Return the schema of stored values; it has no limits, because older rows may exceed them."""
    schema: Schema = dict(_ANSWERED[column.kind])
    if column.choices:
        return open_text(
            *column.choices, nullable=column.nullable, description=column.description or ""
        )
    if column.media is not None:
        schema |= _ATTACHMENT
    elif column.shape == "list":
        schema |= {"type": "array", "items": {}}
    elif column.shape is not None:
        schema |= {"type": "object", "additionalProperties": True}
    if column.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if column.description:
        schema["description"] = column.description
    return schema


_ATTACHMENT: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": ["string", "null"]},
        "type": {"type": "string"},
        "size": {"type": "integer"},
        "sha256": {"type": "string"},
        "link": {"type": "string", "format": "uri-reference"},
    },
    "required": ["id", "name", "type", "size", "sha256", "link"],
}

_ANSWERED: Final[Mapping[Kind, Schema]] = {
    Kind.TEXT: {"type": "string"},
    Kind.INTEGER: {"type": "integer"},
    Kind.FLOAT: {"type": "number"},
    Kind.DECIMAL: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.TIMESTAMP: dict(TIMESTAMP),
    Kind.UUID: {"type": "string", "format": "uuid"},
    Kind.JSON: {},
}
