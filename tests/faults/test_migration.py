"""The schema changes under traffic, while functions of the previous release still run."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config

from tests.fixtures.faulty import FaultyStack
from tests.fixtures.migrating import with_migrations_in

MIGRATION = '''
"""Expand, as docs/migrations.md has it."""

import sqlalchemy as sa
from alembic import op

revision = "expand"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("cities", sa.Column("elevation", sa.Integer(), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index("ix_elevation", "cities", ["elevation"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_column("cities", "elevation")
'''


def test_the_schema_is_migrated(faulty_stack: FaultyStack, tmp_path: Path) -> None:
    stack = faulty_stack
    config = migrations(tmp_path, stack.local.primary.url())
    with stack.fault(
        "schema migrated in the middle of traffic",
        "a column and an index are added, and some seconds later the column is dropped",
        part="primary",
    ) as watched:
        command.upgrade(config, "head")
        time.sleep(5)
        command.downgrade(config, "-1")
        watched.ends()


def migrations(folder: Path, url: str) -> Config:
    """The alembic configuration of the project's migrations and an additional migration."""
    chain = with_migrations_in(folder)
    head = chain.read_scripts().get_current_head()
    assert head is not None
    (folder / "expand.py").write_text(MIGRATION.format(head=head))
    return chain.configure(url)
