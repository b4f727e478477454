"""The base class of all stacks of an environment."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

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
        indented: bool = True,
    ) -> None:
        super().__init__(
            scope,
            f"{settings.prefix}-{role}",
            env=cdk.Environment(account=settings.account, region=region or settings.region),
            tags={"project": "forebay", "environment": settings.name},
            synthesizer=_choose_synthesizer(settings),
            termination_protection=protected and not settings.emulated,
            # Indentation counts for the size of a template.
            suppress_template_indentation=not indented,
        )
        self.settings = settings
        if not settings.emulated:
            # CloudFormation keeps what another stack imports, so a strong reference would prevent
            # settings from removing it: the importing stack is updated later
            # (docs/adr/0030-weak-references.md). The emulator has strong references only.
            cdk.CrossStackReferences.of(self).consume(cdk.ReferenceStrength.WEAK)

    def add_output(self, name: str, value: str) -> None:
        """Export a value for operators and tools after the deployment."""
        cdk.CfnOutput(self, name, value=value)


def _choose_synthesizer(settings: Settings) -> cdk.StackSynthesizer:
    """How files reach the account: on AWS through the resources of `cdk bootstrap`."""
    if settings.emulated:
        return cdk.CliCredentialsStackSynthesizer(file_assets_bucket_name=EMULATOR_ASSETS_BUCKET)
    return cdk.DefaultStackSynthesizer()
