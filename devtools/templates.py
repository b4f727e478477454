"""Synthesise the CloudFormation templates of all environments with the CDK's CLI, and lint them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from devtools import node

#: The app names its environments after their files.
_ENVIRONMENTS = Path("infra") / "environments"
#: The supervisor passes such values to the one-machine stack.
_LOCAL_CONTEXT = {
    "database_url": "postgresql://forebay@127.0.0.1:5432/forebay",
    "replica_url": "postgresql://forebay@127.0.0.1:5433/forebay",
    "firehose_endpoint": "http://127.0.0.1:8082",
    "read_cache": "valkey://127.0.0.1:8085",
}
#: The CDK repeats dependencies as `DependsOn` that references already imply.
_IGNORED = ("W3005",)


def check_templates(root: Path) -> int:
    """Synthesise every environment into `cdk.out/<environment>`, then run cfn-lint.

    Sends no requests to AWS. cfn-lint is large and only needed here, so it has its own
    environment, which uv makes from the lock file.

    Returns:
        0 on success; else the exit code of the failed program.
    """
    env = node.build_environment(os.environ)
    names = sorted(file.stem for file in (root / _ENVIRONMENTS).glob("*.toml"))
    for name in names:
        sys.stderr.write(f"synthesising {name}\n")
        output = root / "cdk.out" / name
        context = _LOCAL_CONTEXT if name == "local" else {}
        options = [option for key, value in context.items() for option in ("-c", f"{key}={value}")]
        synth = ["synth", "--quiet", "-c", f"env={name}", *options, "--output", str(output)]
        exit_code = subprocess.call([*node.build_cdk_command(root), *synth], cwd=root, env=env)  # noqa: S603
        if exit_code:
            return exit_code
    templates = sorted(
        str(file) for name in names for file in (root / "cdk.out" / name).glob("*.template.json")
    )
    sys.stderr.write(f"checking {len(templates)} templates\n")
    return subprocess.call(_lint(templates), cwd=root, env=env)  # noqa: S603


def compare_changes(root: Path, name: str) -> int:
    """Compare the settings of an environment with its stacks on AWS; return the exit code."""
    env = node.build_environment(os.environ)
    return subprocess.call([sys.executable, "-m", "infra.changes", name], cwd=root, env=env)  # noqa: S603


def check_account(root: Path, name: str, *, as_json: bool, has_trial: bool) -> int:
    """Check an account before a deployment of an environment; return the exit code.

    Args:
        root: the checkout.
        name: of the environment.
        as_json: print a JSON array.
        has_trial: import the API's definition into an API that is deleted at once.
    """
    env = node.build_environment(os.environ)
    options = [*(["--json"] if as_json else []), *(["--trial"] if has_trial else [])]
    command = [sys.executable, "-m", "infra.preflight", name, *options]
    return subprocess.call(command, cwd=root, env=env)  # noqa: S603


def _lint(templates: Sequence[str]) -> list[str]:
    uv = [find_uv_bin(), "run", "--isolated", "--frozen", "--quiet", "--only-group", "templates"]
    return [*uv, "cfn-lint", "--ignore-checks", *_IGNORED, "--", *templates]
