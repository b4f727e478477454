"""The API's definition: the OpenAPI document that API Gateway imports, derived from the routes.

One document defines all methods, authorizers and gateway responses of an API, so that a resource
needs no resource of CloudFormation (docs/adr/0035-openapi-body.md). It contains no reference of
CloudFormation except a user pool's ARN: API Gateway replaces the variables itself (API Gateway
developer guide, "AWS variables for OpenAPI import").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.routes import Parameter, Route
from infra.components.authorization import Authorization
from infra.components.gateway_responses import define_gateway_responses
from infra.components.invocation import build_invocation_uri
from infra.front import ApiSettings

Json = dict[str, Any]

#: The extension for all methods that a path does not define.
ANY: Final = "x-amazon-apigateway-any-method"
INTEGRATION: Final = "x-amazon-apigateway-integration"

_OPENAPI_VERSION: Final = "3.0.1"  # API Gateway imports 2.0 and 3.0
_PREFLIGHT_SECONDS: Final = 3600

_LOCATIONS: Final = {"path": "path", "query": "querystring", "header": "header"}

#: The cache key parameter that separates the answers of authenticated callers.
_CALLER: Final = Parameter("header", "Authorization")

#: Headers that browsers may send across origins, in addition to the safelisted ones.
_REQUEST_HEADERS: Final = (
    "Authorization",
    "Baggage",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Range",
    "Range-Unit",
    "Read-After",
    "Traceparent",
    "Tracestate",
    "X-Api-Key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An API's definition, built from its routes."""

    name: str
    routes: Sequence[Route]
    #: The functions' names, with `:` and an alias if the alias is called, by `Route.function`.
    functions: Mapping[str, str]
    settings: ApiSettings
    authorization: Authorization
    read_timeout_seconds: int

    def build(self) -> Json:
        """The document."""
        by_path: dict[str, list[Route]] = {}
        for route in self.routes:
            by_path.setdefault(route.path, []).append(route)
        document: Json = {
            "openapi": _OPENAPI_VERSION,
            "info": {"title": self.name, "version": str(self.settings.definition_number)},
            "paths": {path: self._build_path(routes) for path, routes in by_path.items()},
            "x-amazon-apigateway-gateway-responses": define_gateway_responses(
                cors_allow_origin=self.settings.cors_allow_origin
            ),
            # An import overwrites the API, so the definition repeats properties of the template.
            "x-amazon-apigateway-minimum-compression-size": self.settings.compress_from_bytes,
        }
        if schemes := self.authorization.build_schemes():
            document["components"] = {"securitySchemes": schemes}
        if endpoint := self._configure_endpoint():
            document["x-amazon-apigateway-endpoint-configuration"] = endpoint
        return document

    def _configure_endpoint(self) -> Json:
        settings = self.settings
        endpoint: Json = {}
        if settings.vpc_endpoint_ids:
            endpoint["vpcEndpointIds"] = list(settings.vpc_endpoint_ids)
        if settings.domain is not None:
            endpoint["disableExecuteApiEndpoint"] = True
        return endpoint

    def _build_path(self, routes: Sequence[Route]) -> Json:
        operations = {route.method.lower(): self._build_operation(route) for route in routes}
        return {
            **operations,
            "options": self._build_preflight(routes),
            ANY: self._build_refusal(routes),
        }

    def _build_operation(self, route: Route) -> Json:
        parameters = self._list_parameters(route) if route.reads_query else ()
        integration = _integrate(self.functions[route.function])
        if route.cached:
            integration["cacheKeyParameters"] = [_map(parameter) for parameter in parameters]
        if route.reads_rows:
            # Writes and statuses, which may wait, get the gateway's 29 s.
            integration["timeoutInMillis"] = self.read_timeout_seconds * 1000
        operation = self._guard((route,), integration)
        if parameters:
            operation["parameters"] = [_declare(parameter) for parameter in parameters]
        return operation

    def _build_refusal(self, routes: Sequence[Route]) -> Json:
        """A function answers 405 with `Allow`: for API Gateway this is an unknown path.

        These methods require the same credentials as the path's own methods; otherwise any client
        could call the function.
        """
        return self._guard(routes, _integrate(self.functions["about"]))

    def _guard(self, routes: Sequence[Route], integration: Json) -> Json:
        # Security at the root is ignored (API Gateway developer guide, "Important notes").
        return {
            "responses": {},
            "security": self.authorization.build_requirements(*routes),
            INTEGRATION: integration,
        }

    def _build_preflight(self, routes: Iterable[Route]) -> Json:
        """Answers the CORS preflight requests of browsers."""
        headers = {
            "Access-Control-Allow-Headers": ",".join(
                [*_REQUEST_HEADERS, *self.settings.cors_allow_headers]
            ),
            "Access-Control-Allow-Methods": ",".join(route.method for route in routes),
            "Access-Control-Allow-Origin": self.settings.cors_allow_origin,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        }
        if self.settings.cors_allow_origin != "*":
            headers["Vary"] = "Origin"
        status = "200"  # the emulator sends a body, which a 204 must not have
        return {
            "responses": {
                status: {
                    "description": "The methods and headers that pages may send",
                    "headers": {name: {"schema": {"type": "string"}} for name in headers},
                }
            },
            "security": [],
            INTEGRATION: {
                "type": "mock",
                "requestTemplates": {"application/json": f'{{"statusCode":{status}}}'},
                "responses": {
                    "default": {
                        "statusCode": status,
                        "responseParameters": {
                            f"method.response.header.{name}": f"'{value}'"
                            for name, value in headers.items()
                        },
                    }
                },
            },
        }

    def _list_parameters(self, route: Route) -> tuple[Parameter, ...]:
        """The parameters of a method; if it is cached, they are its cache keys.

        The function sees the caller if a request may name other resources. On other routes one
        answer would be right for all callers; `shares_cache = false` separates callers there too.
        """
        extra = (_CALLER,) if route.cached and self.settings.tells_callers_apart else ()
        return (*route.parameters, *extra)


def _integrate(function: str) -> Json:
    return {"type": "aws_proxy", "httpMethod": "POST", "uri": build_invocation_uri(function)}


def _map(parameter: Parameter) -> str:
    """The parameter in API Gateway's notation."""
    return f"method.request.{_LOCATIONS[parameter.location]}.{parameter.name}"


def _declare(parameter: Parameter) -> Json:
    required = {"required": True} if parameter.location == "path" else {}
    return {
        "name": parameter.name,
        "in": parameter.location,
        **required,
        "schema": {"type": "string"},
    }
