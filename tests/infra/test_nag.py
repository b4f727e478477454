"""AWS's own checks (cdk-nag) on the environments that are deployed to AWS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from cdk_nag import AwsSolutionsChecks

from infra.app import build_app
from tests.infra.variants import settings_of


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dev", {}),
        ("staging", {}),
        ("prod", {}),
        ("prod", {"operations.runner": True}),
        ("prod", {"encryption.key": "own", "operations.runner": True}),
        ("prod", {"read_cache.node_type": "t4g.small"}),
        ("prod", {"read_cache.node_type": "r7g.large", "read_cache.replicas": 1}),
    ],
)
def test_every_finding_of_the_checks_is_mended_or_has_its_reason(
    flags: Mapping[str, Any], package: Path, name: str, changes: Mapping[str, Any]
) -> None:
    """A finding without a suppression and its reason makes the synthesis fail."""
    app = cdk.App(context=dict(flags))
    build_app(settings_of(name, changes), app=app, packages=lambda _: package)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))

    app.synth()
