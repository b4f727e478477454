"""Has the declarations of a checkout compiled, for the packages of functions that start fast."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from forebay.errors import SettingsError

#: To a file: what declarations may print is theirs.
_PROGRAM: Final = (
    "import sys, resources; from forebay.resource import compiled; "
    "made = compiled.dump(resources.load()); open(sys.argv[1], 'wb').write(made)"
)


def compiled_resources(root: Path) -> bytes:
    """The checkout's resources as `forebay.resource.compiled` reads them.

    By a process of its own: this one may have imported them before they were changed.

    Raises:
        SettingsError: a declaration can't work; says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "compiled")
        done = subprocess.run(  # noqa: S603 - a program of our own
            [sys.executable, "-c", _PROGRAM, str(file)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"},
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise SettingsError(f"{root / 'resources'}: {told[-1] if told else 'no reason given'}")
        return file.read_bytes()
