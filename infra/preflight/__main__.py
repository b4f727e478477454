"""`make preflight ENV=prod`: find what would fail in the account, before a deployment.

Exit codes: 0 no check fails; 1 a check fails, or the settings are wrong; 2 a call was not
answered: no credentials, or a permission is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

import resources
from forebay.errors import ForebayError, SettingsError
from forebay.routes import drop_dotted, routes
from infra.changes.__main__ import CDK_FILE, synthesise
from infra.changes.deployed import list_names, read_deployed
from infra.changes.templates import Stack
from infra.front import EDGE_REGION
from infra.on_aws import load_other_settings, load_settings_on_aws
from infra.preflight.account import Account, Connect, CredentialsError
from infra.preflight.answers import collect
from infra.preflight.checks import run_checks
from infra.preflight.findings import (
    EXIT_UNKNOWN,
    Finding,
    State,
    choose_exit_code,
    format_json,
    format_lines,
)
from infra.preflight.plan import Plan
from infra.preflight.trial import try_definition
from infra.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

_NUMBERS = range(1, 10)
_CREDENTIALS_STEP = (
    "set AWS_PROFILE or log in (`aws sso login`); `aws sts get-caller-identity` must answer"
)


def main(arguments: list[str]) -> int:
    """Run the checks of an environment, print their findings, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make preflight", description=__doc__.split("\n")[0])
    parser.add_argument("environment")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.add_argument("--trial", action="store_true", help="import the API, and delete it")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings_on_aws(options.environment)
        findings = examine(settings, _build_connect(), has_trial=options.trial)
    except CredentialsError as error:
        sys.stderr.write(f"forebay: no credentials of an account: {error}; {_CREDENTIALS_STEP}\n")
        return EXIT_UNKNOWN
    except ForebayError as error:
        sys.exit(f"forebay: {error}")
    print(format_json(findings) if options.json else format_lines(findings))  # noqa: T201 - output
    return choose_exit_code(findings)


def examine(settings: Settings, connect: Connect, *, has_trial: bool = False) -> list[Finding]:
    """The findings of all checks.

    Args:
        settings: of the environment.
        connect: creates clients.
        has_trial: whether the API's definition is imported, which is no read.

    Raises:
        CredentialsError: there are no credentials, or AWS refuses them.
    """
    account = Account(connect)
    # Not in the environment's region, which may not exist: a check reports that.
    account_id = account.call("sts", EDGE_REGION, "get_caller_identity")["Account"]
    flags = json.loads(CDK_FILE.read_bytes())["context"]
    deployed, findings = _read_deployed(settings, connect)
    served = routes(resources.load())
    if not settings.api.dotted_parameters:
        served = drop_dotted(served)
    plan = Plan(
        settings=settings,
        account_id=account_id,
        stacks=synthesise(settings, flags),
        deployed=deployed,
        others=load_other_settings(settings),
        paths=sorted({route.path for route in served}),
    )
    findings += run_checks(plan, account)
    if has_trial:
        trial = try_definition(settings, served, account)
        findings += collect("definition", settings.prefix, trial)
    return findings


def _read_deployed(
    settings: Settings, connect: Connect
) -> tuple[Mapping[str, Stack], list[Finding]]:
    """The deployed stacks; without the permission, none and a finding."""
    plan = Plan(settings=settings, account_id="", stacks={}, deployed={})
    regions = {name: plan.find_region(name) for name in list_names(settings.prefix, _NUMBERS)}

    def connect_to(region: str) -> CloudFormationClient:
        client: CloudFormationClient = connect("cloudformation", region)
        return client

    try:
        return read_deployed(regions, connect_to), []
    except SettingsError as error:
        detail = f"not read, so that every resource counts as new: {error}"
        next_step = "allow cloudformation:GetTemplate and run the check again"
        return {}, [Finding(State.UNKNOWN, "deployed stacks", settings.prefix, detail, next_step)]


def _build_connect() -> Connect:
    """Return the function that creates clients with the machine's credentials.

    Raises:
        CredentialsError: the profile does not exist.
    """
    session = botocore.session.get_session()
    config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})

    def connect(service: str, region: str) -> Any:  # noqa: ANN401 - a client of any service
        try:
            return session.create_client(service, region_name=region, config=config)
        except BotoCoreError as exc:
            raise CredentialsError(str(exc)) from exc

    return connect


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
