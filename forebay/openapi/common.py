"""JSON Schemas that are common to all resources: statuses, problems, and the pipeline's health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from forebay.conditions import MAX_COMPARISONS
from forebay.ids import COMMAND_ID
from forebay.openapi.schemas import (
    OWN_FORMAT,
    STATUS_REASONS,
    TIMESTAMP,
    Schema,
    build_increment,
    open_text,
    reference,
)
from forebay.problem import CATALOGUE, TYPE_PREFIX
from forebay.resource.body import INT64_MAX, INT64_MIN

_SECONDS: Final = {"type": ["number", "null"], "minimum": 0}
_COUNT: Final = {"type": ["integer", "null"], "minimum": 0}
_EXACT_COUNT: Final = {"type": "integer", "minimum": 0}


def build_common_schemas() -> dict[str, Schema]:
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
    command = {
        "command_id": reference("CommandId"),
        "resource": {"type": "string"},
        "key": key,
        "links": reference("Links"),
    }
    yield from _build_statuses(command)
    yield from _build_batch_results(command)
    yield (
        "IntegerIncrement",
        {
            "description": "A number that is added to the field's value when the patch is applied.",
            **build_increment({"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX}),
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


def _build_statuses(command: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of a command's status, with those members of a command."""
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


def _build_batch_results(command: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of the answer to several items, with those members of a command."""
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
    parts = _build_health_parts()
    return {
        "type": "object",
        "properties": {
            "status": open_text(
                *("ok", "late", "attention"),
                description="`late`: delays that end without intervention; `attention`: an "
                "operator must intervene. `reasons` lists the causes.",
            ),
            "reasons": {"type": "array", "items": _build_reason()},
            "checked_at": TIMESTAMP,
            **parts,
        },
        "required": ["status", "reasons", "checked_at", *parts],
    }


def _build_health_parts() -> Mapping[str, Schema]:
    return {
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
        "archive": _build_archive_state(),
    }


def _build_archive_state() -> Schema:
    oldest = {
        "type": ["object", "null"],
        "properties": {
            "object": {"type": "string"},
            "stored_at": TIMESTAMP,
            "age_seconds": {"type": "number", "minimum": 0},
        },
        "required": ["object", "stored_at", "age_seconds"],
    }
    return _build_object(
        state=open_text("reachable", "unreachable", "unknown"),
        since={"type": ["string", "null"], "format": "date-time"},
        complete={
            "type": "boolean",
            "description": "Whether all objects since `since` were compared with the ledger, "
            "older objects within the last minute.",
        },
        unapplied_objects=_COUNT,
        oldest_unapplied=oldest,
    )


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
