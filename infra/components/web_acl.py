"""The edge's web ACL: rate limits, and protection against common attacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from forebay.problem import CATALOGUE, TYPE_PREFIX
from infra.front import EdgeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedRules:
    """A group of AWS's rules: those that only count, and those that block with our answer.

    A rule that AWS adds later blocks with CloudFront's own answer.
    """

    name: str
    blocking: tuple[str, ...]
    #: Rules that legitimate requests of this API match. The application decides about bodies,
    #: queries and keys: it checks each against the declaration, takes none for a path, an address
    #: or code, and answers them as JSON only.
    counting: tuple[str, ...] = ()


#: AWS WAF developer guide, "Baseline rule groups" and "IP reputation rule groups".
MANAGED: Final = (
    ManagedRules(
        name="AWSManagedRulesAmazonIpReputationList",
        blocking=("AWSManagedIPReputationList", "AWSManagedReconnaissanceList"),
    ),
    ManagedRules(
        name="AWSManagedRulesKnownBadInputsRuleSet",
        blocking=(
            "Host_localhost_HEADER",
            "JavaDeserializationRCE_HEADER",
            "Log4JRCE_HEADER",
            "PROPFIND_METHOD",
        ),
        counting=(
            # Text may hold `${…}`, and no function runs Java or React.
            "JavaDeserializationRCE_BODY",
            "JavaDeserializationRCE_QUERYSTRING",
            "JavaDeserializationRCE_URIPATH",
            "Log4JRCE_BODY",
            "Log4JRCE_QUERYSTRING",
            "Log4JRCE_URIPATH",
            "ReactJSRCE_BODY",
            # A key may be a path's part such as `web-inf`.
            "ExploitablePaths_URIPATH",
        ),
    ),
    ManagedRules(
        name="AWSManagedRulesCommonRuleSet",
        blocking=(
            "CrossSiteScripting_COOKIE",
            "EC2MetaDataSSRF_COOKIE",
            "SizeRestrictions_Cookie_HEADER",
            "UserAgent_BadBots_HEADER",
        ),
        counting=(
            # Programs that call an API needn't have one.
            "NoUserAgent_HEADER",
            # 8 KB; a command may have 1,000 KiB.
            "SizeRestrictions_BODY",
            # 2,048 bytes; filters may be longer. API Gateway bounds query and path.
            "SizeRestrictions_QUERYSTRING",
            "SizeRestrictions_URIPATH",
            # Text may hold markup, addresses such as 169.254.169.254, and `../`.
            "CrossSiteScripting_BODY",
            "CrossSiteScripting_QUERYARGUMENTS",
            "CrossSiteScripting_URIPATH",
            "EC2MetaDataSSRF_BODY",
            "EC2MetaDataSSRF_QUERYARGUMENTS",
            "EC2MetaDataSSRF_URIPATH",
            "GenericLFI_BODY",
            "GenericLFI_QUERYARGUMENTS",
            "GenericLFI_URIPATH",
            "GenericRFI_BODY",
            "GenericRFI_QUERYARGUMENTS",
            "GenericRFI_URIPATH",
            # A key or a value may end in `.log` or `.ini`.
            "RestrictedExtensions_QUERYARGUMENTS",
            "RestrictedExtensions_URIPATH",
        ),
    ),
)
#: The label that AWS's common set adds to a body above 8 KB if its rule only counts.
_LARGE_BODY: Final = "awswaf:managed:aws:core-rule-set:SizeRestrictions_Body"
#: The methods of writes; the edge function limits their bodies.
_WRITES: Final = "^(POST|PUT|PATCH)$"

#: The details of the answers, by problem code.
_DETAILS: Final[Mapping[str, str]] = {
    "throttled": "Reduce the request rate, then try again.",
    "forbidden": "The edge refused the request: its address is known for attacks, or its method, "
    "host, cookies or headers are those of an attack.",
    "payload_too_large": "A request that reads may have a body of 8 KB.",
}


class WebAcl(Construct):
    """An ACL for CloudFront, which must be created in us-east-1."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        settings: EdgeSettings,
        cors_allow_origin: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._cors_allow_origin = cors_allow_origin
        rules = [
            self._limit_per_address(settings),
            self._limit_per_signature(settings),
            *(self._build_managed_rule(group) for group in MANAGED),
            self._block_large_bodies_of_reads(),
        ]
        acl = wafv2.CfnWebACL(
            self,
            "Acl",
            name=name,
            scope="CLOUDFRONT",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_build_visibility(name),
            custom_response_bodies={
                # WAF has no type for problems, and allows no header Content-Type of our own.
                code: wafv2.CfnWebACL.CustomResponseBodyProperty(
                    content=_encode_problem(code), content_type="APPLICATION_JSON"
                )
                for code in _DETAILS
            },
            rules=[
                wafv2.CfnWebACL.RuleProperty(priority=number, **rule)
                for number, rule in enumerate(rules)
            ],
        )
        self.arn = acl.attr_arn
        self._log(acl, name)

    def _limit_per_address(self, settings: EdgeSettings) -> dict[str, Any]:
        return self._build_rate_rule(
            "per-address",
            wafv2.CfnWebACL.RateBasedStatementProperty(
                aggregate_key_type="IP",
                limit=settings.requests_per_address,
                evaluation_window_sec=settings.window_seconds,
            ),
        )

    def _limit_per_signature(self, settings: EdgeSettings) -> dict[str, Any]:
        """Limit repeated reads by one kind of client, over all its addresses.

        JA4 is a fingerprint of a client's TLS handshake: the same for all copies of a program,
        whatever User-Agent they send. Writes are not counted: all of a resource have one address,
        so the clients that share a TLS library would use up one limit.
        """
        transformations = [
            wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE"),
        ]
        key = wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty
        return self._build_rate_rule(
            "per-signature",
            wafv2.CfnWebACL.RateBasedStatementProperty(
                scope_down_statement=_match_reads(),
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

    def _block(
        self, code: str, retry_after: int | None = None
    ) -> wafv2.CfnWebACL.BlockActionProperty:
        """Block with a problem as the answer, which pages of the allowed origin can read."""
        headers = {
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": self._cors_allow_origin,
        }
        if retry_after is not None:
            headers |= {
                "Retry-After": str(retry_after),
                "Access-Control-Expose-Headers": "Retry-After",
            }
        status, _ = CATALOGUE[code]
        return wafv2.CfnWebACL.BlockActionProperty(
            custom_response=wafv2.CfnWebACL.CustomResponseProperty(
                response_code=status,
                custom_response_body_key=code,
                response_headers=[
                    wafv2.CfnWebACL.CustomHTTPHeaderProperty(name=name, value=value)
                    for name, value in headers.items()
                ],
            )
        )

    def _build_rate_rule(
        self, name: str, rate: wafv2.CfnWebACL.RateBasedStatementProperty
    ) -> dict[str, Any]:
        return {
            "name": name,
            "statement": wafv2.CfnWebACL.StatementProperty(rate_based_statement=rate),
            "action": wafv2.CfnWebACL.RuleActionProperty(
                block=self._block("throttled", retry_after=int(rate.evaluation_window_sec or 0))
            ),
            "visibility_config": _build_visibility(name),
        }

    def _build_managed_rule(self, group: ManagedRules) -> dict[str, Any]:
        action = wafv2.CfnWebACL.RuleActionProperty
        actions = {
            **dict.fromkeys(group.blocking, action(block=self._block("forbidden"))),
            **dict.fromkeys(group.counting, action(count={})),
        }
        return {
            "name": group.name,
            "statement": wafv2.CfnWebACL.StatementProperty(
                managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                    vendor_name="AWS",
                    name=group.name,
                    rule_action_overrides=[
                        wafv2.CfnWebACL.RuleActionOverrideProperty(name=rule, action_to_use=use)
                        for rule, use in actions.items()
                    ],
                )
            ),
            "override_action": wafv2.CfnWebACL.OverrideActionProperty(none={}),
            "visibility_config": _build_visibility(group.name),
        }

    def _block_large_bodies_of_reads(self) -> dict[str, Any]:
        """Block bodies above 8 KB unless they belong to a write."""
        statement = wafv2.CfnWebACL.StatementProperty
        is_large = statement(
            label_match_statement=wafv2.CfnWebACL.LabelMatchStatementProperty(
                scope="LABEL", key=_LARGE_BODY
            )
        )
        return {
            "name": "large-bodies-of-reads",
            "statement": statement(
                and_statement=wafv2.CfnWebACL.AndStatementProperty(
                    statements=[is_large, _match_reads()]
                )
            ),
            "action": wafv2.CfnWebACL.RuleActionProperty(block=self._block("payload_too_large")),
            "visibility_config": _build_visibility("large-bodies-of-reads"),
        }


def _match_reads() -> wafv2.CfnWebACL.StatementProperty:
    """A statement for requests with a method that is none of a write."""
    statement = wafv2.CfnWebACL.StatementProperty
    is_write = statement(
        regex_match_statement=wafv2.CfnWebACL.RegexMatchStatementProperty(
            field_to_match=wafv2.CfnWebACL.FieldToMatchProperty(method={}),
            regex_string=_WRITES,
            text_transformations=[
                wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE")
            ],
        )
    )
    return statement(not_statement=wafv2.CfnWebACL.NotStatementProperty(statement=is_write))


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
            "detail": _DETAILS[code],
            "code": code,
        }
    )
