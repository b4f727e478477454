"""Run alembic against a throw-away database with every migration, without a running stack."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools import declarations
from local.errors import DeclarationsError
from local.postgres.throwaway import make_throwaway_servers
from local.settings import ROOT
from migrations.chains import CHAINS, CORE, RESOURCES


def run_alembic(arguments: Sequence[str], *, core: bool = False) -> int:
    """Run an alembic command against a migrated throw-away database; return its exit code.

    `check` and `revision --autogenerate` compare the declarations with the database.

    Args:
        arguments: of alembic.
        core: act on the migrations of the pipeline's tables, not on those of the resources.

    Raises:
        LocalStackError: the throw-away database can't be started.
    """
    upgrades = [(chain, ["upgrade", "head"]) for chain in CHAINS]
    with make_throwaway_servers() as servers:
        servers.start_primary()
        env = {**os.environ, "FOREBAY_DATABASE_URL": servers.primary.url()}
        for chain, command in (*upgrades, (CORE if core else RESOURCES, arguments)):
            program = [sys.executable, "-m", "alembic", "-n", chain.section, *command]
            code = subprocess.call(program, cwd=ROOT, env=env)  # noqa: S603
            if code != 0:
                return code
    return 0


def write_migration(message: str, root: Path = ROOT) -> int:
    """Run `make migration`: write the missing migration, record the shapes, return the exit code.

    Raises:
        DeclarationsError: archived bodies would not fit; no file was written.
        LocalStackError: there is no database to compare with.
    """
    problems = declarations.find_problems(root)
    if problems:
        raise DeclarationsError("\n".join(problems))
    code = run_alembic(["revision", "--autogenerate", "-m", message])
    if code == 0:
        # Not earlier: the migration may drop what the record contains.
        declarations.record_shapes(root)
    return code
