"""AWS's own checks (cdk-nag) on the environments that are deployed to AWS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from cdk_nag import AwsSolutionsChecks

from infra.app import build_app
from infra.settings import Settings


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_every_finding_of_the_checks_is_mended_or_has_its_reason(
    flags: Mapping[str, Any], package: Path, name: str
) -> None:
    """A finding without a suppression and its reason makes the synthesis fail."""
    app = cdk.App(context=dict(flags))
    build_app(Settings.load(name, {}), app=app, packages=lambda _: package)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))

    app.synth()
