"""The REST API: its methods, its cache, and the gateway's own responses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from forebay.routes import Parameter, Route
from infra.components.gateway_responses import RESPONSES
from tests.infra.definitions import get_definition, read_methods, read_responses
from tests.infra.templates import Synthesised, readable

SPELLED = {"path": "path", "query": "querystring", "header": "header"}


def _methods(synthesised: Synthesised) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The methods that API Gateway makes, by HTTP method and path."""
    return read_methods(get_definition(synthesised.service))


def _spelled(parameter: Parameter) -> str:
    return f"method.request.{SPELLED[parameter.location]}.{parameter.name}"


def _setting(synthesised: Synthesised, method: str, path: str) -> Mapping[str, Any]:
    """The stage's settings that hold for a method: its own, or those of all methods."""
    stage = synthesised.only("service", "AWS::ApiGateway::Stage")
    settings = {
        (setting["HttpMethod"], setting["ResourcePath"]): setting
        for setting in stage["MethodSettings"]
    }
    assert len(settings) == len(stage["MethodSettings"])
    properties: Mapping[str, Any] = settings.get((method, path), settings["*", "/*"])
    return properties


def _routes(synthesised: Synthesised, *, cached: bool) -> Iterator[tuple[Route, Mapping[str, Any]]]:
    for route in synthesised.routes:
        if route.method == "GET" and route.cached is cached:
            # AWS: slashes after the first are written ~1, and the root path is a slash.
            path = "/" + route.path.replace("/", "~1").removesuffix("~1")
            yield route, _setting(synthesised, "GET", path)


def test_no_method_has_metrics_of_its_own(either: Synthesised) -> None:
    """AWS bills method metrics as custom metrics, several for each called method.

    See "Amazon API Gateway dimensions and metrics" in the API Gateway developer guide.
    """
    stage = either.only("service", "AWS::ApiGateway::Stage")

    assert {setting["MetricsEnabled"] for setting in stage["MethodSettings"]} == {False}


def test_api_gateway_s_own_log_ends_too(either: Synthesised) -> None:
    """At the first error API Gateway would create that log itself, without an expiry."""
    (log,) = (
        properties
        for properties in either.properties("service", "AWS::Logs::LogGroup")
        if "Execution-Logs" in readable(properties["LogGroupName"])
    )

    assert readable(log["LogGroupName"]).startswith("API-Gateway-Execution-Logs_<RestApi")
    assert readable(log["LogGroupName"]).endswith("/v1")
    assert log["RetentionInDays"] == either.settings.logs.retention_days


def test_the_api_answers_exactly_the_declared_routes(either: Synthesised) -> None:
    answered = {key for key in _methods(either) if key[0] not in {"OPTIONS", "ANY"}}

    assert answered == {(route.method, route.path) for route in either.routes}


def test_methods_that_a_path_does_not_have_are_refused_by_a_function(either: Synthesised) -> None:
    """Without it, API Gateway would answer as for an unknown path."""
    methods = _methods(either)
    for route in either.routes:
        method = methods["ANY", route.path]
        assert _called(method) == "about"


def test_reads_and_writes_go_to_their_functions(either: Synthesised) -> None:
    methods = _methods(either)
    for route in either.routes:
        assert _called(methods[route.method, route.path]) == route.function


def _called(method: Mapping[str, Any]) -> str:
    """The last part of the called function's name."""
    match = re.fullmatch(
        r"arn:.+:lambda:path/2015-03-31/functions/arn:.+:function:forebay-[a-z]+-([a-z]+)"
        r"/invocations",
        readable(method["Integration"]["Uri"]),
    )
    assert match is not None
    return match[1]


def test_every_declared_parameter_of_a_cached_route_is_a_cache_key(either: Synthesised) -> None:
    """The cache ignores other parameters: two different requests would share an answer."""
    methods = _methods(either)
    for route in either.routes:
        if route.cached:
            method = methods[route.method, route.path]
            keys = method["Integration"]["CacheKeyParameters"]
            assert keys == [_spelled(parameter) for parameter in route.parameters]
            assert list(method["RequestParameters"]) == keys


def test_routes_without_cache_have_no_cache_keys(either: Synthesised) -> None:
    methods = _methods(either)
    for route in either.routes:
        if not route.cached:
            assert "CacheKeyParameters" not in methods[route.method, route.path]["Integration"]


def test_cached_routes_have_the_lifetime_of_the_settings(either: Synthesised) -> None:
    cached = list(_routes(either, cached=True))

    assert cached
    for route, setting in cached:
        assert setting["CachingEnabled"] is True
        assert setting["CacheTtlInSeconds"] == either.settings.api.cache.ttl_of(route.name)
        assert setting["CacheDataEncrypted"] is True


def test_only_lists_and_items_are_cached(either: Synthesised) -> None:
    """The cache cluster caches every GET, unless its settings disable it."""
    uncached = list(_routes(either, cached=False))

    assert {route.action for route, _ in uncached} == {
        *("status", "download", "index", "openapi", "docs", "asset", "health"),
    }
    for _, setting in uncached:
        assert setting["CachingEnabled"] is False


def test_routes_that_are_not_named_are_not_cached(either: Synthesised) -> None:
    assert _setting(either, "*", "/*")["CachingEnabled"] is False


def test_the_stage_has_a_cache_of_the_chosen_size(either: Synthesised) -> None:
    stage = either.only("service", "AWS::ApiGateway::Stage")

    assert stage["StageName"] == "v1"
    assert stage["CacheClusterEnabled"] is True
    assert stage["CacheClusterSize"] == either.settings.api.cache.size_gigabytes


def test_throttling_holds_for_every_method(either: Synthesised) -> None:
    """A method with its own settings ignores the stage's settings."""
    api = either.settings.api
    for setting in either.only("service", "AWS::ApiGateway::Stage")["MethodSettings"]:
        assert setting["ThrottlingRateLimit"] == api.rate_per_second
        assert setting["ThrottlingBurstLimit"] == api.burst


def test_an_api_key_is_required_where_the_settings_require_it(either: Synthesised) -> None:
    public = {route.path for route in either.routes if route.public}
    for (method, path), properties in _methods(either).items():
        wanted = either.settings.api.require_api_key and method != "OPTIONS"
        assert properties["ApiKeyRequired"] is (wanted and path not in public)


def test_only_routes_about_the_api_need_no_key(dev: Synthesised) -> None:
    """A browser that opens a page can't send a key."""
    free = {
        path
        for (method, path), properties in _methods(dev).items()
        if method != "OPTIONS" and not properties["ApiKeyRequired"]
    }
    assert free == {"/", "/docs", "/docs/{version}/{file}", "/openapi.json"}


def test_a_plan_limits_the_use_of_a_key(either: Synthesised) -> None:
    plan = either.only("service", "AWS::ApiGateway::UsagePlan")
    limits = either.settings.api.plan

    assert plan["Throttle"] == {
        "RateLimit": limits.rate_per_second,
        "BurstLimit": limits.burst,
    }
    assert plan["Quota"] == {"Limit": limits.requests_per_month, "Period": "MONTH"}
    assert len(either.properties("service", "AWS::ApiGateway::UsagePlanKey")) == 1


def test_bodies_are_never_taken_for_binary(either: Synthesised) -> None:
    assert "BinaryMediaTypes" not in either.only("service", "AWS::ApiGateway::RestApi")


def test_the_access_log_is_json(either: Synthesised) -> None:
    access = either.only("service", "AWS::ApiGateway::Stage")["AccessLogSetting"]

    assert json.loads(access["Format"])["requestId"] == "$context.requestId"


@pytest.mark.parametrize("response_type", RESPONSES)
def test_gateway_responses_are_problems(either: Synthesised, response_type: str) -> None:
    response = _gateway_response(either, response_type)
    document = json.loads(response["responseTemplates"]["application/json"])
    headers = _headers(response)

    assert headers["Content-Type"] == "'application/problem+json'"
    assert headers["Access-Control-Allow-Origin"] == "'*'"
    assert str(document["status"]) == response["statusCode"]
    assert document["type"].endswith(document["code"])
    assert {"title", "detail", "instance"} <= set(document)
    # PostgREST's clients show these members.
    assert document["message"] == document["detail"]
    assert (document["details"], document["hint"]) == (None, None)


@pytest.mark.parametrize(
    "response_type",
    ["DEFAULT_5XX", "INTEGRATION_FAILURE", "API_CONFIGURATION_ERROR"],
)
def test_a_failed_function_is_a_reason_to_come_back(
    either: Synthesised, response_type: str
) -> None:
    response = _gateway_response(either, response_type)

    assert response["statusCode"] == "503"
    assert "Retry-After" in _headers(response)
    assert json.loads(response["responseTemplates"]["application/json"])["code"] == "unavailable"


def test_a_timeout_is_504(either: Synthesised) -> None:
    response = _gateway_response(either, "INTEGRATION_TIMEOUT")

    assert response["statusCode"] == "504"
    assert "Retry-After" in _headers(response)
    assert json.loads(response["responseTemplates"]["application/json"])["code"] == "timeout"


def test_the_gateway_loses_patience_with_a_read_before_postgres_cancels_it(
    either: Synthesised,
) -> None:
    """Otherwise the function fails first, with a 503 like any other failure."""
    variables = either.function("read")["Environment"]["Variables"]
    statement_seconds = float(variables["FOREBAY_STATEMENT_TIMEOUT_SECONDS"])
    methods = _methods(either)
    for route in either.routes:
        integration = methods[route.method, route.path]["Integration"]
        if route.action in {"list", "query", "item", "download"}:
            assert integration["TimeoutInMillis"] < statement_seconds * 1000
        else:
            assert "TimeoutInMillis" not in integration


@pytest.mark.parametrize(
    ("response_type", "status", "code"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", "404", "unknown_resource"),
        ("THROTTLED", "429", "throttled"),
        ("QUOTA_EXCEEDED", "429", "quota_exceeded"),
        ("INVALID_API_KEY", "403", "invalid_api_key"),
        ("REQUEST_TOO_LARGE", "413", "payload_too_large"),
    ],
)
def test_refusals_name_their_code(
    either: Synthesised, response_type: str, status: str, code: str
) -> None:
    response = _gateway_response(either, response_type)

    assert response["statusCode"] == status
    assert json.loads(response["responseTemplates"]["application/json"])["code"] == code
    assert ("Retry-After" in _headers(response)) == (status == "429")


def test_the_gateway_has_no_codes_of_its_own() -> None:
    used = {problem.code for problem in RESPONSES.values()}

    assert {"throttled", "quota_exceeded", "invalid_api_key", "unauthorized"} <= used


def test_browsers_may_send_preflight_requests(either: Synthesised) -> None:
    methods = _methods(either)
    for path in {route.path for route in either.routes}:
        preflight = methods["OPTIONS", path]
        assert preflight["ApiKeyRequired"] is False
        (answer,) = preflight["Integration"]["IntegrationResponses"]
        allowed = answer["ResponseParameters"][
            "method.response.header.Access-Control-Allow-Methods"
        ]
        declared = {route.method for route in either.routes if route.path == path}
        assert set(allowed.strip("'").split(",")) == declared


def test_pages_may_send_trace_headers_and_compressed_bodies(either: Synthesised) -> None:
    preflights = [
        properties for (method, _), properties in _methods(either).items() if method == "OPTIONS"
    ]
    name = "method.response.header.Access-Control-Allow-Headers"
    for preflight in preflights:
        (answer,) = preflight["Integration"]["IntegrationResponses"]
        allowed = {header.lower() for header in answer["ResponseParameters"][name][1:-1].split(",")}
        assert {"traceparent", "tracestate", "baggage", "content-encoding"} <= allowed


def test_answers_of_a_kibibyte_and_more_are_compressed(either: Synthesised) -> None:
    api = either.only("service", "AWS::ApiGateway::RestApi")
    assert api["MinimumCompressionSize"] == 1024


def _gateway_response(synthesised: Synthesised, response_type: str) -> Mapping[str, Any]:
    return read_responses(get_definition(synthesised.service))[response_type]


def _headers(response: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("gatewayresponse.header."): value
        for name, value in response["responseParameters"].items()
    }
