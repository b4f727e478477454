"""The secrets by which the API recognises requests from the edge."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.components.findings import accept
from infra.front import EDGE_REGION
from infra.settings import Settings


def secret_name(settings: Settings, version: str) -> str:
    """The secret's name, the same in every region."""
    return f"{settings.prefix}/edge-origin/{version}"


def make_edge_secrets(scope: Construct, settings: Settings) -> Sequence[str]:
    """Create the secrets that the settings name, with copies that the edge can read.

    Returns:
        The values by which the API accepts requests, as references that CloudFormation resolves;
        empty if it accepts others too.
    """
    if settings.edge is None:
        return ()
    values = [_add_secret(scope, settings, version) for version in settings.edge.origin_secrets]
    return values if settings.edge.enforced else ()


def refer_to_edge_secret(settings: Settings, version: str) -> str:
    """The value in the edge's region, as a reference that CloudFormation resolves."""
    value = cdk.SecretValue.secrets_manager(secret_name(settings, version))
    # The value is meant for a header; the template contains a reference only.
    return value.unsafe_unwrap()


def _add_secret(scope: Construct, settings: Settings, version: str) -> str:
    needs_replica = settings.region != EDGE_REGION
    secret = secretsmanager.Secret(
        scope,
        f"EdgeSecret{version}",
        secret_name=secret_name(settings, version),
        description="Secret by which the API recognizes CloudFront",
        generate_secret_string=secretsmanager.SecretStringGenerator(
            password_length=48, exclude_punctuation=True
        ),
        replica_regions=[secretsmanager.ReplicaRegion(region=EDGE_REGION)]
        if needs_replica
        else None,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    accept(
        secret,
        {
            "AwsSolutions-SMG4": "API and edge read it at their deployment, so it is rotated by "
            "deploying a second secret, see docs/security.md.",
        },
    )
    return secret.secret_value.unsafe_unwrap()
