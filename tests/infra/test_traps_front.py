"""The traps of this design on AWS in front of the functions, a test each.

For the other traps see test_traps.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from pydantic import ValidationError

import resources
from forebay.codec import MAX_LINE_BYTES
from forebay.routes import routes
from infra.app import build_app
from infra.settings import Settings
from tests.infra.definitions import get_definition, read_authorizers
from tests.infra.variants import JUDGE_ARN, api_template, methods, properties, settings_of


@pytest.fixture(scope="module")
def prod(flags: Mapping[str, Any], package: Path) -> Mapping[str, Template]:
    """The templates of the production environment, by stack."""
    app = cdk.App(context=dict(flags))
    build_app(Settings.load("prod", {}), app=app, packages=lambda _: package)
    return {
        child.stack_name.removeprefix("forebay-prod-"): Template.from_stack(child)
        for child in app.node.children
        if isinstance(child, cdk.Stack)
    }


def test_every_part_of_a_request_that_an_answer_depends_on_is_a_key(
    prod: Mapping[str, Template],
) -> None:
    """Trap: the stage cache ignores undeclared parts of a request, even parts of the path."""
    api_methods = methods(prod["service"])
    spelled = {"path": "path", "query": "querystring", "header": "header"}
    for route in routes(resources.load()):
        if route.cached:
            keys = api_methods[route.method, route.path]["Integration"]["CacheKeyParameters"]
            assert set(keys) >= {
                f"method.request.{spelled[one.location]}.{one.name}" for one in route.parameters
            }


def test_production_keeps_callers_apart_in_both_caches(prod: Mapping[str, Template]) -> None:
    """Trap: the header Authorization is not part of a cache key unless it is declared."""
    for (method, path), method_properties in methods(prod["service"]).items():
        keys = method_properties["Integration"].get("CacheKeyParameters")
        if keys is not None:
            assert "method.request.header.Authorization" in keys, (method, path)
    (policy,) = properties(prod["edge"], "AWS::CloudFront::CachePolicy")
    key = policy["CachePolicyConfig"]["ParametersInCacheKeyAndForwardedToOrigin"]
    assert "Authorization" in key["HeadersConfig"]["Headers"]


def test_clients_can_not_empty_the_cache(prod: Mapping[str, Template]) -> None:
    """Trap: if InvalidateCache is granted or not required, `max-age=0` bypasses the cache.

    That it is required is API Gateway's default, and CloudFormation has no property to change that.
    So the test checks that no policy grants the permission and that the edge drops the header.
    """
    for template in prod.values():
        assert "InvalidateCache" not in json.dumps(template.to_json())
    (function,) = properties(prod["edge"], "AWS::CloudFront::Function")
    assert 'delete headers["cache-control"]' in function["FunctionCode"]


def test_a_command_of_the_largest_size_gets_through_the_edge(prod: Mapping[str, Template]) -> None:
    """Trap: AWS's common rules block bodies above 8 KB, but a command may have 1,000 KiB."""
    (acl,) = properties(prod["edge"], "AWS::WAFv2::WebACL")
    (common,) = (one for one in acl["Rules"] if one["Name"] == "AWSManagedRulesCommonRuleSet")
    group = common["Statement"]["ManagedRuleGroupStatement"]
    counted = {
        one["Name"] for one in group["RuleActionOverrides"] if one["ActionToUse"] == {"Count": {}}
    }
    assert "SizeRestrictions_BODY" in counted
    edge = Settings.load("prod", {}).edge
    assert edge is not None
    assert edge.max_body_bytes > MAX_LINE_BYTES


def test_a_limit_of_the_body_that_no_command_fits_is_refused() -> None:
    """Trap: a setting that limits bodies may block commands too."""
    rates = {"requests_per_address": 10, "requests_per_signature": 10}
    with pytest.raises(ValidationError, match="max_body_bytes"):
        settings_of("dev", {"edge": {**rates, "max_body_bytes": 8_192}})


def test_a_token_lives_for_a_quarter_of_an_hour(flags: Mapping[str, Any], package: Path) -> None:
    """Trap: tokens are checked without Cognito, so a revoked token works until it expires."""
    app = cdk.App(context=dict(flags))
    authorization = {
        "kind": "cognito",
        "domain_prefix": "forebay-example",
        "machine_clients": {"loader": ["cities.write"]},
    }
    settings = settings_of("dev", {"api.authorization": authorization})
    build_app(settings, app=app, packages=lambda _: package)
    identity = app.node.find_child("forebay-dev-identity")
    assert isinstance(identity, cdk.Stack)
    (client,) = properties(Template.from_stack(identity), "AWS::Cognito::UserPoolClient")

    assert client["AccessTokenValidity"] == 15
    assert client["TokenValidityUnits"]["AccessToken"] == "minutes"


def test_how_long_an_authorizer_s_verdict_is_kept_is_a_setting(flags: Mapping[str, Any]) -> None:
    """Trap: API Gateway caches decisions of an authorizer for 300 s, also after a revocation."""
    authorization = {"kind": "lambda", "function_arn": JUDGE_ARN, "verdict_seconds": 0}
    template = api_template({"api.authorization": authorization}, flags)
    (authorizer,) = read_authorizers(get_definition(template.to_json()))

    assert authorizer["authorizerResultTtlInSeconds"] == 0


def test_undelivered_records_of_firehose_raise_an_alarm_after_15_minutes(
    prod: Mapping[str, Template],
) -> None:
    """Trap: data not delivered within 24 hours is lost, and no other alarm covers it."""
    stalled = [
        alarm
        for alarm in properties(prod["operations"], "AWS::CloudWatch::Alarm")
        if "DeliveryToS3.DataFreshness" in json.dumps(alarm)
    ]
    assert [alarm["Threshold"] for alarm in stalled] == [900]


def test_the_edge_extends_the_lifetime_of_the_stage_cache_by_seconds_only(
    prod: Mapping[str, Template],
) -> None:
    """Trap: the TTLs of two caches add up, and CloudFront's minimum overrides `no-store`."""
    (policy,) = properties(prod["edge"], "AWS::CloudFront::CachePolicy")

    assert policy["CachePolicyConfig"]["MinTTL"] == 0
    assert policy["CachePolicyConfig"]["MaxTTL"] <= 10


def test_no_body_is_taken_for_binary_so_that_preflights_work(prod: Mapping[str, Template]) -> None:
    """Trap: with `*/*` as a binary type, the mock behind OPTIONS answers 500."""
    (api,) = properties(prod["service"], "AWS::ApiGateway::RestApi")

    assert "BinaryMediaTypes" not in api
