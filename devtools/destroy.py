"""`make destroy`: delete the stacks of an environment on AWS, after its name is typed."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from devtools import node
from devtools.errors import ToolFailedError

_KEPT = (
    "The API and its address, the values of its keys, and the functions are lost. The database, "
    "the archive, the table of records and the user pool are protected: AWS refuses to delete "
    "their stacks until the protection is removed (infra/README.md)."
)


def destroy(
    root: Path,
    name: str,
    accepted: str | None,
    *,
    ask: Callable[[], str] = sys.stdin.readline,
    run: Callable[[list[str]], int] | None = None,
) -> int:
    """Delete the stacks of an environment.

    Args:
        root: the checkout.
        name: the environment.
        accepted: the name, typed on the command line; None to read it from the terminal.
        ask: reads a line.
        run: runs a command and returns its exit code.

    Returns:
        The exit code of the CDK's CLI; 1 without the confirmation.

    Raises:
        ToolFailedError: there is no such environment on AWS.
    """
    _check_environment(root / "infra" / "environments", name)
    if accepted is None:
        sys.stdout.write(f"{_KEPT}\nType the environment's name to delete {name}: ")
        sys.stdout.flush()
        accepted = ask().strip()
    if accepted != name:
        sys.stderr.write(f"nothing is deleted: {accepted!r} is not {name!r}\n")
        return 1
    command = [*node.build_cdk_command(root), "destroy", "--all", "--force", "-c", f"env={name}"]
    if run is not None:
        return run(command)
    env = node.build_environment(os.environ)
    return subprocess.call(command, cwd=root, env=env)  # noqa: S603


def _check_environment(folder: Path, name: str) -> None:
    """Refuse a wrong name before the question, which would ask for the same wrong name."""
    files = {file.stem: file for file in sorted(folder.glob("*.toml"))}
    targets = {
        stem: tomllib.loads(file.read_text(encoding="utf-8-sig")).get("target")
        for stem, file in files.items()
    }
    if targets.get(name) == "emulator":
        raise ToolFailedError(f"{name} is not on AWS: `make reset` deletes its data")
    if name not in targets:
        known = ", ".join(stem for stem, target in targets.items() if target != "emulator")
        raise ToolFailedError(
            f"the environment {name!r} does not exist; choose one of: {known}. To delete stacks "
            "whose file is gone, restore the file first"
        )
