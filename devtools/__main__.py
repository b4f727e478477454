"""The developers' commands: `python -m devtools declarations | openapi | cdk | templates | …`.

Exit codes: 0 success; 1 failure, with the reason; 2 wrong usage. `cdk`, `templates`, `changes`,
`preflight`, `destroy` and `audit` return the exit code of the program that they run.
"""

# Each command imports its dependencies when it runs: `openapi` shouldn't wait for Hypothesis.
# ruff: noqa: PLC0415

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from devtools import node
from devtools.bootstrap import ROOT
from devtools.errors import ToolFailedError
from forebay.errors import DeclarationError

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = build_parser().parse_args(arguments)
    command: Command = options.do
    try:
        return command(options)
    except (ToolFailedError, DeclarationError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1


def _set_up(_options: argparse.Namespace) -> int:
    node.ensure(ROOT)
    return 0


def _run_cdk(options: argparse.Namespace) -> int:
    node.ensure(ROOT)
    command = [*node.build_cdk_command(ROOT), *options.arguments]
    return subprocess.call(command, cwd=ROOT, env=node.build_environment(os.environ))  # noqa: S603


def _check_templates(_options: argparse.Namespace) -> int:
    from devtools.templates import check_templates

    node.ensure(ROOT)
    return check_templates(ROOT)


def _compare_changes(options: argparse.Namespace) -> int:
    from devtools.templates import compare_changes

    node.ensure(ROOT)
    return compare_changes(ROOT, options.environment)


def _check_account(options: argparse.Namespace) -> int:
    from devtools.templates import check_account

    node.ensure(ROOT)
    return check_account(ROOT, options.environment, as_json=options.json, has_trial=options.trial)


def _destroy(options: argparse.Namespace) -> int:
    from devtools.destroy import destroy

    node.ensure(ROOT)
    return destroy(ROOT, options.environment, options.accept)


def _run_audit(_options: argparse.Namespace) -> int:
    from devtools.audit import audit

    return audit(ROOT)


def _check_declarations(_options: argparse.Namespace) -> int:
    from devtools.declarations import check

    return check(ROOT)


def _write_openapi(options: argparse.Namespace) -> int:
    from devtools.openapi import check, write

    return check(ROOT) if options.check else write(ROOT)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m devtools", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, do: Command, description: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=description, description=description
        )
        command.set_defaults(do=do)
        return command

    add("setup", _set_up, "install the npm packages")
    cdk = add("cdk", _run_cdk, "run the CDK CLI with the installed Node.js")
    cdk.add_argument("arguments", nargs=argparse.REMAINDER)
    add("templates", _check_templates, "synthesise every environment and check its templates")
    changes = add("changes", _compare_changes, "compare settings with what is deployed on AWS")
    changes.add_argument("environment")
    preflight = add("preflight", _check_account, "check an AWS account before a deployment")
    preflight.add_argument("environment")
    preflight.add_argument("--json", action="store_true", help="print a JSON array")
    preflight.add_argument(
        "--trial", action="store_true", help="import the API's definition, and delete the API"
    )
    destroying = add("destroy", _destroy, "delete the stacks of an environment on AWS")
    destroying.add_argument("environment")
    destroying.add_argument("--accept", metavar="NAME", help="the environment's name, again")
    add("audit", _run_audit, "check the locked packages for known vulnerabilities")
    openapi = add("openapi", _write_openapi, "write docs/openapi.json")
    openapi.add_argument("--check", action="store_true", help="only report if it is out of date")
    add("declarations", _check_declarations, "check the declarations against the recorded shapes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
