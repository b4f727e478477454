"""`make changes ENV=prod`: compare the settings with what is deployed, before a deployment."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
import boto3

from forebay.errors import ForebayError, SettingsError
from infra.app import build_app
from infra.changes.advice import describe
from infra.changes.deployed import list_names, read_deployed
from infra.changes.templates import Stack
from infra.changes.walk import Account
from infra.front import EDGE_REGION
from infra.on_aws import load_settings_on_aws
from infra.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

#: The CDK's CLI passes this file's context to the app.
CDK_FILE = Path(__file__).resolve().parents[2] / "cdk.json"
_NUMBERS = range(1, 10)


def synthesise(settings: Settings, flags: Mapping[str, object]) -> dict[str, Stack]:
    """The stacks of an environment, with empty packages: their content changes no resource."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package"
        package.mkdir()
        (package / "handler.py").touch()
        app = cdk.App(
            analytics_reporting=False,
            # Takes longer than the synthesis; `cdk deploy` validates the templates.
            builtin_cloud_formation_validation=False,
            outdir=str(Path(folder) / "assembly"),
            context=dict(flags),
        )
        build_app(settings, app=app, packages=lambda _: package)
        return read_assembly(app)


def read_assembly(app: cdk.App) -> dict[str, Stack]:
    """The stacks of an app, synthesised."""
    artifacts = app.synth().stacks
    names = {artifact.id: artifact.stack_name for artifact in artifacts}
    return {
        artifact.stack_name: Stack(
            artifact.stack_name,
            artifact.template,
            frozenset(names[part.id] for part in artifact.dependencies if part.id in names),
        )
        for artifact in artifacts
    }


def report(account: Account, app: Mapping[str, Stack]) -> tuple[list[str], bool]:
    """The lines of the report, and whether the app can be deployed."""
    if not account.stacks:
        return ["nothing is deployed: every change is possible"], True
    obstacles = account.deploy(app)
    lines = [describe(obstacle) for obstacle in obstacles]
    lines += [
        f"{name} is no longer part of the environment; after the deployment, delete it if nothing "
        "needs it: aws cloudformation delete-stack"
        for name in account.find_leftovers(app)
    ]
    return lines or ["the settings can be deployed"], not obstacles


def main(arguments: list[str]) -> int:
    """Compare, print the report, and return 1 if there are obstacles."""
    try:
        if len(arguments) != 1:
            raise SettingsError("name one environment, for example: make changes ENV=prod")
        settings = load_settings_on_aws(arguments[0])
        regions = {
            name: EDGE_REGION if name.endswith("-edge") else settings.region
            for name in list_names(settings.prefix, _NUMBERS)
        }
        flags = json.loads(CDK_FILE.read_bytes())["context"]
        deployed = Account(read_deployed(regions, _connect))
        lines, possible = report(deployed, synthesise(settings, flags))
    except ForebayError as error:
        sys.exit(f"forebay: {error}")
    print("\n".join(lines))  # noqa: T201 - the command's output
    return 0 if possible else 1


def _connect(region: str) -> CloudFormationClient:
    return boto3.client("cloudformation", region_name=region)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
