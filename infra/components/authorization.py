"""The authorization of each route: the method options that API Gateway checks first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from forebay.access import RESOURCE_SERVER, read_scope, write_scope
from forebay.routes import Route
from infra.front import (
    ApiSettings,
    AuthorizationSettings,
    CognitoSettings,
    IamSettings,
    LambdaAuthorizerSettings,
)

#: For the routes that describe the API itself.
STATUS_SCOPE: Final = "status.read"
#: For operations on any resource, in addition to the scopes to write the resources.
COMMANDS_SCOPE: Final = write_scope("commands")

_READING: Final = frozenset({"list", "query", "item", "status", "download"})


def scopes_of(route: Route) -> tuple[str, ...]:
    """The scopes of which a token needs one, without the resource server's name.

    A writer may query the status of its commands, so a status accepts either scope.
    """
    if route.action == "commands":
        return (COMMANDS_SCOPE,)
    if not route.resource:
        return (STATUS_SCOPE,)
    read, write = read_scope(route.resource), write_scope(route.resource)
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


class Authorization(Construct):
    """The authorizer that the settings name, and the method options of each route."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: ApiSettings,
        user_pool_arn: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings = settings
        self._authorizer = self._build_authorizer(settings.authorization, user_pool_arn)

    def options(self, *routes: Route) -> apigateway.MethodOptions:
        """The options of a method: the credentials that a caller needs.

        Args:
            routes: the method's own route. For the methods that a path doesn't have, all routes of
                the path: the credentials of any of them suffice, and they are public only if all
                are.
        """
        is_public = all(route.public for route in routes)
        api_key_required = self._settings.require_api_key and not is_public
        authorization = self._settings.authorization
        if is_public or authorization.kind == "none":
            return apigateway.MethodOptions(
                api_key_required=api_key_required,
                authorization_type=apigateway.AuthorizationType.NONE,
            )
        if isinstance(authorization, IamSettings):
            return apigateway.MethodOptions(
                api_key_required=api_key_required,
                authorization_type=apigateway.AuthorizationType.IAM,
            )
        return apigateway.MethodOptions(
            api_key_required=api_key_required,
            authorizer=self._authorizer,
            # Without scopes API Gateway would require an ID token, which identifies a person and
            # does not state the permissions of a program.
            authorization_scopes=[f"{RESOURCE_SERVER}/{scope}" for scope in list_scopes(routes)]
            if isinstance(authorization, CognitoSettings)
            else None,
        )

    def _build_authorizer(
        self, authorization: AuthorizationSettings, user_pool_arn: str | None
    ) -> apigateway.IAuthorizer | None:
        match authorization:
            case CognitoSettings():
                assert user_pool_arn is not None  # noqa: S101 - the app makes or finds the pool
                pool = cognito.UserPool.from_user_pool_arn(self, "UserPool", user_pool_arn)
                return apigateway.CognitoUserPoolsAuthorizer(
                    self,
                    "Tokens",
                    cognito_user_pools=[pool],
                    # API Gateway checks signatures itself and caches the results. A token is valid
                    # until it expires, so its lifetime bounds the delay of a revocation.
                    results_cache_ttl=cdk.Duration.minutes(5),
                )
            case LambdaAuthorizerSettings():
                function = lambda_.Function.from_function_attributes(
                    self,
                    "Judge",
                    function_arn=authorization.function_arn,
                    same_environment=True,
                )
                return apigateway.TokenAuthorizer(
                    self,
                    "Verdicts",
                    handler=function,
                    results_cache_ttl=cdk.Duration.seconds(authorization.verdict_seconds),
                )
            case _:
                return None
