"""The two chains of migrations: of the pipeline's own tables, and of the resources' tables.

A newer Forebay brings migrations for its own tables, while a user writes migrations for the tables
of the resources. In one chain, each merge of a newer Forebay would have to reorder them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import resources
from forebay.db.schema import PIPELINE_SCHEMA

FOLDER: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Chain:
    """A linear history of migrations, with a table of its own for the database's revision."""

    #: The chain's section in `alembic.ini`.
    section: str
    #: The folders of its migrations.
    versions: tuple[Path, ...]
    #: The schema of the tables that it changes.
    schema: str
    #: The table in the pipeline's schema that contains the database's revision.
    version_table: str

    def configure(self, url: str | None = None) -> Config:
        """Return Alembic's configuration.

        Args:
            url: of the database; by default that of FOREBAY_DATABASE_URL.
        """
        config = Config(ini_section=self.section)
        config.set_main_option("script_location", str(FOLDER))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", "\n".join(map(str, self.versions)))
        config.attributes["url"] = url
        return config

    def read_scripts(self) -> ScriptDirectory:
        """Return the chain's migrations."""
        return ScriptDirectory.from_config(self.configure())

    def read_revisions(self, connection: psycopg.Connection[Any]) -> tuple[str, ...]:
        """Return the database's revisions of this chain; empty if it has none."""
        name = f"{PIPELINE_SCHEMA}.{self.version_table}"
        table = connection.execute("SELECT to_regclass(%s)", [name]).fetchone()
        if table is None or table[0] is None:
            return ()
        query = f"SELECT version_num FROM {name}"  # noqa: S608 - our own names
        return tuple(str(row[0]) for row in connection.execute(query.encode()).fetchall())


CORE: Final = Chain("core", (FOLDER / "core",), PIPELINE_SCHEMA, "alembic_version")
#: The user's files lie side by side: `resources/` and `migrations/versions/`.
RESOURCES: Final = Chain(
    "alembic",
    (Path(str(resources.__file__)).resolve().parents[1] / "migrations" / "versions",),
    "public",
    "resources_version",
)
#: In the order in which they are upgraded.
CHAINS: Final = (CORE, RESOURCES)


def upgrade(
    url: str, revisions: Sequence[str] | None = None, chains: Sequence[Chain] = CHAINS
) -> None:
    """Upgrade a database along all chains.

    Args:
        url: of the database.
        revisions: upgrade only to these, at most one for each chain; by default to the newest.
        chains: this project's by default.

    Raises:
        Exception: an error of a migration or of the database.
    """
    for chain in chains:
        target = "head" if revisions is None else _find_revision(chain, revisions)
        if target is not None:
            command.upgrade(chain.configure(url), target)


def _find_revision(chain: Chain, revisions: Sequence[str]) -> str | None:
    own = {script.revision for script in chain.read_scripts().walk_revisions()}
    return next((revision for revision in revisions if revision in own), None)
