"""The edge's web ACL: rate limits, and protection against common attacks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from forebay.problem import CATALOGUE, TYPE_PREFIX
from infra.front import EdgeSettings

#: Rules of AWS's common set that only count, because legitimate requests of this API match them.
#: AWS: "Baseline rule groups".
COUNTED: Final[Mapping[str, str]] = {
    "SizeRestrictions_BODY": "it blocks bodies above 8 KB; a command may have 1,000 KiB",
    "SizeRestrictions_QUERYSTRING": "it blocks queries above 2,048 bytes; filters may be longer",
    "NoUserAgent_HEADER": "programs that call an API needn't have one",
    "CrossSiteScripting_BODY": "text may hold markup; it is stored and answered as JSON, nosniff",
    "GenericRFI_BODY": "text may hold addresses",
    "GenericRFI_QUERYARGUMENTS": "so may filters",
}
#: The label that AWS's common set adds to a body above 8 KB if its rule only counts.
_LARGE_BODY: Final = "awswaf:managed:aws:core-rule-set:SizeRestrictions_Body"
_TOO_MANY: Final = "too-many"


class WebAcl(Construct):
    """An ACL for CloudFront, which must be created in us-east-1."""

    def __init__(
        self, scope: Construct, construct_id: str, *, name: str, settings: EdgeSettings
    ) -> None:
        super().__init__(scope, construct_id)
        rules = [
            self._limit_per_address(settings),
            self._limit_per_signature(settings),
            _build_managed_rule("AWSManagedRulesAmazonIpReputationList"),
            _build_managed_rule("AWSManagedRulesKnownBadInputsRuleSet"),
            _build_managed_rule("AWSManagedRulesCommonRuleSet", count_only=COUNTED),
            _block_large_bodies_of_reads(),
        ]
        acl = wafv2.CfnWebACL(
            self,
            "Acl",
            name=name,
            scope="CLOUDFRONT",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_build_visibility(name),
            custom_response_bodies={
                _TOO_MANY: wafv2.CfnWebACL.CustomResponseBodyProperty(
                    content=_encode_problem("throttled"), content_type="APPLICATION_JSON"
                )
            },
            rules=[
                wafv2.CfnWebACL.RuleProperty(priority=number, **rule)
                for number, rule in enumerate(rules)
            ],
        )
        self.arn = acl.attr_arn
        self._log(acl, name)

    def _limit_per_address(self, settings: EdgeSettings) -> dict[str, Any]:
        return _build_rate_rule(
            "per-address",
            wafv2.CfnWebACL.RateBasedStatementProperty(
                aggregate_key_type="IP",
                limit=settings.requests_per_address,
                evaluation_window_sec=settings.window_seconds,
            ),
        )

    def _limit_per_signature(self, settings: EdgeSettings) -> dict[str, Any]:
        """Limit repeated requests by one kind of client, over all its addresses.

        JA4 is a fingerprint of a client's TLS handshake: the same for all copies of a program,
        whatever User-Agent they send.
        """
        transformations = [
            wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE"),
        ]
        key = wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty
        return _build_rate_rule(
            "per-signature",
            wafv2.CfnWebACL.RateBasedStatementProperty(
                aggregate_key_type="CUSTOM_KEYS",
                limit=settings.requests_per_signature,
                evaluation_window_sec=settings.window_seconds,
                custom_keys=[
                    key(
                        ja4_fingerprint=wafv2.CfnWebACL.RateLimitJA4FingerprintProperty(
                            fallback_behavior="NO_MATCH"
                        )
                    ),
                    key(http_method={}),
                    key(
                        uri_path=wafv2.CfnWebACL.RateLimitUriPathProperty(
                            text_transformations=transformations
                        )
                    ),
                    key(
                        query_string=wafv2.CfnWebACL.RateLimitQueryStringProperty(
                            text_transformations=transformations
                        )
                    ),
                ],
            ),
        )

    def _log(self, acl: wafv2.CfnWebACL, name: str) -> None:
        """Log blocked requests only, without the headers that contain credentials."""
        group = logs.LogGroup(
            self,
            "Log",
            # WAF requires this prefix.
            log_group_name=f"aws-waf-logs-{name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        wafv2.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            log_destination_configs=[
                cdk.Stack.of(self).format_arn(
                    service="logs",
                    resource="log-group",
                    resource_name=group.log_group_name,
                    arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                )
            ],
            redacted_fields=[
                {"singleHeader": {"Name": header}} for header in ("authorization", "x-api-key")
            ],
            logging_filter={
                "DefaultBehavior": "DROP",
                "Filters": [
                    {
                        "Behavior": "KEEP",
                        "Requirement": "MEETS_ANY",
                        "Conditions": [{"ActionCondition": {"Action": "BLOCK"}}],
                    }
                ],
            },
        ).node.add_dependency(group)


def _build_rate_rule(name: str, rate: wafv2.CfnWebACL.RateBasedStatementProperty) -> dict[str, Any]:
    return {
        "name": name,
        "statement": wafv2.CfnWebACL.StatementProperty(rate_based_statement=rate),
        "action": wafv2.CfnWebACL.RuleActionProperty(
            block=wafv2.CfnWebACL.BlockActionProperty(
                custom_response=wafv2.CfnWebACL.CustomResponseProperty(
                    response_code=429,
                    custom_response_body_key=_TOO_MANY,
                    response_headers=[
                        wafv2.CfnWebACL.CustomHTTPHeaderProperty(
                            name="Retry-After", value=str(rate.evaluation_window_sec)
                        )
                    ],
                )
            )
        ),
        "visibility_config": _build_visibility(name),
    }


def _build_managed_rule(name: str, *, count_only: Iterable[str] = ()) -> dict[str, Any]:
    count = wafv2.CfnWebACL.RuleActionProperty(count={})
    return {
        "name": name,
        "statement": wafv2.CfnWebACL.StatementProperty(
            managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS",
                name=name,
                rule_action_overrides=[
                    wafv2.CfnWebACL.RuleActionOverrideProperty(name=rule, action_to_use=count)
                    for rule in count_only
                ],
            )
        ),
        "override_action": wafv2.CfnWebACL.OverrideActionProperty(none={}),
        "visibility_config": _build_visibility(name),
    }


def _block_large_bodies_of_reads() -> dict[str, Any]:
    """Block bodies above 8 KB unless they belong to a write, which the edge function limits."""
    statement = wafv2.CfnWebACL.StatementProperty
    is_write = statement(
        regex_match_statement=wafv2.CfnWebACL.RegexMatchStatementProperty(
            field_to_match=wafv2.CfnWebACL.FieldToMatchProperty(method={}),
            regex_string="^(POST|PUT|PATCH)$",
            text_transformations=[
                wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE")
            ],
        )
    )
    is_large = statement(
        label_match_statement=wafv2.CfnWebACL.LabelMatchStatementProperty(
            scope="LABEL", key=_LARGE_BODY
        )
    )
    conditions = [
        is_large,
        statement(not_statement=wafv2.CfnWebACL.NotStatementProperty(statement=is_write)),
    ]
    return {
        "name": "large-bodies-of-reads",
        "statement": statement(
            and_statement=wafv2.CfnWebACL.AndStatementProperty(statements=conditions)
        ),
        "action": wafv2.CfnWebACL.RuleActionProperty(block={}),
        "visibility_config": _build_visibility("large-bodies-of-reads"),
    }


def _build_visibility(metric: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=metric, sampled_requests_enabled=True
    )


def _encode_problem(code: str) -> str:
    status, title = CATALOGUE[code]
    return json.dumps(
        {
            "type": TYPE_PREFIX + code,
            "title": title,
            "status": status,
            "detail": "Reduce the request rate, then try again.",
            "code": code,
        }
    )
