"""Read an API's definition as API Gateway imports it: its methods and gateway responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ANY: Final = "x-amazon-apigateway-any-method"
_INTEGRATION: Final = "x-amazon-apigateway-integration"
_LOCATIONS: Final = {"path": "path", "query": "querystring", "header": "header"}
_KINDS: Final = {
    "cognito_user_pools": "COGNITO_USER_POOLS",
    "custom": "CUSTOM",
    "awsSigv4": "AWS_IAM",
}


def get_definition(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that a template contains."""
    (api,) = (
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::ApiGateway::RestApi"
    )
    definition: Mapping[str, Any] = api["Body"]
    return definition


def read_methods(definition: Mapping[str, Any]) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The methods that API Gateway makes, in CloudFormation's terms, by HTTP method and path."""
    schemes = definition.get("components", {}).get("securitySchemes", {})
    return {
        ("ANY" if name == ANY else name.upper(), path): _read_method(operation, schemes)
        for path, operations in definition["paths"].items()
        for name, operation in operations.items()
    }


def read_responses(definition: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The gateway responses by their types."""
    responses: Mapping[str, Mapping[str, Any]]
    responses = definition["x-amazon-apigateway-gateway-responses"]
    return responses


def read_authorizers(definition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The authorizers."""
    schemes = definition.get("components", {}).get("securitySchemes", {})
    key = "x-amazon-apigateway-authorizer"
    return [scheme[key] for scheme in schemes.values() if key in scheme]


def _read_method(
    operation: Mapping[str, Any], schemes: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    # The root's security is ignored, so each operation must have its own, even if it is empty.
    required = {name: scopes for item in operation["security"] for name, scopes in item.items()}
    method: dict[str, Any] = {"ApiKeyRequired": False, "AuthorizationType": "NONE"}
    for name, scopes in required.items():
        kind = schemes[name].get("x-amazon-apigateway-authtype")
        if kind is None:
            assert schemes[name] == {"type": "apiKey", "name": "x-api-key", "in": "header"}
            method["ApiKeyRequired"] = True
            continue
        method["AuthorizationType"] = _KINDS[kind]
        if scopes:
            method["AuthorizationScopes"] = scopes
    parameters = {
        f"method.request.{_LOCATIONS[one['in']]}.{one['name']}": one.get("required", False)
        for one in operation.get("parameters", [])
    }
    if parameters:
        method["RequestParameters"] = parameters
    method["Integration"] = _read_integration(operation[_INTEGRATION])
    return method


def _read_integration(integration: Mapping[str, Any]) -> Mapping[str, Any]:
    names = {
        "uri": "Uri",
        "cacheKeyParameters": "CacheKeyParameters",
        "cacheNamespace": "CacheNamespace",
        "timeoutInMillis": "TimeoutInMillis",
    }
    read: dict[str, Any] = {
        known: integration[name] for name, known in names.items() if name in integration
    }
    read["Type"] = integration["type"].upper()
    if "responses" in integration:
        read["IntegrationResponses"] = [
            {"StatusCode": one["statusCode"], "ResponseParameters": one["responseParameters"]}
            for one in integration["responses"].values()
        ]
    return read
