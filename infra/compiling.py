"""Compiles the declarations of a checkout, for the packages of functions that must start fast."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from forebay.errors import SettingsError

#: Writes to a file, because declarations may print to stdout. The checkout's modules are compiled
#: from their sources in each run, for two reasons. Python takes cached bytecode as current if the
#: source has the same size and was changed within the same second, as after a quick correction. And
#: a pickle depends on which equal strings are one object, which differs with cached bytecode.
_PROGRAM: Final = """
import sys
import pydantic
file, sys.pycache_prefix = sys.argv[1:]
import resources
from forebay.resource import compiled
made = compiled.dump(resources.load())
open(file, "wb").write(made)
"""


def compile_resources(root: Path) -> bytes:
    """Compile the checkout's resources for `forebay.resource.compiled`.

    A new process does it: this one may have imported an earlier state of the declarations.

    Raises:
        SettingsError: a declaration is invalid; the message names it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "compiled")
        process = subprocess.run(  # noqa: S603 - a program of our own
            [sys.executable, "-c", _PROGRAM, str(file), str(Path(folder, "bytecode"))],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"},
            capture_output=True,
            check=False,
        )
        if process.returncode != 0:
            lines = process.stderr.decode(errors="replace").strip().splitlines()
            raise SettingsError(
                f"{root / 'resources'}: {lines[-1] if lines else 'no reason given'}"
            )
        return file.read_bytes()
