"""Asks PyPI and npm whether what the lock files name has known holes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from local import node


def audit(root: Path) -> int:
    """Prints both reports.

    Returns:
        0 where neither found anything; else the exit code of the first that did, or that could
        not ask.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        export = ["export", "--frozen", "--quiet", "--all-groups", "--no-emit-project"]
        exported = _run([find_uv_bin(), *export, "--output-file", str(requirements)], root)
        # All that is installed is in the file, with its hash: nothing needs to be resolved.
        found = exported or _run(
            # Strict: a package that could not be asked about is a failure.
            [
                sys.executable,
                "-m",
                "pip_audit",
                "--strict",
                "--disable-pip",
                "-r",
                str(requirements),
            ],
            root,
        )
    return _run([*node.npm_command(), "audit"], root) or found


def _run(command: Sequence[str], root: Path) -> int:
    return subprocess.call(command, cwd=root, env=node.environment(os.environ))  # noqa: S603
