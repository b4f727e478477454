"""Index the effective ids only of commands that took another place than their own.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c4e19b7a5d20"
down_revision = "a3f7d52c6e18"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nearly all commands keep their own id as their place; the primary key finds those.
    with op.get_context().autocommit_block():
        op.drop_index(
            "effects_effective_id_idx",
            "effects",
            schema="forebay",
            if_exists=True,
            postgresql_concurrently=True,
        )
        op.create_index(
            "effects_effective_id_idx",
            "effects",
            ["effective_id"],
            schema="forebay",
            postgresql_where=sa.text("effective_id <> id"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("effects_effective_id_idx", "effects", schema="forebay")
    op.create_index("effects_effective_id_idx", "effects", ["effective_id"], schema="forebay")
