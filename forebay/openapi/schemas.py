"""JSON Schemas of items in requests and answers, and of other answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from forebay.conditions import MAX_COMPARISONS
from forebay.ids import COMMAND_ID
from forebay.problem import CATALOGUE, TYPE_PREFIX
from forebay.resource.body import INT64_MAX, INT64_MIN
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

_TIMESTAMP: Final = {"type": "string", "format": "date-time"}
_SECONDS: Final = {"type": ["number", "null"], "minimum": 0}
_COUNT: Final = {"type": ["integer", "null"], "minimum": 0}
_EXACT_COUNT: Final = {"type": "integer", "minimum": 0}

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


def request_properties(spec: ResourceSpec) -> dict[str, Schema]:
    """Return the JSON Schemas of values in requests, by column, with declared limits."""
    schema = spec.body.json_schema()
    resolved = {"$defs": schema.get("$defs", {})}
    return {
        column.name: _build_request_schema(column, schema["properties"][column.name], resolved)
        for column in spec.columns
    }


def resource_schemas(spec: ResourceSpec) -> dict[str, Schema]:
    """Return a resource's schemas by name: `City`, `NewCity`, `CityContent`, `CityPatch`."""
    properties = request_properties(spec)
    required = [field.name for field in spec.fields if field.required]
    fields = {field.name: properties[field.name] for field in spec.fields}
    new = fields if spec.key_is_made else {spec.key.name: key_schema(spec, properties), **fields}
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


def key_schema(spec: ResourceSpec, taken: Mapping[str, Schema]) -> Schema:
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
        return {"anyOf": [own, _build_increment({"type": ["number", "string"]})]}
    return own


def _build_increment(number: Schema) -> Schema:
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
    if column.shape == "list":
        schema |= {"type": "array", "items": {}}
    elif column.shape is not None:
        schema |= {"type": "object", "additionalProperties": True}
    if column.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if column.description:
        schema["description"] = column.description
    return schema


_ANSWERED: Final[Mapping[Kind, Schema]] = {
    Kind.TEXT: {"type": "string"},
    Kind.INTEGER: {"type": "integer"},
    Kind.FLOAT: {"type": "number"},
    Kind.DECIMAL: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.TIMESTAMP: dict(_TIMESTAMP),
    Kind.UUID: {"type": "string", "format": "uuid"},
    Kind.JSON: {},
}


def common_schemas() -> dict[str, Schema]:
    """Return the schemas that are common to all resources, by name."""
    return dict(_build_common())


def _build_common() -> Iterator[tuple[str, Schema]]:
    yield (
        "CommandId",
        {
            "type": "string",
            OWN_FORMAT: "command-id",
            "pattern": f"^{COMMAND_ID.pattern}$",
            "description": "A UUIDv7, at most ten minutes ahead of the server's clock.",
        },
    )
    key = {"type": ["string", "integer"], "description": "The key of the item."}
    yield (
        "Links",
        {
            "type": "object",
            "properties": {
                "item": {"type": "string", "format": "uri-reference"},
                "status": {"type": "string", "format": "uri-reference"},
            },
            "required": ["item", "status"],
        },
    )
    command = {
        "command_id": reference("CommandId"),
        "resource": {"type": "string"},
        "key": key,
        "links": reference("Links"),
    }
    yield (
        "Accepted",
        {
            "type": "object",
            "description": "A command that is stored and will be applied later.",
            "properties": {**command, "status": open_text("pending")},
            "required": [*command, "status"],
        },
    )
    yield (
        "Settled",
        {
            "type": "object",
            "description": "The final status of a command. `superseded_by` is the command that won "
            "against it. `amended_by` is the command that an operator has sent in place of a "
            "rejected command.",
            "properties": {
                **command,
                "status": open_text("applied", "superseded", "rejected"),
                "superseded_by": reference("CommandId"),
                "amended_by": reference("CommandId"),
                "error": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                        "sqlstate": {
                            "type": "string",
                            "description": "The SQLSTATE, if Postgres refused the row.",
                            "examples": ["22001"],
                        },
                    },
                    "required": ["code", "detail"],
                },
            },
            "required": [*command, "status"],
        },
    )
    yield (
        "BatchResult",
        {
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "description": "One result for each item, in the order of the items.",
                    "items": {"oneOf": [reference("AcceptedItem"), reference("RefusedItem")]},
                }
            },
            "required": ["results"],
        },
    )
    place = {"index": {"type": "integer", "minimum": 0}}
    yield "AcceptedItem", {
        "type": "object",
        "properties": {
            **place, "outcome": _build_word("accepted"), **command, "status": {"type": "integer"},
        },
        "required": ["index", "outcome", *command, "status"],
    }  # fmt: skip
    yield (
        "RefusedItem",
        {
            "type": "object",
            "properties": {
                **place,
                "outcome": _build_word("refused"),
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "problem": reference("Problem"),
            },
            "required": ["index", "outcome", "status", "problem"],
        },
    )
    yield (
        "IntegerIncrement",
        {
            "description": "A number that is added to the field's value when the patch is applied.",
            **_build_increment({"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX}),
        },
    )
    yield "Operation", _build_operation(key)
    yield "Problem", _build_problem()
    yield "Health", _build_health()
    yield (
        "Index",
        {
            "type": "object",
            "properties": {
                "links": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "format": "uri-reference"},
                }
            },
            "required": ["links"],
        },
    )


def _build_operation(key: Schema) -> Schema:
    tag = {"type": "string", OWN_FORMAT: "version-tag"}
    return {
        "type": "object",
        "properties": {
            "op": {"type": "string", "enum": ["create", "put", "patch", "delete"]},
            "resource": {"type": "string"},
            "key": key,
            "body": {
                "type": "object",
                "description": "The item, or the fields that a `patch` sets, as in a request to "
                "the resource; not for `delete`.",
                "additionalProperties": True,
            },
            "if_match": {
                "anyOf": [tag, {"type": "array", "items": tag, "minItems": 1}],
                "description": "`*`, or items' ETags or command ids, of which one must match; not "
                "for `create`.",
            },
            "if": {
                "type": "array",
                "description": "Comparisons `[field, operator, value]`, which must all hold; not "
                "for `create`.",
                "items": {"type": "array", "items": {}, "minItems": 3, "maxItems": 3},
                "minItems": 1,
                "maxItems": MAX_COMPARISONS,
                "examples": [[["status", "eq", "paid"]]],
            },
        },
        "required": ["op", "resource"],
        "additionalProperties": False,
    }


def _build_word(value: str) -> Schema:
    """Describe a discriminator: a fixed value that distinguishes alternative answers.

    The schema uses `enum`, because some generators don't support `const`.
    """
    return {"type": "string", "enum": [value]}


def _build_problem() -> Schema:
    codes = sorted(CATALOGUE)
    return {
        "type": "object",
        "description": "RFC 9457. `code` is stable; `title` and `detail` are texts for people:\n\n"
        + "\n".join(f"- `{code}` ({CATALOGUE[code][0]}): {CATALOGUE[code][1]}" for code in codes),
        "properties": {
            "type": {
                "type": "string",
                "description": f"`{TYPE_PREFIX}` followed by the code.",
                "examples": [TYPE_PREFIX + codes[0]],
            },
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 300, "maximum": 599},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "code": {"type": "string", "examples": codes},
            "errors": {
                "type": "array",
                "description": "All faults of an item, with their positions.",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": {
                            "type": "string",
                            "description": "A JSON Pointer in URI fragment form (RFC 6901).",
                        },
                        "detail": {"type": "string"},
                    },
                    "required": ["pointer", "detail"],
                },
            },
            "message": {
                "type": "string",
                "description": "As `detail`.",
            },
            "details": {"type": ["string", "null"], "description": "As in PostgREST."},
            "hint": {"type": ["string", "null"], "description": "As in PostgREST."},
        },
        "required": [
            *("type", "title", "status", "detail", "instance", "code"),
            *("message", "details", "hint"),
        ],
    }


def _build_health() -> Schema:
    oldest = {
        "type": ["object", "null"],
        "properties": {
            "object": {"type": "string"},
            "stored_at": _TIMESTAMP,
            "age_seconds": {"type": "number", "minimum": 0},
        },
        "required": ["object", "stored_at", "age_seconds"],
    }
    parts: Mapping[str, Schema] = {
        "database": _build_object(
            state=open_text("reachable", "unreachable"),
            role=open_text("replica", "primary", nullable=True),
            streaming={
                "type": ["boolean", "null"],
                "description": "Whether the replica receives changes from its primary.",
            },
            replica_lag_seconds={**_SECONDS, "description": "Null for a primary."},
        ),
        "applied": {
            **_build_object(
                window_seconds={"type": "integer"},
                commands={"type": "integer", "minimum": 0},
                p50_seconds=_SECONDS,
                p99_seconds=_SECONDS,
            ),
            "type": ["object", "null"],
            "description": "The lag of the commands in archive objects that were completed in the "
            "window, from acceptance to applied on the primary; accurate to a tenth.",
        },
        "resources": {
            "type": ["object", "null"],
            "additionalProperties": _build_object(
                estimated_rows={**_COUNT, "description": "Null if Postgres has no estimate."}
            ),
        },
        "rejections": {
            **_build_object(
                open={
                    **_EXACT_COUNT,
                    "description": "Rejections that are neither retried nor discarded.",
                }
            ),
            "type": ["object", "null"],
        },
        "waiting": {
            **_build_object(
                commands=_EXACT_COUNT,
                oldest_seconds={**_SECONDS, "description": "The age of the oldest of them."},
            ),
            "type": ["object", "null"],
            "description": "Patches of items that don't exist; each is applied when a create or "
            "put of its item arrives that is older than the patch.",
        },
        "dead_letters": {
            **_build_object(messages=_EXACT_COUNT),
            "type": ["object", "null"],
            "description": "Dead letters of the consumer; null if the queue does not respond.",
        },
        "archive": _build_object(
            state=open_text("reachable", "unreachable", "unknown"),
            since={"type": ["string", "null"], "format": "date-time"},
            complete={
                "type": "boolean",
                "description": "Whether all objects since `since` were compared with the ledger, "
                "older objects within the last minute.",
            },
            unapplied_objects=_COUNT,
            oldest_unapplied=oldest,
        ),
    }
    return {
        "type": "object",
        "properties": {
            "status": open_text(
                *("ok", "late", "attention"),
                description="`late`: delays that end without intervention; `attention`: an "
                "operator must intervene. `reasons` lists the causes.",
            ),
            "reasons": {"type": "array", "items": _build_reason()},
            "checked_at": _TIMESTAMP,
            **parts,
        },
        "required": ["status", "reasons", "checked_at", *parts],
    }


def _build_reason() -> Schema:
    reasons = "\n".join(f"- `{code}`: {text}" for code, text in STATUS_REASONS.items())
    return _build_object(
        code={
            "type": "string",
            "description": f"A stable code; further codes are possible:\n\n{reasons}",
            "examples": list(STATUS_REASONS),
        },
        severity=open_text("late", "attention"),
        detail={"type": "string", "description": "For people."},
    )


def _build_object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}
