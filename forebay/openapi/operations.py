"""The operations: one for each route, derived from the route's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from forebay.attachments import find_media
from forebay.http import MERGE_TYPE
from forebay.intake.commands import MAX_BATCH_ITEMS
from forebay.openapi.answers import JSON, content, headers, problems, rows
from forebay.openapi.attachments import describe_attachment
from forebay.openapi.examples import COMMAND_ID, make_item
from forebay.openapi.parameters import HEADERS, Parameters
from forebay.openapi.schemas import OWN_FORMAT, Schema, build_request_properties, reference
from forebay.query.grammar import FORM_TYPE, MAX_FORM_BYTES, list_parameters
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, Route

_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Identifies the request, so that it can be repeated. If the server makes the "
    "item's key, the key is derived from this value, so a repetition creates the same item. Where "
    "the deployment records requests, a repetition gets the first answer and creates no command "
    "(`Idempotency-Replayed`); another request with this value is 422 `idempotency_key_reused`, "
    "and a repetition while the request is in progress is 409 `idempotency_in_flight`.",
    "schema": {
        "type": "string",
        "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-\[\]-~]{1,255})$',
        "maxLength": 257,
        "examples": ['"6f1c2b9e"'],
    },
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: do not overwrite an existing item. Decided when the command is applied, "
    "so the answer is never 412.",
    "schema": {"type": "string", "enum": ["*"]},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "description": "`*` if the item must exist; or items' entity tags or command ids, of which one "
    "must match. Decided when the command is applied: otherwise its status becomes `rejected` with "
    "`precondition_failed`, and the answer is never 412. The command gets an id that is newer than "
    "these versions.",
    "schema": {"type": "string", OWN_FORMAT: "version-tag"},
}
_READ_AFTER: Final = {
    "name": "Read-After",
    "in": "header",
    "description": "A command's id or the path of its status, or an item's entity tag: the command "
    "gets an id that is newer than this version. A command with a condition or an increment waits "
    "for the command of its item if this header has the path of its status.",
    "schema": reference("CommandId"),
}
_PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "description": "RFC 7240. `return=minimal` requests an answer without a body. With "
    "`handling=strict`, unknown preferences are refused; `tx=rollback` is always refused.",
    "schema": {"type": "string", OWN_FORMAT: "write-preferences"},
}
_TARGETS: Final = (
    f"The key's filter is `eq.` with one key, or `in.()` with up to {MAX_BATCH_ITEMS} keys, which "
    "has a result for each key."
)
_FILTERS: Final = (
    "Filters on fields are the condition of each command, decided when it is applied: if one does "
    "not hold, its status becomes `rejected` with `precondition_failed`."
)
_TRACEPARENT: Final = {
    "name": "traceparent",
    "in": "header",
    "description": "W3C Trace Context; stored with the command.",
    "schema": {"type": "string"},
}
#: The headers of every write.
_WRITE_HEADERS: Final = (_IDEMPOTENCY_KEY, _READ_AFTER, _PREFER, _TRACEPARENT)


class Operations:
    """Descriptions of the routes of one resource."""

    def __init__(
        self, spec: ResourceSpec, relations: Sequence[Relation], *, require_api_key: bool
    ) -> None:
        self._spec = spec
        self._relations = relations
        self._require_api_key = require_api_key
        self._parameters = Parameters(spec, relations)
        self._example = make_item(spec, build_request_properties(spec))
        self._actions: Mapping[str, Callable[[], Schema]] = {
            "list": self._describe_list,
            "query": self._describe_query,
            "item": self._describe_item,
            "status": self._describe_status,
            "post": self._describe_post,
            "put": self._describe_put,
            "patch": self._describe_patch,
            "patch_many": self._describe_patch_many,
            "delete": self._describe_delete,
            "delete_many": self._describe_delete_many,
        }

    def of(self, route: Route) -> Schema:
        """Describe a route as an operation object, without its name and tag."""
        media = find_media(self._spec, route.field)
        if media is None:
            operation = self._actions[route.action]()
        else:
            operation = describe_attachment(route, media, [_READ_AFTER, _TRACEPARENT])
        operation["parameters"] = [*self._parameters.of(route), *operation.get("parameters", ())]
        return completed(
            operation,
            route,
            require_api_key=self._require_api_key,
            attachments=bool(self._spec.attachments),
        )

    def _describe_list(self) -> Schema:
        answer = {
            "headers": headers(
                "Content-Range", "Link", "ETag", "Preference-Applied", "Cache-Control", "Vary"
            ),
            "content": rows(self._spec.name, self._example),
        }
        return {
            "summary": f"List {self._spec.path}",
            "description": "A page of items. `Link` contains the next and previous pages.",
            "responses": {
                "200": {"description": "The page.", **answer},
                "206": {"description": "The page, if a count was requested and is larger than "
                        "the page.", **answer},
                "304": {"description": "Not modified.", "headers": headers("ETag")},
            },
        }  # fmt: skip

    def _describe_query(self) -> Schema:
        answer = {
            "headers": headers("Content-Range", "Link", "Preference-Applied", "Cache-Control"),
            "content": rows(self._spec.name, self._example),
        }
        names = list_parameters(self._spec, self._relations)
        return {
            "summary": f"List {self._spec.path} with a query that is too long for a URL",
            "description": f"The parameters of a list as a form of up to {MAX_FORM_BYTES:,} bytes. "
            "The answer is the same as of the GET, but is never cached, so undeclared parameter "
            "names are allowed. `Link` contains the other pages; send the same form there.",
            "requestBody": {
                "required": False,
                "content": content(self._parameters.form(names), FORM_TYPE),
            },
            "responses": {
                "200": {"description": "The page.", **answer},
                "206": {"description": "The page, if a count was requested and is larger than "
                        "the page.", **answer},
            },
        }  # fmt: skip

    def _describe_item(self) -> Schema:
        return {
            "summary": "Read one item",
            "responses": {
                "200": {
                    "description": "The item.",
                    "headers": headers("ETag", "Cache-Control", "Vary"),
                    "content": content(reference(self._spec.name), example=self._example),
                },
                "304": {"description": "Not modified.", "headers": headers("ETag")},
            },
        }

    def _describe_status(self) -> Schema:
        return {
            "summary": "Get the status of a command",
            "responses": {
                "200": {
                    "description": "The command is settled.",
                    "headers": headers("Cache-Control", "Preference-Applied"),
                    "content": content(
                        reference("Settled"), example={**self._build_command(), "status": "applied"}
                    ),
                },
                "202": {
                    "description": "The command is pending.",
                    "headers": headers(
                        "Location", "Retry-After", "Cache-Control", "Preference-Applied"
                    ),
                    "content": content(reference("Accepted"), example=self._build_accepted()),
                    "links": self._describe_links(),
                },
            },
        }

    def _describe_post(self) -> Schema:
        new = reference(f"New{self._spec.name}")
        item = dict(self._example)
        if self._spec.key_is_made:
            del item[self._spec.key.name]
        return {
            "summary": "Create one or more items",
            # Only this text mentions NDJSON: no schema can describe a text of several JSON values,
            # and generators warn about media types that they don't support.
            "description": f"One object, or up to {MAX_BATCH_ITEMS} objects as an array, or as "
            "NDJSON with one object per line (`application/x-ndjson`, `application/ndjson` or "
            "`application/jsonl`). Each object is a `create`, which never overwrites an item; with "
            "`Prefer: resolution=merge-duplicates` it is a `put`. As sent by PostgREST's clients, "
            "`columns` (the members that count) and `on_conflict` (the key) are accepted, and "
            "`return=representation` returns an array of results; with `columns` or `return`, the "
            "items are accepted together or not at all.",
            "parameters": [*_WRITE_HEADERS],
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {
                        "schema": {"oneOf": [new, _describe_batch(new)]},
                        "examples": {
                            "one": {"summary": "One item", "value": item},
                            "many": {"summary": "Many items", "value": [item]},
                        },
                    },
                },
            },
            "responses": {
                "202": self._describe_accepted(),
                "207": _describe_results(),
            },
        }

    def _describe_put(self) -> Schema:
        item = {n: value for n, value in self._example.items() if n != self._spec.key.name}
        return {
            "summary": "Create or replace an item",
            "parameters": [_IF_NONE_MATCH, _IF_MATCH, *_WRITE_HEADERS],
            "requestBody": {
                "required": True,
                "content": content(reference(f"{self._spec.name}Content"), example=item),
            },
            "responses": {"202": self._describe_accepted()},
        }

    def _describe_patch(self) -> Schema:
        return {
            "summary": "Set some fields of an item",
            "description": "Other fields keep their values. An item that does not exist yet gets "
            "the fields when it is created, except with `If-Match`. An object for a JSON field "
            "replaces it, so it requires `application/json`.",
            "parameters": [_IF_MATCH, *_WRITE_HEADERS],
            "requestBody": self._describe_patch_body(),
            "responses": {"202": self._describe_accepted()},
        }

    def _describe_patch_many(self) -> Schema:
        return {
            "summary": "Set some fields of the items with some keys",
            "description": f"{_TARGETS} {_FILTERS}",
            "parameters": [_IF_MATCH, *_WRITE_HEADERS],
            "requestBody": self._describe_patch_body(),
            "responses": {"202": self._describe_accepted(), "207": _describe_results()},
        }

    def _describe_patch_body(self) -> Schema:
        schema = reference(f"{self._spec.name}Patch")
        field = self._spec.fields[0].name
        example = {field: self._example[field]}
        return {
            "required": True,
            "content": {
                **content(schema, example=example),
                **content(schema, MERGE_TYPE, example=example),
            },
        }

    def _describe_delete(self) -> Schema:
        return {
            "summary": "Delete an item",
            "parameters": [_IF_MATCH, *_WRITE_HEADERS],
            "responses": {"202": self._describe_accepted()},
        }

    def _describe_delete_many(self) -> Schema:
        return {
            "summary": "Delete the items with some keys",
            "description": f"{_TARGETS} {_FILTERS}",
            "parameters": [_IF_MATCH, *_WRITE_HEADERS],
            "responses": {"202": self._describe_accepted(), "207": _describe_results()},
        }

    def _describe_accepted(self) -> Schema:
        return {
            "description": "The command is stored and will be applied later.",
            "headers": headers(
                *("Location", "Content-Location", "Retry-After", "Cache-Control"),
                *("Preference-Applied", "Idempotency-Replayed"),
            ),
            "content": content(reference("Accepted"), example=self._build_accepted()),
            "links": self._describe_links(),
        }

    def _describe_links(self) -> Schema:
        key = {"key": "$response.body#/key"}
        return {
            "status": {
                "operationId": operation_id(f"{self._spec.path}.status"),
                "parameters": {**key, "id": "$response.body#/command_id"},
                "description": "The status of the command.",
            },
            "item": {
                "operationId": operation_id(f"{self._spec.path}.item"),
                "parameters": key,
                "description": "The item; `Read-After` with the command's id waits for it.",
            },
        }

    def _build_command(self) -> Schema:
        key = self._example[self._spec.key.name]
        item = f"{API_PREFIX}/{self._spec.path}/{quote(str(key), safe='')}"
        return {
            "command_id": COMMAND_ID,
            "resource": self._spec.path,
            "key": key,
            "links": {"item": item, "status": f"{item}/commands/{COMMAND_ID}"},
        }

    def _build_accepted(self) -> Schema:
        return {**self._build_command(), "status": "pending"}


def operation_id(route_name: str) -> str:
    """Return the operation's name, which generators can use for a function: `cities_list`."""
    return route_name.replace(".", "_").replace("-", "_")


def general(route: Route, *, require_api_key: bool, attachments: bool) -> Schema:
    """Describe a route that belongs to no resource."""
    return completed(
        dict(_GENERAL[route.action]),
        route,
        require_api_key=require_api_key,
        attachments=attachments,
    )


def completed(
    operation: Schema, route: Route, *, require_api_key: bool, attachments: bool
) -> Schema:
    """Add the problems and the security requirement to an operation."""
    problem_responses = problems(
        route.action,
        api_key=require_api_key and not route.public,
        body="requestBody" in operation,
        attachments=attachments,
    )
    operation["responses"] = {**operation["responses"], **problem_responses}
    if not operation.get("parameters"):
        operation.pop("parameters", None)
    if require_api_key and route.public:
        operation["security"] = []
    if route.method == "HEAD":
        return _remove_bodies(operation)
    return operation


def _remove_bodies(operation: Schema) -> Schema:
    """Remove the bodies of answers, for HEAD (RFC 9110 §9.3.2)."""
    answers = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in operation["responses"].items()
    }
    return {**operation, "summary": f"{operation['summary']}: headers only", "responses": answers}


def _describe_results() -> Schema:
    return {
        "description": "The result of each item: valid items are accepted.",
        "headers": headers(
            "Retry-After", "Cache-Control", "Preference-Applied", "Idempotency-Replayed"
        ),
        "content": content(reference("BatchResult")),
    }


def _describe_batch(new: Schema) -> Schema:
    """Describe a batch; the schema admits any item, because each is accepted or refused alone."""
    other = {"description": "An invalid item is refused separately, with a problem in the answer."}
    return {
        "type": "array",
        "items": {"anyOf": [new, other]},
        "minItems": 1,
        "maxItems": MAX_BATCH_ITEMS,
    }


#: Operations of routes that belong to no resource.
_GENERAL: Final[Mapping[str, Schema]] = {
    "commands": {
        "summary": "Write to any resources",
        "description": f"Up to {MAX_BATCH_ITEMS} operations as an array, or as NDJSON, accepted in "
        "their order. A `create` never overwrites an item; without `key` the body has the key, or "
        "the server makes it. Operations are not a transaction: each is accepted, applied or "
        "rejected alone.",
        "parameters": [*_WRITE_HEADERS],
        "requestBody": {
            "required": True,
            "content": content(_describe_batch(reference("Operation"))),
        },
        "responses": {
            "202": {
                "description": "All operations are accepted, and the request prefers another "
                "answer than the usual results.",
                "headers": headers(
                    "Retry-After", "Cache-Control", "Preference-Applied", "Idempotency-Replayed"
                ),
            },
            "207": _describe_results(),
        },
    },
    "index": {
        "summary": "List the links of the API",
        "responses": {
            "200": {
                "description": "Links.",
                "headers": headers("Cache-Control"),
                "content": content(reference("Index")),
            }
        },
    },
    "openapi": {
        "summary": "Get this document",
        "parameters": [{**HEADERS["If-None-Match"], "name": "If-None-Match", "in": "header"}],
        "responses": {
            "200": {
                "description": "OpenAPI 3.1.",
                "headers": headers("ETag", "Cache-Control"),
                "content": content({"type": "object"}),
            },
            "304": {"description": "Not modified.", "headers": headers("ETag")},
        },
    },
    "docs": {
        "summary": "Show this document as a page",
        "responses": {
            "200": {
                "description": "Swagger UI.",
                "headers": headers("Cache-Control", "Content-Security-Policy"),
                "content": content({"type": "string"}, "text/html"),
            }
        },
    },
    "health": {
        "summary": "Get the status of the pipeline",
        "description": "Never cached; up to ten seconds old. 200 even if the database is "
        "unreachable, because writes are still accepted: see `status`.",
        "responses": {
            "200": {
                "description": "The status.",
                "headers": headers("Cache-Control"),
                "content": content(reference("Health")),
            }
        },
    },
}
