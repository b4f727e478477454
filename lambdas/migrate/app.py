"""The migration without Lambda: upgrades a database to the newest revision of this code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import psycopg
from alembic.util.exc import CommandError

from forebay.db.connect import iterate_logins
from forebay.read_cache.address import Address
from forebay.read_cache.link import CHANGE_BUDGET, Link
from forebay.read_cache.writer import Announcer
from lambdas.migrate.users import make_users
from migrations.chains import CHAINS, Chain, upgrade

MigrateResult = Literal["migrated", "newer"]


def migrate(url: str, revisions: Sequence[str] | None = None) -> MigrateResult:
    """Upgrade a database along both chains of migrations, to the newest or to given revisions.

    Has no effect if the database is at a revision that this code does not contain. That happens
    in a roll-back to an earlier release: its code works with the newer schema (the
    expand/contract rule), and a failure would only block the roll-back.

    Raises:
        Exception: an error of a migration or of the database; the deployment fails with it.
    """
    with _connect(url) as connection:
        if not all(_has_revisions(chain, chain.read_revisions(connection)) for chain in CHAINS):
            return "newer"
    upgrade(url, revisions)
    return "migrated"


def make_users_of(url: str, *, writer: str, reader: str) -> None:
    """Create the writing and the reading user, connected as the owner that the URL names.

    Raises:
        psycopg.Error: the owner lacks a privilege, or the database can't be reached.
    """
    with _connect(url) as connection:
        make_users(connection, writer=writer, reader=reader)


def announce_migration(url: str, address: Address) -> bool:
    """Make every answer of the read cache invalid; return whether that was possible.

    Raises:
        psycopg.Error: the database can't be reached.
    """
    missed: list[str] = []
    announcer = Announcer(Link(address, CHANGE_BUDGET), on_missed=missed.append)
    with _connect(url) as connection:
        announcer.announce_everything(connection)
    announcer.close()
    return not missed


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(next(iterate_logins(url, environment=os.environ)), autocommit=True)


def _has_revisions(chain: Chain, revisions: tuple[str, ...]) -> bool:
    try:
        chain.read_scripts().get_revisions(revisions)
    except CommandError:
        return False
    return True
