"""The migration without Lambda: brings a database to the newest revision that this code has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from forebay.db.connect import login_attempts
from lambdas.migrate.users import make_users

ROOT = Path(__file__).resolve().parents[2]

Done = Literal["migrated", "newer"]


def migrate(url: str, revision: str = "head") -> Done:
    """Runs `alembic upgrade`, up to the newest revision or a given one.

    Does nothing if the database is at a revision that this code doesn't know. That is
    the case in a roll-back to an earlier release: its code works on the newer schema (the
    expand/contract rule), and failing would only block the roll-back.

    Raises:
        Exception: whatever a migration or the database raises; the deployment fails with it.
    """
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    if not _knows(ScriptDirectory.from_config(config), _revisions(url)):
        return "newer"
    command.upgrade(config, revision)
    return "migrated"


def make_users_of(url: str, *, writer: str, reader: str) -> None:
    """Makes the users who apply and who read, as the owner whom the URL names.

    Raises:
        psycopg.Error: the owner may not, or the database is not there.
    """
    with _connection(url) as connection:
        make_users(connection, writer=writer, reader=reader)


def _connection(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(next(login_attempts(url, environment=os.environ)), autocommit=True)


def _revisions(url: str) -> list[str]:
    """The revisions that the database is at; none if it was never migrated."""
    with _connection(url) as connection:
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
