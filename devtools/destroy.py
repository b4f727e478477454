"""`make destroy`: delete the stacks of an environment on AWS, after its name is typed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from devtools import node

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
    """
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
