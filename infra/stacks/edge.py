"""EdgeStack: CloudFront and its web ACL in front of the API. It is always in us-east-1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as certificates
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_route53_targets as targets
from constructs import Construct

from forebay.routes import Route
from infra.components.edge_function import build_edge_function
from infra.components.edge_secret import refer_to_edge_secret
from infra.components.findings import accept
from infra.components.web_acl import WebAcl
from infra.front import EDGE_REGION, DomainSettings, EdgeSettings
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack
from infra.stacks.service import ServiceStack

#: The cache key's headers, which an answer depends on besides its address. CloudFront answers
#: `If-None-Match` itself, and accepts ten headers at most. The edge's function sets the last one.
KEY_HEADERS: Final = (
    "Accept",
    "Authorization",
    "Prefer",
    "Range-Unit",
    "Read-After",
    "X-Api-Key",
    "X-Forebay-Range",
)

#: Errors that CloudFront would otherwise cache for ten seconds, whatever the API's headers are.
ERRORS: Final = (400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504)

_PRICE_CLASSES: Final = {
    "100": cloudfront.PriceClass.PRICE_CLASS_100,
    "200": cloudfront.PriceClass.PRICE_CLASS_200,
    "all": cloudfront.PriceClass.PRICE_CLASS_ALL,
}


class EdgeStack(EnvironmentStack):
    """One distribution with one behaviour, which keeps the API's paths."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        edge: EdgeSettings,
        service: ServiceStack,
        routes: Sequence[Route],
    ) -> None:
        super().__init__(scope, "edge", settings=settings, region=EDGE_REGION)
        self._edge = edge
        self._acl = WebAcl(
            self,
            "WebAcl",
            name=f"{settings.prefix}-edge",
            settings=edge,
            cors_allow_origin=settings.api.cors_allow_origin,
        )
        api_domain = f"{service.api.api.rest_api_id}.execute-api.{settings.region}.amazonaws.com"
        self._distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=settings.prefix,
            default_behavior=self._build_behavior(api_domain, routes),
            domain_names=[edge.domain.name] if edge.domain else None,
            certificate=self._find_certificate(edge.domain),
            # Without a custom domain the distribution uses AWS's certificate and AWS's TLS policy.
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021
            if edge.domain
            else None,
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            price_class=_PRICE_CLASSES[edge.price_class],
            web_acl_id=self._acl.arn,
            error_responses=[
                cloudfront.ErrorResponse(http_status=status, ttl=cdk.Duration.seconds(0))
                for status in ERRORS
            ],
        )
        self._add_record(edge.domain)
        self._accept_findings()
        self.add_output("DistributionDomainName", self._distribution.distribution_domain_name)

    def _build_behavior(
        self, api_domain: str, routes: Sequence[Route]
    ) -> cloudfront.BehaviorOptions:
        return cloudfront.BehaviorOptions(
            origin=origins.HttpOrigin(
                api_domain,
                protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY,
                origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2],
                # Above API Gateway's 29 s, so that its time-out comes first.
                read_timeout=cdk.Duration.seconds(30),
                custom_headers={
                    "Referer": refer_to_edge_secret(self.settings, self._edge.origin_secrets[-1])
                },
            ),
            allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL,
            cached_methods=cloudfront.CachedMethods.CACHE_GET_HEAD,
            viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
            cache_policy=self._add_cache_policy(),
            # The API accepts only its own host name, not the viewer's.
            origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
            response_headers_policy=self._add_response_headers(),
            function_associations=[
                cloudfront.FunctionAssociation(
                    function=self._add_function(routes),
                    event_type=cloudfront.FunctionEventType.VIEWER_REQUEST,
                )
            ],
        )

    def _add_cache_policy(self) -> cloudfront.CachePolicy:
        return cloudfront.CachePolicy(
            self,
            "CachePolicy",
            cache_policy_name=f"{self.settings.prefix}-api",
            # A value above zero would override the API's `no-store`.
            min_ttl=cdk.Duration.seconds(0),
            default_ttl=cdk.Duration.seconds(0),
            max_ttl=cdk.Duration.seconds(self._edge.cache_seconds),
            query_string_behavior=cloudfront.CacheQueryStringBehavior.all(),
            header_behavior=cloudfront.CacheHeaderBehavior.allow_list(*KEY_HEADERS),
            cookie_behavior=cloudfront.CacheCookieBehavior.none(),
            enable_accept_encoding_gzip=True,
            enable_accept_encoding_brotli=True,
        )

    def _add_response_headers(self) -> cloudfront.ResponseHeadersPolicy:
        return cloudfront.ResponseHeadersPolicy(
            self,
            "ResponseHeaders",
            response_headers_policy_name=f"{self.settings.prefix}-api",
            security_headers_behavior=cloudfront.ResponseSecurityHeadersBehavior(
                strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=cdk.Duration.days(365),
                    include_subdomains=True,
                    override=True,
                ),
                content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
                frame_options=cloudfront.ResponseHeadersFrameOptions(
                    frame_option=cloudfront.HeadersFrameOption.DENY, override=True
                ),
                referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                    referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True
                ),
                # The documentation's page sends its own policy.
                content_security_policy=cloudfront.ResponseHeadersContentSecurityPolicy(
                    content_security_policy="default-src 'none'; frame-ancestors 'none'",
                    override=False,
                ),
            ),
        )

    def _add_function(self, routes: Sequence[Route]) -> cloudfront.Function:
        edge_function = build_edge_function(
            routes,
            max_body_bytes=self._edge.max_body_bytes,
            cors_allow_origin=self.settings.api.cors_allow_origin,
        )
        return cloudfront.Function(
            self,
            "Function",
            function_name=f"{self.settings.prefix}-edge",
            runtime=cloudfront.FunctionRuntime.JS_2_0,
            code=cloudfront.FunctionCode.from_inline(edge_function.code),
            key_value_store=self._add_store(edge_function.table),
        )

    def _add_store(self, table: Mapping[str, str]) -> cloudfront.KeyValueStore:
        """Add the table that the function reads.

        CloudFront imports a store's content only when it creates the store, so another table needs
        another store, and therefore another name.
        """
        content = json.dumps(
            {"data": [{"key": key, "value": value} for key, value in table.items()]}
        )
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return cloudfront.KeyValueStore(
            self,
            "Store",
            key_value_store_name=f"{self.settings.prefix}-edge-{digest}",
            source=cloudfront.ImportSource.from_inline(content),
        )

    def _find_certificate(self, domain: DomainSettings | None) -> certificates.ICertificate | None:
        if domain is None:
            return None
        return certificates.Certificate.from_certificate_arn(
            self, "Certificate", domain.certificate_arn
        )

    def _add_record(self, domain: DomainSettings | None) -> None:
        if domain is None or domain.hosted_zone_id is None:
            return
        zone = route53.HostedZone.from_hosted_zone_attributes(
            self,
            "Zone",
            hosted_zone_id=domain.hosted_zone_id,
            zone_name=domain.name.partition(".")[2],
        )
        target = route53.RecordTarget.from_alias(targets.CloudFrontTarget(self._distribution))
        route53.ARecord(self, "Record", zone=zone, record_name=domain.name, target=target)
        route53.AaaaRecord(self, "Record6", zone=zone, record_name=domain.name, target=target)

    def _accept_findings(self) -> None:
        accept(
            self._distribution,
            {
                "AwsSolutions-CFR1": "The API is not restricted to countries.",
                "AwsSolutions-CFR3": "The API's access log contains the requests that reach the "
                "API; the web ACL's log contains the blocked requests.",
                "AwsSolutions-CFR4": "AWS chooses the TLS version unless the distribution has a "
                "custom domain; with `edge.domain` it is 1.2 or newer.",
            },
        )
