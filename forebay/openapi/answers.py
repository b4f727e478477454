"""The answers of operations: statuses, headers, bodies and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from forebay.openapi.examples import ITEM_TAG
from forebay.openapi.schemas import Schema, reference
from forebay.problem import CATALOGUE, CONTENT_TYPE
from forebay.query.representation import Media

JSON: Final = "application/json"

_SECONDS: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}

#: Headers of answers, for the document's components.
RESPONSE_HEADERS: Final[Mapping[str, Schema]] = {
    "Location": {
        "description": "The address of the command's status, or of a redirect's target.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Content-Location": {
        "description": "The address of the item, which may not exist yet.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {"description": "Seconds.", "schema": _SECONDS},
    "Cache-Control": {"schema": _TEXT},
    "ETag": {
        "description": "Strong for an item: version and digest of the answer. Weak for a list.",
        "schema": _TEXT,
        "example": ITEM_TAG,
    },
    "Link": {
        "description": 'RFC 8288: the pages with `rel="next"` and `rel="prev"`.',
        "schema": _TEXT,
    },
    "Content-Range": {
        "description": "The rows of the page and, if it was requested, the number of all rows.",
        "schema": _TEXT,
        "example": "0-24/34006",
    },
    "Preference-Applied": {
        "description": "RFC 7240: the preferences that were applied.",
        "schema": _TEXT,
    },
    "Idempotency-Replayed": {
        "description": "`true` if an earlier attempt has made the commands of this answer.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Vary": {"schema": _TEXT},
    "Accept-Patch": {"description": "The supported media types.", "schema": _TEXT},
    "Accept-Post": {"description": "The supported media types.", "schema": _TEXT},
    "Content-Security-Policy": {"schema": _TEXT},
}

#: Problems that the gateway and the edge can return for any route.
_EVERYWHERE: Final = (
    "bad_request", "unknown_resource", "throttled", "quota_exceeded", "unavailable", "timeout",
)  # fmt: skip
_GATEWAY_ON_BODIES: Final = ("payload_too_large", "unsupported_media_type")
_WITH_KEY: Final = ("invalid_api_key", "forbidden")
#: Problems of the header Idempotency-Key.
_REPETITIONS: Final = (
    "idempotency_in_flight", "idempotency_key_reused", "idempotency_unavailable",
)  # fmt: skip
_QUERY: Final = ("unknown_parameter", "repeated_parameter")
_ITEM: Final = (
    *("malformed_json", "duplicate_member", "not_utf8", "empty_body", "bad_header"),
    *("command_too_large", "validation_failed", "unstorable_text", "too_deep", "number_too_large"),
    "not_accepted",
)
_POSTGREST_READS: Final = tuple(
    code for code in CATALOGUE if code.startswith("PGRST") and code != "PGRST204"
)
#: Problems of the filters that name the items of a write, and are its condition.
_TARGETS: Final = (
    *("bad_filter", "bad_key", "bad_header", "empty_batch", "batch_too_large", "not_accepted"),
    *("unknown_parameter", "repeated_parameter"),
    *("PGRST100", "PGRST116", "PGRST122", "PGRST127"),
)
#: Problems that are specific to an action.
_PROBLEMS: Final[Mapping[str, tuple[str, ...]]] = {
    "list": (
        *_POSTGREST_READS,
        "forbidden",
        *("bad_filter", "bad_order", "bad_select", "bad_cursor", "bad_header"),
        *("answer_too_large", "too_costly"),
    ),
    "query": (
        *_POSTGREST_READS,
        *("bad_filter", "bad_order", "bad_select", "bad_cursor", "bad_header", "answer_too_large"),
        *("malformed_form", "unknown_parameter", "repeated_parameter"),
    ),
    "item": ("bad_key", "bad_header", "not_found"),
    "status": ("bad_key", "bad_command_id", "bad_header"),
    "post": (
        *(*_ITEM, "empty_batch", "batch_too_large", "key_missing", "key_not_allowed"),
        *("PGRST100", "PGRST116", "PGRST122", "PGRST127", "PGRST204"),
        *("unknown_parameter", "repeated_parameter"),
    ),
    "put": (*_ITEM, "bad_key", "key_mismatch", "PGRST122"),
    "patch": (*_ITEM, "bad_key", "key_mismatch", "empty_patch", "PGRST122"),
    "delete": ("bad_key", "bad_header", "not_accepted", "PGRST122"),
    "upload": (
        *("malformed_json", "duplicate_member", "not_utf8", "empty_body", "bad_header", "bad_key"),
        *("validation_failed", "unknown_parameter", "repeated_parameter"),
        *("attachments_disabled", "attachments_unavailable"),
    ),
    "download": ("bad_key", "bad_header", "not_found", "no_attachment", "attachments_disabled"),
    "commands": (
        *("malformed_json", "not_utf8", "empty_body", "empty_batch", "batch_too_large"),
        *("bad_header", "unknown_parameter", "not_accepted", "PGRST116", "PGRST122"),
        # With `Prefer: return=…`, which accepts all operations or none.
        *("duplicate_member", "command_too_large", "validation_failed", "unstorable_text"),
        *("too_deep", "number_too_large", "key_missing", "key_mismatch", "key_not_allowed"),
        *("empty_patch", "forbidden"),
    ),
    "patch_many": (*_ITEM, "key_mismatch", "empty_patch", *_TARGETS),
    "delete_many": _TARGETS,
}
_PATCHES: Final = frozenset({"patch", "patch_many"})
_WRITES: Final = frozenset({"post", "put", "delete", "delete_many", "commands", *_PATCHES})


def headers(*names: str) -> dict[str, Schema]:
    """Return references to headers of the document."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def content(schema: Schema, media_type: str = JSON, example: Any = None) -> Schema:  # noqa: ANN401
    """Describe a body with one media type."""
    body: Schema = {"schema": schema}
    return {media_type: body if example is None else {**body, "example": example}}


def rows(name: str, example: Any) -> Schema:  # noqa: ANN401 - any JSON value
    """Describe the bodies of a list, by media type; `select` can give rows any form."""
    selected = {
        "type": "object",
        "description": "The members named in `select`.",
        "additionalProperties": True,
    }
    row = {"anyOf": [reference(name), selected]}
    return {
        Media.JSON.value: {"schema": {"type": "array", "items": row}, "example": [example]},
        Media.CSV.value: {"schema": {"type": "string"}},
        Media.OBJECT.value: {"schema": row},
    }


def problems(action: str, *, api_key: bool, body: bool, attachments: bool) -> dict[str, Schema]:
    """Describe the problems of a route, by status.

    Args:
        action: the route's action.
        api_key: the route requires an API key.
        body: the route accepts a body.
        attachments: the body may have attachments.
    """
    codes = [*_EVERYWHERE, *_PROBLEMS.get(action, ()), *(_WITH_KEY if api_key else ())]
    codes += _REPETITIONS if action in _WRITES else ()
    codes += ["attachments_unavailable"] if attachments and body and action in _WRITES else []
    codes += [*_QUERY, *(_GATEWAY_ON_BODIES if body else ())]
    by_status: dict[int, list[str]] = {}
    for code, (status, _) in CATALOGUE.items():
        if code in codes:
            by_status.setdefault(status, []).append(code)
    return {
        str(status): _describe_problem(status, by_status[status], action)
        for status in sorted(by_status)
    }


def _describe_problem(status: int, codes: Sequence[str], action: str) -> Schema:
    names: tuple[str, ...] = ("Cache-Control",)
    if status in {409, 429, 503, 504}:
        names += ("Retry-After",)
    if status == 415 and action in {*_WRITES, "query"}:  # noqa: PLR2004 - a status of HTTP
        names += ("Accept-Patch" if action in _PATCHES else "Accept-Post",)
    if status == 416:  # noqa: PLR2004
        names += ("Content-Range",)
    return {
        "description": "; ".join(f"`{code}`: {CATALOGUE[code][1]}" for code in codes) + ".",
        "headers": headers(*names),
        "content": content(reference("Problem"), CONTENT_TYPE),
    }
