"""Compiles bytecode for the packages, with a Python of the runtime's exact version.

/var/task is read-only on Lambda, so each cold start compiles again every source without bytecode.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from forebay.errors import SettingsError

#: The folder of an unpacked package on Lambda; tracebacks contain it.
TASK_ROOT: Final = "/var/task"
#: Folders and modules of dependencies that no function imports. Their bytecode would only enlarge
#: packages.
NEVER_IMPORTED: Final = (
    "alembic/testing",
    "mako/testing",
    "pydantic/mypy",
    "pydantic/v1",
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/mysql",
    "sqlalchemy/dialects/oracle",
    "sqlalchemy/dialects/sqlite",
    "sqlalchemy/ext/associationproxy",
    "sqlalchemy/ext/asyncio",
    "sqlalchemy/ext/automap",
    "sqlalchemy/ext/declarative",
    "sqlalchemy/ext/hybrid",
    "sqlalchemy/ext/mutable",
    "sqlalchemy/orm",
    "sqlalchemy/testing",
)

_OPTIONS: Final = ("--invalidation-mode", "unchecked-hash", "-p", TASK_ROOT)
#: The inputs of the bytecode other than the sources and the version of Python.
RECIPE: Final = " ".join((*_OPTIONS, "without", *NEVER_IMPORTED))
# Ignore the user's site-packages and variables (PYTHONPYCACHEPREFIX would redirect the output).
_ISOLATED: Final = ("-I", "-S")
_ABOUT: Final = (
    "import json, sys; print(json.dumps([sys.implementation.cache_tag, "
    "sys.version_info.releaselevel]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A Python of the runtime's version."""

    python: str

    def compile(self, package: Path) -> None:
        """Write bytecode next to the sources of a package.

        Python loads it without a comparison with the sources (PEP 552, "unchecked hash-based
        pycs"). Zip files store times too coarsely for the usual comparison, and a comparison of
        hashes would read each source, although the files can't change. One process compiles the
        files in one order, because bytecode depends slightly on the files that the process compiled
        before.

        Raises:
            SettingsError: a source can't be compiled; the message names it and the reason.
        """
        process = _run(
            *(self.python, *_ISOLATED, "-m", "compileall", "-q", "-i", "-", *_OPTIONS),
            stdin="\n".join(_find_sources(package)),
            directory=package,
        )
        if process.returncode != 0:
            raise SettingsError(f"{self.python} can't compile the package: {_read_reason(process)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCompiler:
    """No usable Python of that version is on this machine."""

    reason: str


@cache
def find_compiler(version: str) -> Compiler | NoCompiler:
    """Find a Python of a version (`3.13`) with `uv python find`, without a download.

    Only the minor version that made bytecode can use it, so other versions are not accepted.
    Release candidates are not accepted either: the release may not read their bytecode.
    """
    search = _run(
        *(find_uv_bin(), "--color", "never", "python", "find"),
        *("--no-python-downloads", "--no-project"),
        f"cpython@{version}",
        # pyenv's shims run the versions that this variable names, and fail for others.
        PYENV_VERSION=version,
    )
    if search.returncode != 0:
        return NoCompiler(reason=_read_reason(search))
    python = search.stdout.strip()
    check = _run(python, *_ISOLATED, "-c", _ABOUT)
    if check.returncode != 0:
        return NoCompiler(reason=f"{python} can't be run: {_read_reason(check)}")
    build = json.loads(check.stdout)
    if build != [f"cpython-{version.replace('.', '')}", "final"]:
        return NoCompiler(reason=f"{python} is {' '.join(build)}")
    return Compiler(python=python)


def _find_sources(package: Path) -> Iterator[str]:
    """The sources worth compiling, relative to the package, in the same order on every machine."""
    for name in sorted(file.relative_to(package).as_posix() for file in package.rglob("*.py")):
        if not any(
            name == f"{prefix}.py" or name.startswith(f"{prefix}/") for prefix in NEVER_IMPORTED
        ):
            yield name


def _run(
    *command: str, stdin: str = "", directory: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed arguments, and interpreters that uv has found
        command,
        input=stdin,
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _read_reason(process: subprocess.CompletedProcess[str]) -> str:
    """The reason that a failed command printed, without uv's warnings before it."""
    text = process.stderr.rpartition("error: ")[2] or process.stdout
    return " ".join(text.split())
