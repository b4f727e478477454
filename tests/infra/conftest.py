"""Synthesise each environment once, with empty packages: these tests are for the wiring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from tests.infra.templates import LOCAL_CONTEXT, ROOT, Synthesised
from tests.infra.variants import settings_of

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Run all of these tests in one process, so that each environment is synthesised once.

    The first synthesis of a process takes several times as long as a later one.
    """
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.xdist_group("infra"))


@pytest.fixture(scope="session")
def flags() -> Mapping[str, Any]:
    """The context with which the CDK CLI runs the app."""
    context: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_bytes())["context"]
    return context


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A placeholder for every function's package."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "handler.py").touch()
    return folder


@pytest.fixture(scope="session")
def local(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The environment of the one-machine stack."""
    return Synthesised.of(Settings.load("local", LOCAL_CONTEXT), flags, package)


@pytest.fixture(scope="session")
def dev(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The development environment on AWS."""
    return Synthesised.of(Settings.load("dev", {}), flags, package)


@pytest.fixture(scope="session")
def recording(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The development environment with idempotency records and attachments."""
    idempotency = {"retention_hours": 48, "when_unavailable": "accept"}
    changes = {"idempotency": idempotency, "attachments": {}}
    return Synthesised.of(settings_of("dev", changes), flags, package)


@pytest.fixture(scope="session")
def prod(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The production environment."""
    return Synthesised.of(Settings.load("prod", {}), flags, package)


@pytest.fixture(params=["local", "dev"])
def either(request: pytest.FixtureRequest) -> Synthesised:
    """Each of the two environments."""
    environment: Synthesised = request.getfixturevalue(request.param)
    return environment
