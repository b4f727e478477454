"""The base class of all stacks of an environment."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra.front import EDGE_REGION
from infra.settings import EMULATOR_ASSETS_BUCKET, Settings


class EnvironmentStack(cdk.Stack):
    """A stack named after its environment, in the environment's account and region."""

    def __init__(
        self,
        scope: Construct,
        role: str,
        *,
        settings: Settings,
        protected: bool = False,
        region: str | None = None,
    ) -> None:
        super().__init__(
            scope,
            f"{settings.prefix}-{role}",
            env=cdk.Environment(account=settings.account, region=region or settings.region),
            # Only the edge may be in another region, and only then references cross regions.
            cross_region_references=settings.edge is not None
            and settings.region != EDGE_REGION
            and role in {"edge", "service"},
            tags={"project": "forebay", "environment": settings.name},
            synthesizer=_choose_synthesizer(settings),
            termination_protection=protected and not settings.emulated,
        )
        self.settings = settings

    def add_output(self, name: str, value: str) -> None:
        """Export a value for operators and tools after the deployment."""
        cdk.CfnOutput(self, name, value=value)


def _choose_synthesizer(settings: Settings) -> cdk.StackSynthesizer:
    """How files reach the account: on AWS through the resources of `cdk bootstrap`."""
    if settings.emulated:
        return cdk.CliCredentialsStackSynthesizer(file_assets_bucket_name=EMULATOR_ASSETS_BUCKET)
    return cdk.DefaultStackSynthesizer()
