"""Add pictures.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "5b7c0e41d9f3"
down_revision = "0d3f1b6a92c5"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pictures",
        sa.Column("slug", sa.String(length=100), autoincrement=False, nullable=False),
        sa.Column("title", sa.String(length=200), autoincrement=False, nullable=False),
        sa.Column(
            "image", postgresql.JSONB(astext_type=sa.Text()), autoincrement=False, nullable=True
        ),
        sa.Column(
            "_version", sa.UUID(), nullable=False, comment="Id of the command that made it so"
        ),
        sa.Column("_by_create", sa.Boolean(), nullable=False, comment="That command was a create"),
        sa.PrimaryKeyConstraint("slug", name=op.f("pictures_pkey")),
        comment="A picture with its title.",
    )


def downgrade() -> None:
    op.drop_table("pictures")
