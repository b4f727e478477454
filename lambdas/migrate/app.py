"""The migration without Lambda: upgrades a database to the newest revision of this code."""

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
    """Run `alembic upgrade`, to the newest revision or to a given one.

    Does nothing if the database is at a revision that this code does not contain. That happens
    in a roll-back to an earlier release: its code works with the newer schema (the
    expand/contract rule), and a failure would only block the roll-back.

    Raises:
        Exception: an error of a migration or of the database; the deployment fails with it.
    """
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    if not _has_revisions(ScriptDirectory.from_config(config), _read_revisions(url)):
        return "newer"
    command.upgrade(config, revision)
    return "migrated"


def make_users_of(url: str, *, writer: str, reader: str) -> None:
    """Create the writing and the reading user, connected as the owner that the URL names.

    Raises:
        psycopg.Error: the owner lacks a privilege, or the database can't be reached.
    """
    with _connect(url) as connection:
        make_users(connection, writer=writer, reader=reader)


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(next(login_attempts(url, environment=os.environ)), autocommit=True)


def _read_revisions(url: str) -> list[str]:
    """The database's current revisions; empty if it was never migrated."""
    with _connect(url) as connection:
        table = connection.execute("SELECT to_regclass('forebay.alembic_version')").fetchone()
        if table is None or table[0] is None:
            return []
        rows = connection.execute("SELECT version_num FROM forebay.alembic_version").fetchall()
        return [str(row[0]) for row in rows]


def _has_revisions(scripts: ScriptDirectory, revisions: list[str]) -> bool:
    try:
        scripts.get_revisions(revisions)
    except CommandError:
        return False
    return True
