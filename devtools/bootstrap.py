"""Make .venv from the lock file, with only a Python: `python3 devtools/bootstrap.py`.

Runs on the machine's own Python, which may be too old for the rest of the code, so the syntax here
is plain. Later calls have no effect; `make` skips even those until the lock file changes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)
UV_VERSION = "0.13.8"

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
READY = VENV / ".ready"
OWN_UV = ROOT / ".build" / "uv"


def main() -> None:
    """Make a .venv that holds exactly the packages of the lock file, and a stamp for `make`."""
    python = find_python()
    environment = dict(os.environ, UV_PYTHON_DOWNLOADS="never", UV_PROJECT_ENVIRONMENT=str(VENV))
    # It may name another project's environment; uv would warn about it.
    environment.pop("VIRTUAL_ENV", None)
    print("installing the packages of uv.lock into .venv (again when uv.lock changes)", flush=True)  # noqa: T201
    command = [prepare_uv(python), "sync", "--frozen", "--quiet", "--python", python]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:  # noqa: S603
        _fail(
            "the packages of uv.lock could not be installed; the lines above contain the reason. "
            "If a certificate was not accepted: export UV_SYSTEM_CERTS=1 NODE_USE_SYSTEM_CA=1, "
            "and try again"
        )
    _install_forebay()
    READY.touch()


def _install_forebay() -> None:
    """Install the operators' command line among the other programs of .venv."""
    script = VENV / "bin" / "forebay"
    python = VENV / "bin" / "python"
    # Not `#!{python}`: kernels split that line at blanks, and limit its length. For Python, the
    # lines of sh are one text in quotes.
    start = f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''\n"
    path = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    script.write_text(f"{start}{path}from ops.cli import main\n\nmain()\n", encoding="utf-8")
    script.chmod(0o755)


def find_python() -> str:
    """Return this Python, or another on the PATH if this one is too old."""
    if sys.version_info >= MIN_PYTHON:
        return sys.executable
    for minor in range(14, MIN_PYTHON[1] - 1, -1):
        path = shutil.which("python3.%d" % minor)  # noqa: UP031 - see the module's docstring
        if path:
            return path
    _fail(
        "Python 3.11 or newer is required, but %s is %d.%d; install it, or name it: "  # noqa: UP031
        "make setup PYTHON=/path/to/python3.13" % (sys.executable, *sys.version_info[:2])
    )
    return ""


def prepare_uv(python: str) -> str:
    """Return the machine's uv if it can read the lock file, else a private uv, from a wheel."""
    installed = shutil.which("uv")
    if installed and _read_version(installed) >= _parse_numbers(UV_VERSION):
        return installed
    private = OWN_UV / "bin" / "uv"
    if private.exists() and _read_version(str(private)) == _parse_numbers(UV_VERSION):
        return str(private)
    shutil.rmtree(OWN_UV, ignore_errors=True)
    process = subprocess.run(  # noqa: S603
        [python, "-m", "venv", str(OWN_UV)], capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        _fail(
            f"{python} can't create virtual environments; install its venv module "
            "(on Debian and Ubuntu: apt install python3-venv), or install uv"
        )
    pip = [str(OWN_UV / "bin" / "python"), "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"]
    if subprocess.run(pip, check=False).returncode != 0:  # noqa: S603
        _fail(f"uv {UV_VERSION} could not be installed; the lines above contain the reason")
    return str(private)


def _read_version(uv: str) -> tuple[int, ...]:
    process = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return _parse_numbers(process.stdout) if process.returncode == 0 else ()


def _parse_numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(number) for number in match.group().split(".")) if match else ()


def _fail(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
