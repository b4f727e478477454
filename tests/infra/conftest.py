"""Synthesises both environments once, with empty packages: what is tested here is the wiring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from tests.infra.templates import LOCAL_CONTEXT, ROOT, Synthesised


@pytest.fixture(scope="session")
def flags() -> Mapping[str, Any]:
    """The context with which the CLI runs the app."""
    context: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_bytes())["context"]
    return context


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for every function's package."""
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


@pytest.fixture(params=["local", "dev"])
def either(request: pytest.FixtureRequest) -> Synthesised:
    """Each environment in turn."""
    found: Synthesised = request.getfixturevalue(request.param)
    return found
