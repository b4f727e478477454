"""The choice of Node.js and of the CDK CLI."""

import json
import subprocess
from pathlib import Path

import pytest

from devtools import node


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    lock = {"packages": {"node_modules/aws-cdk": {"version": "2.1"}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    return tmp_path


def install(checkout: Path, version: str) -> None:
    package = checkout / "node_modules" / "aws-cdk"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))


def test_a_missing_cli_is_installed(checkout: Path) -> None:
    assert node.needs_install(checkout)


def test_a_cli_of_another_version_is_replaced(checkout: Path) -> None:
    install(checkout, "2.0")
    assert node.needs_install(checkout)


def test_the_locked_cli_is_left_alone(checkout: Path) -> None:
    install(checkout, "2.1")
    assert not node.needs_install(checkout)


def test_the_first_node_on_the_path_is_the_projects_own(tmp_path: Path) -> None:
    foreign = tmp_path / "node"
    foreign.write_text("#!/bin/sh\necho v12.0.0\n")
    foreign.chmod(0o755)

    env = node.build_environment({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    process = subprocess.run(
        ["node", "--version"], env=env, capture_output=True, text=True, check=True
    )

    assert process.stdout.startswith("v24.")
