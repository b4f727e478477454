"""Bytecode for the packages, made by a Python of the very version that will run it.

Lambda lets nobody write to /var/task, so whatever comes there as source only is compiled anew by
every cold start.
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

#: Where Lambda unpacks a package; tracebacks name it.
TASK_ROOT: Final = "/var/task"
#: Folders and modules of dependencies that no function imports. Their bytecode would only make
#: packages larger.
NEVER_IMPORTED: Final = (
    "alembic/testing",
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/auth_alpha",
    "aws_lambda_powertools/utilities/circuit_breaker",
    "aws_lambda_powertools/utilities/data_classes",
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/idempotency",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/parameters",
    "aws_lambda_powertools/utilities/parser",
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
#: All that decides about the bytecode besides the sources and the version of Python.
RECIPE: Final = " ".join((*_OPTIONS, "without", *NEVER_IMPORTED))
# Nothing of the user's: no site-packages, no variables (PYTHONPYCACHEPREFIX would lead elsewhere).
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
        """Puts bytecode beside the sources of a package.

        It is taken whatever the sources look like: zip files know times too coarsely for the usual
        comparison, and reading each source to compare hashes is what nobody needs of files that
        can't change (PEP 552, "unchecked hash-based pycs"). The files are compiled by one process
        in one order, for bytecode differs a little with what the process compiled before.

        Raises:
            SettingsError: a source can't be compiled; says which and why.
        """
        done = _run(
            *(self.python, *_ISOLATED, "-m", "compileall", "-q", "-i", "-", *_OPTIONS),
            listed="\n".join(_sources(package)),
            directory=package,
        )
        if done.returncode != 0:
            raise SettingsError(f"{self.python} can't compile the package: {_said(done)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCompiler:
    """There is no such Python on this machine, or none that can be used."""

    reason: str


@cache
def find_compiler(version: str) -> Compiler | NoCompiler:
    """The machine's Python of a version (`3.13`), as `uv python find` has it. Downloads nothing.

    Bytecode is of use to the minor version that made it, so no other is taken; nor is a release
    candidate, whose bytecode the release may not read.
    """
    found = _run(
        *(find_uv_bin(), "--color", "never", "python", "find"),
        *("--no-python-downloads", "--no-project"),
        f"cpython@{version}",
        # The shims of pyenv stand for the versions that this variable names, and fail for others.
        PYENV_VERSION=version,
    )
    if found.returncode != 0:
        return NoCompiler(reason=_said(found))
    python = found.stdout.strip()
    asked = _run(python, *_ISOLATED, "-c", _ABOUT)
    if asked.returncode != 0:
        return NoCompiler(reason=f"{python} doesn't run: {_said(asked)}")
    about = json.loads(asked.stdout)
    if about != [f"cpython-{version.replace('.', '')}", "final"]:
        return NoCompiler(reason=f"{python} is {' '.join(about)}")
    return Compiler(python=python)


def _sources(package: Path) -> Iterator[str]:
    """The sources that are worth compiling, below the package, in one order on every machine."""
    for name in sorted(file.relative_to(package).as_posix() for file in package.rglob("*.py")):
        if not any(name == f"{left}.py" or name.startswith(f"{left}/") for left in NEVER_IMPORTED):
            yield name


def _run(
    *command: str, listed: str = "", directory: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed arguments, and interpreters that uv has found
        command,
        input=listed,
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command gave as its reason, without the warnings of uv before it."""
    said = done.stderr.rpartition("error: ")[2] or done.stdout
    return " ".join(said.split())
