"""The migration without Lambda: brings a database to the newest revision that this code has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

ROOT = Path(__file__).resolve().parents[2]

Done = Literal["migrated", "newer"]


def migrate(url: str) -> Done:
    """Runs `alembic upgrade head`, unless the database is at a revision this code doesn't know.

    That is the case in a roll-back to an earlier release: its code works on the newer schema (the
    expand/contract rule), and failing would only block the roll-back.

    Raises:
        Exception: whatever a migration or the database raises; the deployment fails with it.
    """
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    if not _knows(ScriptDirectory.from_config(config), _revisions(url)):
        return "newer"
    command.upgrade(config, "head")
    return "migrated"


def _revisions(url: str) -> list[str]:
    """The revisions that the database is at; none if it was never migrated."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT to_regclass('forebay.alembic_version')").fetchone()
        if found is None or found[0] is None:
            return []
        rows = connection.execute("SELECT version_num FROM forebay.alembic_version").fetchall()
        return [str(row[0]) for row in rows]


def _knows(scripts: ScriptDirectory, revisions: list[str]) -> bool:
    try:
        scripts.get_revisions(revisions)
    except CommandError:
        return False
    return True
