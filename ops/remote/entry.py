"""The program of a build: runs the requested command, and reports its exit code in the log."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ops.remote.request import END_MARK, ERROR_MARK, VARIABLE, decode_request

#: The file of the certificates in the package (infra/bundling.py).
_CERTIFICATES: Final = Path(__file__).resolve().parents[2] / "rds-ca-bundle.pem"
_CREDENTIALS_HOST: Final = "http://169.254.170.2"


def main() -> None:
    """Run the command, and exit with its code."""
    os.environ.setdefault("PGSSLROOTCERT", str(_CERTIFICATES))
    # The build has a relative address of its credentials; forebay.db.iam reads the full one.
    if path := os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{_CREDENTIALS_HOST}{path}"
    with tempfile.TemporaryDirectory() as folder:
        code = _run(decode_request(os.environ[VARIABLE], Path(folder)))
    _write(f"{END_MARK}{code}\n")
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """Run the command in a process of its own, so that its two outputs stay apart."""
    command = [sys.executable, "-m", "ops", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        for line in process.stderr:
            _write(f"{ERROR_MARK}{line}")
    return process.returncode


def _write(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
