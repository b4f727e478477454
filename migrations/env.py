"""Runs migrations: one at a time per database, and with short lock time-outs."""

from __future__ import annotations

import os
from functools import partial

import psycopg
import sqlalchemy as sa
from alembic import context
from alembic.operations.ops import MigrationScript

import resources
from forebay.db.connect import iterate_logins
from forebay.db.schema import PIPELINE_SCHEMA, metadata
from forebay.errors import SettingsError
from migrations.chains import CHAINS, CORE, RESOURCES, Chain
from migrations.defaults import add_defaults
from migrations.handmade import Declared
from migrations.renames import ask_about_renames
from migrations.trigrams import ask_for_extension, has_trigrams

# A migration that waits for a lock blocks every query queued after it. Better to fail fast, and
# retry at a quieter time.
LOCK_TIMEOUT_MS = 4_000
STATEMENT_TIMEOUT_MS = 60_000
# Two deployments must not migrate at the same time: the second waits, then finds no work left.
ADVISORY_LOCK = 0x464F5245_42415921  # "FOREBAY!"
ADVISORY_LOCK_TIMEOUT_MS = 120_000


def run() -> None:
    """Migrate the database of the URL in Alembic's attributes, or of FOREBAY_DATABASE_URL.

    The section of the configuration names the chain.
    """
    chain = CORE if context.config.config_ini_section == CORE.section else RESOURCES
    url = context.config.attributes.get("url") or os.environ.get("FOREBAY_DATABASE_URL")
    if not url:
        raise SettingsError(
            "FOREBAY_DATABASE_URL is not set; it is the URL of the database to migrate"
        )
    login = next(iterate_logins(url, environment=os.environ))
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=partial(
            psycopg.connect,
            login,
            # A role named like our schema would otherwise have that schema as its default.
            options="-c search_path=public -c TimeZone=UTC",
        ),
        poolclass=sa.pool.NullPool,
    )
    with engine.connect() as connection:
        trigrams = _prepare(connection)
        declared = Declared(resources.shapes(), schema=chain.schema, trigrams=trigrams)
        context.configure(
            connection=connection,
            target_metadata=metadata(resources.load()),
            include_schemas=True,
            include_name=partial(_is_of_chain, chain),
            include_object=declared.includes,
            version_table=chain.version_table,
            version_table_schema=PIPELINE_SCHEMA,
            compare_type=True,
            transaction_per_migration=True,
            process_revision_directives=_complete,
        )
        with context.begin_transaction():
            context.run_migrations()


def _prepare(connection: sa.Connection) -> bool:
    """Take the session's lock, and set the time-outs of all migrations.

    Returns:
        Whether the server supports trigram indexes.
    """
    run_sql = connection.exec_driver_sql
    run_sql(f"SET statement_timeout = {ADVISORY_LOCK_TIMEOUT_MS}")
    run_sql(f"SELECT pg_advisory_lock({ADVISORY_LOCK})")
    run_sql(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
    run_sql(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    run_sql(f"CREATE SCHEMA IF NOT EXISTS {PIPELINE_SCHEMA}")
    trigrams = has_trigrams(connection)
    # Alembic does not commit a transaction that was open before it started.
    connection.commit()
    return trigrams


def _is_of_chain(chain: Chain, name: str | None, kind: str, _parents: object) -> bool:
    """Exclude from autogenerate other schemas, and Alembic's own tables.

    Alembic names the default schema None.
    """
    if kind == "schema":
        return (name or "public") == chain.schema
    return kind != "table" or name not in {known.version_table for known in CHAINS}


def _complete(_context: object, _revision: object, directives: list[MigrationScript]) -> None:
    """Complete a new revision: defaults and renames of columns; no file if there is no change."""
    makes_a_file = getattr(context.config.cmd_opts, "autogenerate", False)
    upgrade = directives[0].upgrade_ops if directives else None
    if upgrade is None:
        return
    if directives[0].message is not None:  # `alembic check` has no message, and must not prompt
        ask_about_renames(directives[0], os.environ.get("MIGRATION_RENAME", ""))
    add_defaults(upgrade, resources.load())
    ask_for_extension(directives[0])
    if makes_a_file and upgrade.is_empty():
        directives.clear()


run()
