"""The API's custom domain."""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as certificates
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_route53_targets as targets

from forebay.routes import API_PREFIX
from infra.front import DomainSettings


def add_domain(
    api: apigateway.SpecRestApi,
    settings: DomainSettings,
    *,
    stage: apigateway.Stage,
    endpoint: apigateway.EndpointType,
) -> None:
    """Serve the API under the domain, with the same paths as without it.

    The DNS record is created if the settings name its hosted zone.
    """
    domain = apigateway.DomainName(
        api,
        "Domain",
        domain_name=settings.name,
        certificate=certificates.Certificate.from_certificate_arn(
            api, "Certificate", settings.certificate_arn
        ),
        endpoint_type=endpoint,
        security_policy=apigateway.SecurityPolicy.TLS_1_2,
    )
    # The path keeps its `/v1`, which is the stage's name.
    domain.add_base_path_mapping(api, base_path=API_PREFIX.removeprefix("/"), stage=stage)
    if settings.hosted_zone_id is not None:
        zone = route53.HostedZone.from_hosted_zone_attributes(
            api,
            "Zone",
            hosted_zone_id=settings.hosted_zone_id,
            zone_name=settings.name.partition(".")[2],
        )
        route53.ARecord(
            api,
            "Record",
            zone=zone,
            record_name=settings.name,
            target=route53.RecordTarget.from_alias(targets.ApiGatewayDomain(domain)),
        )
