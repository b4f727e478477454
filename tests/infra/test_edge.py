"""CloudFront, its web ACL, and how the API recognises them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from cdk_nag import AwsSolutionsChecks

from infra.app import build_app
from tests.infra.variants import ACCOUNT, properties, settings_of, two_resources

EDGE = {
    "requests_per_address": 30_000,
    "requests_per_signature": 300_000,
    "cache_seconds": 5,
    "origin_secrets": ["1", "2"],
}
CHANGES = {"account": ACCOUNT, "region": "eu-central-1", "edge": EDGE}


@pytest.fixture(scope="module")
def stacks(flags: Mapping[str, Any], package: Path) -> Mapping[str, cdk.Stack]:
    """The stacks of an environment in another region than the edge, checked by cdk-nag."""
    app = cdk.App(context=dict(flags))
    authorization = {
        "kind": "cognito",
        "domain_prefix": "forebay-example",
        "callback_urls": ["https://example.com/back"],
        "machine_clients": {"loader": ["cities.write"]},
    }
    settings = settings_of("dev", {**CHANGES, "api.authorization": authorization})
    build_app(settings, app=app, served=two_resources(), packages=lambda _: package)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    children = [child for child in app.node.children if isinstance(child, cdk.Stack)]
    return {stack.stack_name: stack for stack in children}


@pytest.fixture(scope="module")
def edge(stacks: Mapping[str, cdk.Stack]) -> Template:
    return Template.from_stack(stacks["forebay-dev-edge"])


def distribution(template: Template) -> Mapping[str, Any]:
    (resource,) = properties(template, "AWS::CloudFront::Distribution")
    config: Mapping[str, Any] = resource["DistributionConfig"]
    return config


def test_the_edge_is_in_the_region_that_cloudfront_requires(
    stacks: Mapping[str, cdk.Stack],
) -> None:
    assert stacks["forebay-dev-edge"].region == "us-east-1"
    assert stacks["forebay-dev-service"].region == "eu-central-1"


def test_all_that_an_answer_depends_on_is_part_of_the_edge_s_key(edge: Template) -> None:
    """Each declared header is in the key, or CloudFront handles it itself."""
    (policy,) = properties(edge, "AWS::CloudFront::CachePolicy")
    key = policy["CachePolicyConfig"]["ParametersInCacheKeyAndForwardedToOrigin"]
    headers = {name.lower() for name in key["HeadersConfig"]["Headers"]}
    declared = {
        parameter.name.lower()
        for route in two_resources()
        if route.cached
        for parameter in route.parameters
        if parameter.location == "header"
    }

    assert key["QueryStringsConfig"] == {"QueryStringBehavior": "all"}
    # Answers to `Range` are not shared, see the edge's function.
    assert declared - headers == {"if-none-match", "range"}
    assert {"authorization", "x-api-key", "x-forebay-range"} <= headers
    assert len(headers) <= 10


def test_the_edge_keeps_nothing_that_the_api_forbids_to_keep(edge: Template) -> None:
    (policy,) = properties(edge, "AWS::CloudFront::CachePolicy")
    config = policy["CachePolicyConfig"]

    assert (config["MinTTL"], config["DefaultTTL"], config["MaxTTL"]) == (0, 0, 5)


def test_the_edge_keeps_no_errors(edge: Template) -> None:
    """CloudFront caches errors for ten seconds by default."""
    kept = {
        one["ErrorCode"]: one["ErrorCachingMinTTL"]
        for one in distribution(edge)["CustomErrorResponses"]
    }

    assert {400, 403, 404, 416, 500, 502, 503, 504} <= set(kept)
    assert set(kept.values()) == {0}


def test_the_edge_passes_on_all_but_the_viewer_s_host(edge: Template) -> None:
    behavior = distribution(edge)["DefaultCacheBehavior"]

    # AWS's policy AllViewerExceptHostHeader
    assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac"
    assert behavior["ViewerProtocolPolicy"] == "https-only"
    assert set(behavior["AllowedMethods"]) >= {
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    }
    assert [one["EventType"] for one in behavior["FunctionAssociations"]] == ["viewer-request"]


def test_answers_carry_security_headers(edge: Template) -> None:
    (policy,) = properties(edge, "AWS::CloudFront::ResponseHeadersPolicy")
    headers = policy["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]

    assert headers["StrictTransportSecurity"]["AccessControlMaxAgeSec"] == 31_536_000
    assert headers["ContentTypeOptions"] == {"Override": True}
    # The documentation page has its own policy; the default would leave the page empty.
    assert headers["ContentSecurityPolicy"]["Override"] is False


def rules(template: Template) -> Mapping[str, Mapping[str, Any]]:
    (acl,) = properties(template, "AWS::WAFv2::WebACL")
    assert acl["Scope"] == "CLOUDFRONT"
    return {rule["Name"]: rule for rule in acl["Rules"]}


def test_rates_are_bounded_per_address_and_per_signature(edge: Template) -> None:
    rules_by_name = rules(edge)
    address = rules_by_name["per-address"]["Statement"]["RateBasedStatement"]
    signature = rules_by_name["per-signature"]["Statement"]["RateBasedStatement"]

    assert (address["AggregateKeyType"], address["Limit"]) == ("IP", 30_000)
    assert signature["Limit"] == 300_000
    assert {key for one in signature["CustomKeys"] for key in one} == {
        *("JA4Fingerprint", "HTTPMethod", "UriPath", "QueryString"),
    }
    for name in ("per-address", "per-signature"):
        response = rules_by_name[name]["Action"]["Block"]["CustomResponse"]
        assert response["ResponseCode"] == 429
        assert "Retry-After" in {one["Name"] for one in response["ResponseHeaders"]}


def test_clients_with_one_tls_library_do_not_share_a_limit_of_writes(edge: Template) -> None:
    """All writes of a resource have one address, so only JA4 would separate the clients."""
    statement = rules(edge)["per-signature"]["Statement"]["RateBasedStatement"]

    scope_down = statement["ScopeDownStatement"]["NotStatement"]["Statement"]
    assert scope_down["RegexMatchStatement"]["RegexString"] == "^(POST|PUT|PATCH)$"


def blocks(edge: Template) -> list[Mapping[str, Any]]:
    """Each `Block` of the web ACL, of rules and of the overrides of managed rules."""
    found = []
    for rule in rules(edge).values():
        group = rule["Statement"].get("ManagedRuleGroupStatement", {})
        actions = [one["ActionToUse"] for one in group.get("RuleActionOverrides", [])]
        found += [
            action["Block"] for action in (*actions, rule.get("Action", {})) if "Block" in action
        ]
    return found


def test_blocks_of_the_web_acl_are_problems_that_pages_can_read(
    edge: Template,
) -> None:
    """CloudFront's own answer is a page, and a browser hides it from the page that asked."""
    (acl,) = properties(edge, "AWS::WAFv2::WebACL")
    found = blocks(edge)

    assert len(found) > 10
    for block in found:
        response = block["CustomResponse"]
        body = acl["CustomResponseBodies"][response["CustomResponseBodyKey"]]
        problem = json.loads(body["Content"])
        assert body["ContentType"] == "APPLICATION_JSON"
        assert problem["status"] == response["ResponseCode"]
        assert problem["code"] in problem["type"]
        headers = {one["Name"]: one["Value"] for one in response["ResponseHeaders"]}
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "rule",
    [
        "GenericLFI_BODY",  # `../` in a text
        "EC2MetaDataSSRF_BODY",  # 169.254.169.254 in a text
        "RestrictedExtensions_URIPATH",  # the key `backup.log`
        "Log4JRCE_BODY",  # `${jndi:…}` in a text
        "CrossSiteScripting_QUERYARGUMENTS",  # a filter for `<b>`
        "ExploitablePaths_URIPATH",  # the key `web-inf`
    ],
)
def test_bodies_queries_and_keys_are_the_application_s_to_judge(edge: Template, rule: str) -> None:
    actions = {
        one["Name"]: one["ActionToUse"]
        for group in rules(edge).values()
        for one in group["Statement"]
        .get("ManagedRuleGroupStatement", {})
        .get("RuleActionOverrides", [])
    }

    assert actions[rule] == {"Count": {}}
    judged = ("_BODY", "_QUERYARGUMENTS", "_QUERYSTRING", "_URIPATH")
    blocked = [name for name, action in actions.items() if "Block" in action]
    assert blocked
    assert not [name for name in blocked if name.endswith(judged)]


def test_managed_rules_let_ordinary_writes_pass(edge: Template) -> None:
    """AWS's rules block bodies above 8 KB, but a command may have 1,000 KiB."""
    common = rules(edge)["AWSManagedRulesCommonRuleSet"]
    group = common["Statement"]["ManagedRuleGroupStatement"]
    counted = {one["Name"] for one in group["RuleActionOverrides"]}
    large = rules(edge)["large-bodies-of-reads"]

    assert {"SizeRestrictions_BODY", "SizeRestrictions_QUERYSTRING"} <= counted
    assert common["OverrideAction"] == {"None": {}}
    assert large["Priority"] > common["Priority"], "it needs the label that the other sets"
    assert "^(POST|PUT|PATCH)$" in json.dumps(large)


def test_the_distribution_has_the_acl(edge: Template) -> None:
    acl = next(iter(edge.find_resources("AWS::WAFv2::WebACL")))

    assert distribution(edge)["WebACLId"] == {"Fn::GetAtt": [acl, "Arn"]}


def test_the_api_recognises_the_edge_by_secrets_that_no_template_contains(
    stacks: Mapping[str, cdk.Stack], edge: Template
) -> None:
    """The edge sends the newest of the secrets that the API accepts."""
    (origin,) = distribution(edge)["Origins"]
    (sent,) = origin["OriginCustomHeaders"]
    service = Template.from_stack(stacks["forebay-dev-service"])
    secrets = properties(service, "AWS::SecretsManager::Secret")
    (api,) = properties(service, "AWS::ApiGateway::RestApi")
    known = json.dumps(api["Policy"])

    assert sent["HeaderName"] == "Referer"
    assert "resolve:secretsmanager" in json.dumps(sent["HeaderValue"])
    assert "forebay-dev/edge-origin/2" in json.dumps(sent["HeaderValue"])
    assert [one["Name"] for one in secrets] == [
        *("forebay-dev/edge-origin/1", "forebay-dev/edge-origin/2"),
    ]
    assert {one["ReplicaRegions"][0]["Region"] for one in secrets} == {"us-east-1"}
    assert known.count("resolve:secretsmanager") == 2


def test_a_user_pool_has_every_scope_and_clients_only_their_own(
    stacks: Mapping[str, cdk.Stack],
) -> None:
    identity = Template.from_stack(stacks["forebay-dev-identity"])
    (server,) = properties(identity, "AWS::Cognito::UserPoolResourceServer")
    clients = {
        one["ClientName"]: one for one in properties(identity, "AWS::Cognito::UserPoolClient")
    }
    loader, people = clients["forebay-dev-loader"], clients["forebay-dev-people"]

    assert [scope["ScopeName"] for scope in server["Scopes"]] == [
        *("status.read", "commands.write"),
        *("cities.read", "cities.write", "countries.read", "countries.write"),
    ]
    assert loader["AllowedOAuthFlows"] == ["client_credentials"]
    assert json.dumps(loader["AllowedOAuthScopes"]).count("cities.write") == 1
    assert "read" not in json.dumps(loader["AllowedOAuthScopes"])
    assert people["AllowedOAuthFlows"] == ["code"]
    assert people["GenerateSecret"] is False
    assert {one["AccessTokenValidity"] for one in clients.values()} == {15}
    (pool,) = properties(identity, "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert pool["DeletionProtection"] == "ACTIVE"


def test_a_body_without_a_length_has_the_same_limit_at_the_edge(
    stacks: Mapping[str, cdk.Stack],
) -> None:
    """The edge checks `Content-Length`; the write function measures the body that arrives."""
    service = Template.from_stack(stacks["forebay-dev-service"])
    (write,) = (
        resource
        for resource in properties(service, "AWS::Lambda::Function")
        if resource["Handler"] == "lambdas.write.handler.lambda_handler"
    )
    edge = settings_of("dev", CHANGES).edge

    assert edge is not None
    limit = write["Environment"]["Variables"]["FOREBAY_MAX_BODY_BYTES"]
    assert limit == str(edge.max_body_bytes)
