"""The authorization of each route: the credentials that API Gateway checks first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.access import RESOURCE_SERVER, read_scope, write_scope
from forebay.routes import Route
from infra.components.invocation import build_invocation_uri
from infra.front import ApiSettings, CognitoSettings, IamSettings, LambdaAuthorizerSettings

#: For the routes that describe the API itself.
STATUS_SCOPE: Final = "status.read"
#: For operations on any resource, in addition to the scopes to write the resources.
COMMANDS_SCOPE: Final = write_scope("commands")

#: The security schemes.
_API_KEY: Final = "api_key"
_CALLER: Final = "caller"
#: API Gateway's extensions of a scheme.
_KIND: Final = "x-amazon-apigateway-authtype"
_AUTHORIZER: Final = "x-amazon-apigateway-authorizer"

_READING: Final = frozenset({"list", "query", "item", "status", "download"})


def scopes_of(route: Route) -> tuple[str, ...]:
    """The scopes of which a token needs one, without the resource server's name.

    A writer may query the status of its commands, so a status accepts either scope.
    """
    if route.action == "commands":
        return (COMMANDS_SCOPE,)
    if not route.resource:
        return (STATUS_SCOPE,)
    group = route.scope_group or route.resource
    read, write = read_scope(group), write_scope(group)
    if route.action == "status":
        return (read, write)
    return (read,) if route.action in _READING else (write,)


def list_scopes(routes: Sequence[Route]) -> tuple[str, ...]:
    """Every scope that a route requires, each once, in a stable order."""
    required = (scope for route in routes if not route.public for scope in scopes_of(route))
    return tuple(dict.fromkeys(required))


def read_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """The scopes that allow reads only."""
    return tuple(scope for scope in scopes if scope.endswith(".read"))


@dataclass(frozen=True, slots=True)
class Authorization:
    """The credentials that an API requires, in the terms of its definition."""

    settings: ApiSettings
    #: The pool of the tokens that the API accepts; None without Cognito.
    user_pool_arn: str | None = None

    def build_schemes(self) -> Mapping[str, Any]:
        """The kinds of credentials (OpenAPI: security schemes), by name."""
        schemes: dict[str, Any] = {}
        if self.settings.require_api_key:
            schemes[_API_KEY] = {"type": "apiKey", "name": "x-api-key", "in": "header"}
        if (extensions := self._build_extensions()) is not None:
            schemes[_CALLER] = {
                "type": "apiKey",  # the only type that API Gateway imports
                "name": "Authorization",
                "in": "header",
                **extensions,
            }
        return schemes

    def build_requirements(self, *routes: Route) -> list[Mapping[str, list[str]]]:
        """The credentials that a caller needs for a method; API Gateway requires all of them.

        Args:
            routes: the method's own route. For the methods that a path doesn't have, all routes of
                the path: the credentials of any of them suffice, and they are public only if all
                are.
        """
        if all(route.public for route in routes):
            return []
        requirements: list[Mapping[str, list[str]]] = []
        if self.settings.require_api_key:
            requirements.append({_API_KEY: []})
        authorization = self.settings.authorization
        if authorization.kind != "none":
            # Without scopes API Gateway would require an ID token, which identifies a person and
            # does not state the permissions of a program.
            scopes = list_scopes(routes) if isinstance(authorization, CognitoSettings) else ()
            requirements.append({_CALLER: [f"{RESOURCE_SERVER}/{scope}" for scope in scopes]})
        return requirements

    def _build_extensions(self) -> Mapping[str, Any] | None:
        """API Gateway's extensions of the scheme; None if there is no authorization."""
        match self.settings.authorization:
            case CognitoSettings():
                assert self.user_pool_arn is not None  # noqa: S101 - the app makes or finds it
                # API Gateway checks signatures itself and caches the results for five minutes. A
                # token is valid until it expires, so its lifetime bounds the delay of a revocation.
                return {
                    _KIND: "cognito_user_pools",
                    _AUTHORIZER: {
                        "type": "cognito_user_pools",
                        "providerARNs": [self.user_pool_arn],
                    },
                }
            case LambdaAuthorizerSettings(function_arn=arn, verdict_seconds=seconds):
                return {
                    _KIND: "custom",
                    _AUTHORIZER: {
                        "type": "token",
                        "authorizerUri": build_invocation_uri(arn),
                        "authorizerResultTtlInSeconds": seconds,
                    },
                }
            case IamSettings():
                return {_KIND: "awsSigv4"}
            case _:
                return None
