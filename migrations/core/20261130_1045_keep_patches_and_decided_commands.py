"""Keep patches and decided commands.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "a3f7d52c6e18"
down_revision = "8c41f6e0a97d"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "edits",
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "fields",
            pg.JSONB(),
            nullable=False,
            comment="By field, the id of the patch whose value the row has",
        ),
        sa.Column(
            "kept",
            pg.ARRAY(sa.Text()),
            nullable=False,
            comment="Lines of patches without effect, with the fields that they may set",
        ),
        sa.Column(
            "recent",
            pg.ARRAY(pg.UUID()),
            nullable=False,
            comment="Ids of the last patches of which nothing is left",
        ),
        sa.Column(
            "tag",
            sa.Text(),
            nullable=True,
            comment="State tag of the item; null if no patch is in its row",
        ),
        sa.Column("waiting", sa.Integer(), nullable=False, comment="How many of `kept` wait"),
        sa.Column("oldest", pg.UUID(), nullable=True, comment="Smallest id among those that wait"),
        sa.PrimaryKeyConstraint("resource", "key", name=op.f("edits_pkey")),
        schema="forebay",
        comment="Keys with patches: what the row has from them, and those without effect yet",
    )
    op.create_index(
        op.f("edits_oldest_idx"),
        "edits",
        ["oldest"],
        schema="forebay",
        postgresql_where=sa.text("oldest IS NOT NULL"),
    )
    op.create_table(
        "effects",
        sa.Column("id", pg.UUID(), nullable=False, comment="The decided command's id"),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "effective_id",
            pg.UUID(),
            nullable=False,
            comment="The id under which it takes its place",
        ),
        sa.Column(
            "body",
            pg.JSON(),
            nullable=True,
            comment="The body with the sums of increments; null: as archived",
        ),
        sa.Column("schema", sa.Integer(), nullable=True, comment="Schema version of `body`"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "slot",
            sa.BigInteger(),
            nullable=True,
            comment="Number of its entry in the decision log; null: decided by this database alone",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("effects_pkey")),
        schema="forebay",
        comment="Decided commands that passed: what they came to",
    )
    op.create_index(op.f("effects_effective_id_idx"), "effects", ["effective_id"], schema="forebay")
    op.create_index(
        "rejections_not_unmet_idx",
        "rejections",
        ["id"],
        schema="forebay",
        postgresql_where=sa.text("code NOT IN ('precondition_failed', 'increment_failed')"),
    )


def downgrade() -> None:
    op.drop_index("rejections_not_unmet_idx", "rejections", schema="forebay")
    op.drop_table("effects", schema="forebay")
    op.drop_table("edits", schema="forebay")
