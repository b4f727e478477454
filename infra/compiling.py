"""Has the declarations of a checkout compiled, for the packages of functions that start fast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from forebay.errors import SettingsError

_PROGRAM: Final = (
    "import sys, resources; from forebay.resource import compiled; "
    "sys.stdout.buffer.write(compiled.dump(resources.load()))"
)


def compiled_resources(root: Path) -> bytes:
    """The checkout's resources as `forebay.resource.compiled` reads them.

    By a process of its own: this one may have imported them before they were changed.

    Raises:
        SettingsError: a declaration can't work; says which.
    """
    done = subprocess.run(  # noqa: S603 - a program of our own
        [sys.executable, "-c", _PROGRAM],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"},
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise SettingsError(f"{root / 'resources'}: {told[-1] if told else 'no reason given'}")
    return done.stdout
