"""Run alembic against a throw-away database with every migration, without a running stack."""

import os
import subprocess
import sys
from collections.abc import Sequence

from local.postgres.throwaway import throwaway_servers
from local.settings import ROOT


def alembic(arguments: Sequence[str]) -> int:
    """Run an alembic command; return its exit code.

    `check` and `revision --autogenerate` compare the declared resources with a migrated database.

    Raises:
        LocalStackError: the throw-away database can't be started.
    """
    with throwaway_servers() as servers:
        servers.start_primary()
        env = {**os.environ, "FOREBAY_DATABASE_URL": servers.primary.url()}
        program = [sys.executable, "-m", "alembic"]
        for command in (["upgrade", "head"], list(arguments)):
            code = subprocess.call([*program, *command], cwd=ROOT, env=env)  # noqa: S603
            if code != 0:
                return code
    return 0
