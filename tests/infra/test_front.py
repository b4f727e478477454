"""The API's callers, endpoints and domain names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from aws_cdk.assertions import Template
from pydantic import ValidationError

from forebay.routes import Route
from infra.components.authorization import scopes_of
from tests.fixtures.pages import text_of
from tests.infra.definitions import get_definition, read_authorizers
from tests.infra.variants import (
    ACCOUNT,
    JUDGE_ARN,
    api_template,
    methods,
    properties,
    settings_of,
    two_resources,
)

AUTHORIZATION = "method.request.header.Authorization"
COGNITO = {"kind": "cognito", "shares_cache": False}
TYPES = {
    "none": {"kind": "none"},
    "cognito": COGNITO,
    "iam": {"kind": "iam"},
    "lambda": {"kind": "lambda", "function_arn": JUDGE_ARN, "verdict_seconds": 60},
}
DOMAIN = {
    "name": "api.example.com",
    "certificate_arn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1",
    "hosted_zone_id": "Z1",
}


@pytest.fixture(scope="module")
def by_tokens(flags: Mapping[str, Any]) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    return methods(api_template({"api.authorization": COGNITO}, flags))


def expected_scopes(route: Route) -> list[str]:
    if route.path == "/commands":
        return ["forebay/commands.write"]
    if not route.resource:
        return ["forebay/status.read"]
    reads, writes = (f"forebay/{route.resource}.{access}" for access in ("read", "write"))
    if route.action == "status":
        return [reads, writes]
    return [reads] if route.method in {"GET", "HEAD"} or route.action == "query" else [writes]


def test_every_route_except_public_routes_requires_a_scope_of_its_resource(
    by_tokens: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    for route in two_resources():
        method = by_tokens[route.method, route.path]
        if route.public:
            assert method["AuthorizationType"] == "NONE"
            assert "AuthorizationScopes" not in method
        else:
            assert method["AuthorizationType"] == "COGNITO_USER_POOLS"
            assert method["AuthorizationScopes"] == expected_scopes(route)


def test_a_preflight_goes_without_credentials(
    by_tokens: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    preflights = [settings for (method, _), settings in by_tokens.items() if method == "OPTIONS"]

    assert preflights
    assert {settings["AuthorizationType"] for settings in preflights} == {"NONE"}
    assert not any(settings["ApiKeyRequired"] for settings in preflights)


def test_an_environment_may_let_pages_send_more_headers_and_compress_less(
    flags: Mapping[str, Any],
) -> None:
    changes = {"api.cors_allow_headers": ["Sentry-Trace", "X-Mine"], "api.compress_from_bytes": 0}
    template = api_template(changes, flags)
    (answer,) = methods(template)["OPTIONS", "/cities"]["Integration"]["IntegrationResponses"]
    allowed = answer["ResponseParameters"]["method.response.header.Access-Control-Allow-Headers"]
    assert {"Sentry-Trace", "X-Mine", "Read-After"} <= set(allowed[1:-1].split(","))
    assert properties(template, "AWS::ApiGateway::RestApi")[0]["MinimumCompressionSize"] == 0


@pytest.mark.parametrize("kind", ["iam", "lambda"])
def test_other_kinds_of_authorization_guard_the_same_routes(
    flags: Mapping[str, Any], kind: str
) -> None:
    template = api_template({"api.authorization": TYPES[kind]}, flags)
    api_methods = methods(template)
    expected = {"iam": "AWS_IAM", "lambda": "CUSTOM"}[kind]

    for route in two_resources():
        method = api_methods[route.method, route.path]
        assert method["AuthorizationType"] == ("NONE" if route.public else expected)
    authorizers = read_authorizers(get_definition(template.to_json()))
    assert [one["authorizerResultTtlInSeconds"] for one in authorizers] == (
        [60] if kind == "lambda" else []
    )


@pytest.mark.parametrize("kind", TYPES)
def test_no_method_of_a_path_is_open_unless_the_whole_path_is(
    flags: Mapping[str, Any], kind: str
) -> None:
    """The catch-all method of a path also calls a function, which answers HEAD like GET."""
    changes = {"api.authorization": TYPES[kind], "api.require_api_key": True}
    expected = {
        "none": "NONE",
        "cognito": "COGNITO_USER_POOLS",
        "iam": "AWS_IAM",
        "lambda": "CUSTOM",
    }
    by_path: dict[str, list[Route]] = {}
    for route in two_resources():
        by_path.setdefault(route.path, []).append(route)

    for (method, path), settings in methods(api_template(changes, flags)).items():
        if settings["Integration"]["Type"] == "MOCK":
            assert method == "OPTIONS"
            continue
        public = all(route.public for route in by_path[path])
        assert settings["ApiKeyRequired"] is not public, (method, path)
        assert settings["AuthorizationType"] == ("NONE" if public else expected[kind]), (
            method,
            path,
        )


def test_a_method_that_a_path_lacks_requires_a_scope_of_its_other_methods(
    by_tokens: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    for (method, path), settings in by_tokens.items():
        if method != "ANY":
            continue
        routes = [route for route in two_resources() if route.path == path and not route.public]
        scopes = {scope for route in routes for scope in expected_scopes(route)}
        assert set(settings.get("AuthorizationScopes", ())) == scopes
        assert len(settings.get("AuthorizationScopes", ())) == len(scopes)


def caching(template: Template) -> set[str]:
    (stage,) = properties(template, "AWS::ApiGateway::Stage")
    return {
        setting["ResourcePath"].replace("~1", "/").removeprefix("/")
        for setting in stage["MethodSettings"]
        if setting["CachingEnabled"]
    }


@pytest.mark.parametrize("kind", ["cognito", "lambda"])
def test_a_list_that_depends_on_the_caller_has_the_caller_in_its_cache_key(
    flags: Mapping[str, Any], kind: str
) -> None:
    api_methods = methods(api_template({"api.authorization": TYPES[kind]}, flags))
    seeing = [route for route in two_resources() if route.cached and route.names_others]

    assert {route.action for route in seeing} <= {"list"}
    for route in seeing:
        key = api_methods[route.method, route.path]["Integration"]["CacheKeyParameters"]
        assert AUTHORIZATION in key


@pytest.mark.parametrize("shares_cache", [False, True])
def test_answers_to_signed_requests_are_kept_for_all_or_not_at_all(
    flags: Mapping[str, Any], *, shares_cache: bool
) -> None:
    """A signature may be in the query, which is not in the cache key."""
    authorization = {"kind": "iam", "shares_cache": shares_cache}
    cached = caching(api_template({"api.authorization": authorization}, flags))

    assert cached == (
        {route.path for route in two_resources() if route.cached} if shares_cache else set()
    )


@pytest.mark.parametrize("shares_cache", [False, True])
def test_callers_share_cached_answers_only_if_the_settings_allow_it(
    flags: Mapping[str, Any], *, shares_cache: bool
) -> None:
    """The header Authorization is not part of a cache key by default."""
    authorization = {**COGNITO, "shares_cache": shares_cache}
    api_methods = methods(api_template({"api.authorization": authorization}, flags))

    for route in two_resources():
        method = api_methods[route.method, route.path]
        keys = method["Integration"].get("CacheKeyParameters", [])
        assert (AUTHORIZATION in keys) is (route.cached and not shares_cache)
        assert set(keys) <= set(method.get("RequestParameters", {}))


def test_a_private_api_is_reached_from_its_endpoints_only(flags: Mapping[str, Any]) -> None:
    template = api_template(
        {"api.endpoint": "private", "api.vpc_endpoint_ids": ["vpce-1", "vpce-2"]}, flags
    )
    (api,) = properties(template, "AWS::ApiGateway::RestApi")

    assert api["EndpointConfiguration"] == {
        "Types": ["PRIVATE"],
        "VpcEndpointIds": ["vpce-1", "vpce-2"],
    }
    allowed, denied = api["Policy"]["Statement"]
    assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
    assert denied["Condition"] == {"StringNotEquals": {"aws:SourceVpce": ["vpce-1", "vpce-2"]}}


def test_an_api_behind_an_edge_refuses_requests_that_bypass_it(flags: Mapping[str, Any]) -> None:
    template = api_template({}, flags, known_by=["secret"])
    (api,) = properties(template, "AWS::ApiGateway::RestApi")
    denied = [one for one in api["Policy"]["Statement"] if one["Effect"] == "Deny"]

    assert [one["Condition"] for one in denied] == [
        {"StringNotEquals": {"aws:Referer": ["secret"]}}
    ]
    assert denied[0]["Resource"] == "execute-api:/*"
    # An import without a policy would remove it.
    assert get_definition(template.to_json())["x-amazon-apigateway-policy"] == api["Policy"]


def test_a_policy_is_set_again_with_each_definition(flags: Mapping[str, Any]) -> None:
    """An import of a file removes the policy, which the file can't contain."""
    policies = [
        properties(api_template(changes, flags, known_by=["secret"]), "AWS::ApiGateway::RestApi")[
            0
        ]["Policy"]
        for changes in ({}, {}, {"api.definition_number": 2})
    ]

    assert policies[0] == policies[1] != policies[2]
    assert [len(policy["Statement"]) for policy in policies] == [2, 2, 2]


def test_with_iam_the_policy_of_the_api_only_denies(flags: Mapping[str, Any]) -> None:
    """In an account, an allow in either policy suffices, so the API's policy must not allow."""
    template = api_template({"api.authorization": {"kind": "iam"}}, flags, known_by=["secret"])
    (api,) = properties(template, "AWS::ApiGateway::RestApi")

    assert {one["Effect"] for one in api["Policy"]["Statement"]} == {"Deny"}


def test_an_api_without_restrictions_has_a_policy_that_replaces_a_former_one(
    flags: Mapping[str, Any],
) -> None:
    """CloudFormation keeps an API's policy if its template has none (aws/aws-cdk#21840)."""
    for authorization in ({"kind": "none"}, {"kind": "lambda", "function_arn": JUDGE_ARN}):
        template = api_template({"api.authorization": authorization}, flags)
        (api,) = properties(template, "AWS::ApiGateway::RestApi")
        (statement,) = api["Policy"]["Statement"]

        assert statement["Effect"] == "Allow"
        assert "Condition" not in statement
    (api,) = properties(
        api_template({"api.authorization": {"kind": "iam"}}, flags), "AWS::ApiGateway::RestApi"
    )
    (statement,) = api["Policy"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("endpoint", ["regional", "edge"])
def test_a_name_of_one_s_own_takes_the_place_of_aws_s(
    flags: Mapping[str, Any], endpoint: str
) -> None:
    template = api_template({"api.endpoint": endpoint, "api.domain": DOMAIN}, flags)
    (api,) = properties(template, "AWS::ApiGateway::RestApi")
    (domain,) = properties(template, "AWS::ApiGateway::DomainName")
    (mapping,) = properties(template, "AWS::ApiGateway::BasePathMapping")
    (record,) = properties(template, "AWS::Route53::RecordSet")

    assert api["DisableExecuteApiEndpoint"] is True
    assert domain["EndpointConfiguration"] == {"Types": [endpoint.upper()]}
    assert domain["SecurityPolicy"] == "TLS_1_2"
    assert mapping["BasePath"] == "v1"
    assert (record["Name"], record["HostedZoneId"]) == ("api.example.com.", "Z1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"api.endpoint": "private"}, "vpc_endpoint_ids"),
        ({"api.vpc_endpoint_ids": ["vpce-1"]}, "private"),
        ({"api.authorization": {"kind": "password"}}, "kind"),
        ({"api.authorization": {"kind": "iam", "function_arn": JUDGE_ARN}}, "function_arn"),
        ({"api.authorization": {"kind": "lambda"}}, "function_arn"),
        ({"api.authorization": {"kind": "iam", "principals": {"*": ["a.read"]}}}, "principals"),
        (
            {"api.authorization": {"kind": "iam", "principals": {
                f"arn:aws:iam::{ACCOUNT}:role/r": ["a.read"] * 400}}},
            "list roles instead",
        ),
        (
            {"api.authorization": {"kind": "cognito", "machine_clients": {"a": ["cities.read"]}}},
            "domain_prefix",
        ),
        ({"api.plan.burst": 10_000}, "must not exceed those of the stage"),
        ({"api.endpoint": "edge", "edge.requests_per_address": 10}, "requests_per_signature"),
        (
            {
                "api.endpoint": "edge",
                "edge": {"requests_per_address": 10, "requests_per_signature": 10},
            },
            "regional",
        ),
        (
            {
                "api.domain": DOMAIN,
                "edge": {"requests_per_address": 10, "requests_per_signature": 10},
            },
            "edge.domain",
        ),
        (
            {
                "api.authorization": {"kind": "iam"},
                "edge": {"requests_per_address": 10, "requests_per_signature": 10},
            },
            "a signature covers the host",
        ),
        (
            {"edge": {"requests_per_address": 29_999, "requests_per_signature": 30_000}},
            "edge.requests_per_address is 29999 in 300 seconds, but .* allows a client 30000",
        ),
        (
            {"edge": {"requests_per_address": 6_000, "requests_per_signature": 6_000,
                      "window_seconds": 60}, "api.plan.rate_per_second": 101},
            "allows a client 6060",
        ),
        (
            {"api.domain": {**DOMAIN, "certificate_arn": DOMAIN["certificate_arn"].replace(
                "us-east-1", "eu-west-1")}},
            "certificate in us-east-1",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_a_sentence(changes: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of("dev", changes)


def test_without_keys_no_plan_contradicts_the_limits_of_the_edge() -> None:
    limits = {"requests_per_address": 10, "requests_per_signature": 10}

    settings_of("dev", {"edge": limits, "api.require_api_key": False})


#: By scope, the beginning of its row in the documentation of authorizers.
_DOCUMENTED = {
    "cities.read": "| read `cities` |",
    "cities.write": "| write `cities`, and read the statuses of commands |",
    "status.read": "| read the status of the pipeline |",
    "commands.write": "| send operations on any resources; the scopes decide about each |",
}


def documented_methods(scope: str) -> list[str]:
    """The ends of ARNs in docs/security.md for a caller with this scope."""
    (line,) = (
        line
        for line in text_of("docs/security.md").splitlines()
        if line.startswith(_DOCUMENTED[scope])
    )
    return re.findall(r"`([A-Z]+/[^`]+)`", line)


@pytest.mark.parametrize("scope", _DOCUMENTED)
def test_authorizers_allow_exactly_the_methods_of_the_scope(scope: str) -> None:
    """A star in a policy matches any text, including slashes (IAM User Guide, "Resource")."""
    patterns = documented_methods(scope)
    assert patterns
    for route in two_resources():
        method_path = (
            f"{route.method}{route.path.format(key='7', id='01', version='1', file='a.js')}"
        )
        allows = any(fnmatchcase(method_path, pattern) for pattern in patterns)
        if not route.public:
            assert allows == (scope in scopes_of(route)), route.name
    assert not any(pattern in {"*", "GET/*"} for pattern in patterns)
