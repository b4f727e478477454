"""Keep what operators decided.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e73abff84549"
down_revision = "91284fde3b61"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("rejection", sa.UUID(), nullable=False, comment="Id of the rejection"),
        sa.Column("decision", sa.Text(), nullable=False, comment="retried or discarded"),
        sa.Column(
            "command", sa.UUID(), nullable=True, comment="The command that amends the rejected one"
        ),
        sa.Column(
            "line",
            sa.LargeBinary(),
            nullable=True,
            comment="That command's line, until it is accepted",
        ),
        sa.Column("rule", sa.Text(), nullable=True, comment="Name of the rule that mended it"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False, comment="The operator"),
        sa.Column("run", sa.UUID(), nullable=False, comment="Which call of the tool"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Null: not yet accepted and in the archive",
        ),
        sa.PrimaryKeyConstraint("rejection", name=op.f("decisions_pkey")),
        schema="forebay",
        comment="What operators decided about rejections; the archive's audit/ holds the same",
    )
    op.create_index(
        op.f("decisions_recorded_at_idx"),
        "decisions",
        ["recorded_at"],
        unique=False,
        schema="forebay",
        postgresql_where=sa.text("recorded_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        op.f("decisions_recorded_at_idx"),
        table_name="decisions",
        schema="forebay",
        postgresql_where=sa.text("recorded_at IS NULL"),
    )
    op.drop_table("decisions", schema="forebay")
