"""The OpenAPI document as a whole, in a stable order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forebay.openapi.answers import RESPONSE_HEADERS
from forebay.openapi.common import build_common_schemas
from forebay.openapi.operations import Operations, general, operation_id
from forebay.openapi.parameters import build_condition_schemas, filter_schemas
from forebay.openapi.schemas import Schema, build_resource_schemas
from forebay.resource.relations import find_relations
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, Route, routes

OPENAPI_VERSION: Final = "3.1.1"
API_VERSION: Final = API_PREFIX.removeprefix("/")

_ABOUT_TAG: Final = "about"
_COMMANDS_TAG: Final = "commands"
_DESCRIPTION: Final = """\
A write is answered with 202 as soon as its command is stored durably; the command is applied
later, and has a status. Reads are answered by replicas, through a cache; `Read-After` requests a
state that contains a given command. Lists support PostgREST's filters, `select`, `order` and
headers. Every error is `application/problem+json` (RFC 9457) with a stable `code`.
"""


def describe(
    resources: Mapping[str, ResourceSpec],
    *,
    require_api_key: bool = False,
    dotted_parameters: bool = True,
) -> dict[str, Any]:
    """Create the OpenAPI document; equal declarations give equal documents.

    Args:
        resources: the declarations, by path.
        require_api_key: callers need an API key, except on public routes.
        dotted_parameters: as for `routes`.
    """
    relations_by_path = find_relations(resources)
    operations = {
        path: Operations(spec, relations_by_path[path], require_api_key=require_api_key)
        for path, spec in resources.items()
    }
    paths: dict[str, dict[str, Schema]] = {}
    for route in routes(resources, dotted_parameters=dotted_parameters):
        if route.action == "asset":  # only the documentation page uses these
            continue
        paths.setdefault(route.path, {})[route.method.lower()] = {
            "operationId": operation_id(route.name),
            "tags": [_choose_tag(route)],
            **(
                operations[route.resource].of(route)
                if route.resource
                else general(
                    route,
                    require_api_key=require_api_key,
                    attachments=any(spec.attachments for spec in resources.values()),
                )
            ),
        }
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Forebay",
            "version": API_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        # Relative to the document's URL, so that it is valid for every host name.
        "servers": [{"url": API_PREFIX}],
        "tags": _describe_tags(resources),
        "paths": paths,
        "components": _collect_components(resources, require_api_key=require_api_key),
        **({"security": [{"apiKey": []}]} if require_api_key else {}),
    }


def _choose_tag(route: Route) -> str:
    if route.resource:
        return route.resource
    return _COMMANDS_TAG if route.action == "commands" else _ABOUT_TAG


def _describe_tags(resources: Mapping[str, ResourceSpec]) -> list[Schema]:
    resource_tags = [
        {"name": path, "description": spec.description} for path, spec in resources.items()
    ]
    return [
        *resource_tags,
        {"name": _COMMANDS_TAG, "description": "Operations on any resources."},
        {"name": _ABOUT_TAG, "description": "The description and the status of the API."},
    ]


def _collect_components(resources: Mapping[str, ResourceSpec], *, require_api_key: bool) -> Schema:
    schemas = {
        name: schema
        for spec in resources.values()
        for name, schema in build_resource_schemas(spec).items()
    }
    components: Schema = {
        "schemas": {
            **schemas,
            **dict(filter_schemas()),
            **dict(build_condition_schemas()),
            **build_common_schemas(),
        },
        "headers": dict(RESPONSE_HEADERS),
    }
    if require_api_key:
        components["securitySchemes"] = {
            "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}
        }
    return components
