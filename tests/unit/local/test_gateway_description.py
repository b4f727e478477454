"""The AWS API's description of a stage, and the method that serves a request."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from local.gateway.deployed import CacheRule, Deployed, Parameter
from local.gateway.description import describe

ON = {"cachingEnabled": True, "cacheTtlInSeconds": 60, "requireAuthorizationForCacheControl": True}


def resource(path: str, *methods: str, **integration: Any) -> dict[str, Any]:
    """Build an item of GetResources; its id is its path."""
    return {
        "id": path,
        "path": path,
        "resourceMethods": {
            method: {
                "httpMethod": method,
                "authorizationType": "NONE",
                "methodIntegration": {"type": "AWS_PROXY", **integration},
            }
            for method in methods
        },
    }


def described(
    *resources: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    responses: Sequence[Mapping[str, Any]] = (),
) -> Deployed:
    stage = {"stageName": "v1", "deploymentId": "d1", "methodSettings": settings or {}}
    return describe("api", stage, resources, responses)


def rule(deployed: Deployed, path: str, method: str = "GET") -> CacheRule | None:
    match = deployed.find(method, path)
    assert match is not None
    return match.method.cache


API = described(
    resource("/"),
    resource("/items", "GET", "POST"),
    resource("/items/count", "GET"),
    resource("/items/{key}", "GET"),
    resource("/items/{key}/commands/{id}", "GET"),
    resource("/files/{name+}", "ANY"),
    resource("/files/{name}", "GET"),
    resource("/{rest+}", "DELETE"),
)


@pytest.mark.parametrize(
    ("method", "path", "resource_path", "values"),
    [
        ("GET", "/items", "/items", {}),
        ("GET", "/items/", "/items", {}),
        ("GET", "/items/count", "/items/count", {}),
        ("GET", "/items/5", "/items/{key}", {"key": "5"}),
        ("GET", "/items/a%2Fb", "/items/{key}", {"key": "a%2Fb"}),
        ("GET", "/items/5/commands/6", "/items/{key}/commands/{id}", {"key": "5", "id": "6"}),
        # `count` itself lacks this path, so its sibling with a parameter is tried.
        ("GET", "/items/count/commands/6", "/items/{key}/commands/{id}", {"key": "count"}),
        ("GET", "/files/a", "/files/{name}", {"name": "a"}),
        ("PUT", "/files/a", "/files/{name+}", {"name": "a"}),
        ("GET", "/files/a/b", "/files/{name+}", {"name": "a/b"}),
        # The resource exists, but lacks the method: the greedy resource serves it.
        ("DELETE", "/items", "/{rest+}", {"rest": "items"}),
        ("DELETE", "/files/a", "/files/{name+}", {"name": "a"}),
    ],
)
def test_the_most_specific_resource_serves_the_request(
    method: str, path: str, resource_path: str, values: dict[str, str]
) -> None:
    match = API.find(method, path)
    assert match is not None
    assert match.method.resource_path == resource_path
    assert values.items() <= match.path.items()


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/other"), ("PUT", "/items")])
def test_unknown_paths_and_methods_are_not_routed(method: str, path: str) -> None:
    assert API.find(method, path) is None


@pytest.mark.parametrize(
    "name",
    ["items/{key}/GET", "/items/{key}/GET", "~1items~1{key}/GET", "/~1items~1{key}/GET", "*/*"],
)
def test_a_method_setting_is_found_in_every_spelling(name: str) -> None:
    cache_rule = rule(described(resource("/items/{key}", "GET"), settings={name: ON}), "/items/5")
    assert cache_rule is not None
    assert cache_rule.ttl_seconds == 60


def test_the_more_specific_setting_wins() -> None:
    api = described(
        resource("/items", "GET"),
        resource("/docs", "GET"),
        settings={"*/*": ON, "items/GET": {**ON, "cachingEnabled": False}},
    )
    assert rule(api, "/items") is None
    assert rule(api, "/docs") is not None


@pytest.mark.parametrize("setting", [{}, {**ON, "cacheTtlInSeconds": 0}, {"cacheTtlInSeconds": 9}])
def test_without_caching_or_with_a_ttl_of_0_nothing_is_cached(setting: dict[str, Any]) -> None:
    assert rule(described(resource("/items", "GET"), settings={"*/*": setting}), "/items") is None


def test_only_get_is_cached() -> None:
    api = described(resource("/items", "POST", "GET"), settings={"*/*": ON})
    assert rule(api, "/items", "POST") is None
    assert rule(api, "/items") is not None


def test_the_key_is_made_of_exactly_the_cache_key_parameters() -> None:
    key = ["method.request.querystring.Limit", "method.request.header.X-View"]
    items = resource("/items", "GET", cacheKeyParameters=key, cacheNamespace="shared")
    cache_rule = rule(described(items, settings={"*/*": ON}), "/items")
    assert cache_rule is not None
    assert set(cache_rule.key) == {Parameter("querystring", "Limit"), Parameter("header", "x-view")}
    assert cache_rule.namespace == "shared"


def test_the_namespace_is_the_resource_by_default() -> None:
    cache_rule = rule(described(resource("/items", "GET"), settings={"*/*": ON}), "/items")
    assert cache_rule is not None
    assert cache_rule.namespace == "/items"


def test_a_method_with_a_key_that_cannot_be_made_is_not_cached() -> None:
    """Without that part two different requests would share an entry."""
    key = ["method.request.querystring.limit", "method.request.multivaluequerystring.tag"]
    items = resource("/items", "GET", cacheKeyParameters=key)
    assert rule(described(items, settings={"*/*": ON}), "/items") is None


@pytest.mark.parametrize(
    ("security", "names"),
    [
        ({}, []),
        ({"apiKeyRequired": True}, ["x-api-key"]),
        ({"authorizationType": "COGNITO_USER_POOLS"}, ["authorization"]),
        (
            {"authorizationType": "COGNITO_USER_POOLS", "apiKeyRequired": True},
            ["authorization", "x-api-key"],
        ),
        ({"authorizationType": "CUSTOM"}, None),
        ({"authorizationType": "AWS_IAM"}, None),
    ],
)
def test_callers_with_other_credentials_share_no_entry(
    security: dict[str, Any], names: list[str] | None
) -> None:
    items = resource("/items", "GET")
    items["resourceMethods"]["GET"] |= security

    found = rule(described(items, settings={"*/*": ON}), "/items")

    assert (found and [part.name for part in found.key]) == names


def test_only_customized_gateway_responses_count() -> None:
    api = described(
        responses=[
            {"responseType": "THROTTLED", "statusCode": "429", "defaultResponse": True},
            {
                "responseType": "DEFAULT_5XX",
                "defaultResponse": False,
                "responseParameters": {
                    "gatewayresponse.header.A": "'b'",
                    "gatewayresponse.header.C": "method.request.header.D",
                },
                "responseTemplates": {"application/json": "{}"},
            },
        ]
    )
    assert api.responses.keys() == {"DEFAULT_5XX"}
    assert api.responses["DEFAULT_5XX"].status is None
    assert api.responses["DEFAULT_5XX"].template == "{}"
    assert api.responses["DEFAULT_5XX"].headers == (("A", "b"),)
