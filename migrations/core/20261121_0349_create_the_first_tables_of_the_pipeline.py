"""Create the first tables of the pipeline.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fb15dd88e4ac"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("object", sa.Text(), nullable=False, comment="Key in the archive bucket"),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("superseded", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column(
            "first_id", sa.UUID(), nullable=True, comment="Smallest command id in the object"
        ),
        sa.Column("last_id", sa.UUID(), nullable=True, comment="Greatest command id in the object"),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "completed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Null: applied as far as `lines` says",
        ),
        sa.Column("replays", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("object", name=op.f("ledger_pkey")),
        schema="forebay",
        comment="One row per archive object, written in the transactions that applied it",
    )
    op.create_index(
        op.f("ledger_completed_at_idx"), "ledger", ["completed_at"], unique=False, schema="forebay"
    )
    op.create_table(
        "rejections",
        sa.Column("id", sa.UUID(), nullable=False, comment="The command's id, or a line's own"),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("op", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False, comment="Stable name of the reason"),
        sa.Column("sqlstate", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False, comment="The archived line"),
        sa.Column("object", sa.Text(), nullable=False, comment="Archive object it was found in"),
        sa.Column(
            "rejected_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rejections_pkey")),
        schema="forebay",
        comment="Commands that can never apply, and lines that are no commands",
    )
    op.create_index(
        op.f("rejections_rejected_at_idx"),
        "rejections",
        ["rejected_at"],
        unique=False,
        schema="forebay",
    )
    op.create_index(
        op.f("rejections_resource_key_idx"),
        "rejections",
        ["resource", "key"],
        unique=False,
        schema="forebay",
    )
    op.create_table(
        "tombstones",
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.UUID(), nullable=False, comment="Id of the delete"),
        sa.PrimaryKeyConstraint("resource", "key", name=op.f("tombstones_pkey")),
        schema="forebay",
        comment="What remains of deleted keys: keeps older commands from bringing them back",
    )


def downgrade() -> None:
    op.drop_table("tombstones", schema="forebay")
    op.drop_index(op.f("rejections_resource_key_idx"), table_name="rejections", schema="forebay")
    op.drop_index(op.f("rejections_rejected_at_idx"), table_name="rejections", schema="forebay")
    op.drop_table("rejections", schema="forebay")
    op.drop_index(op.f("ledger_completed_at_idx"), table_name="ledger", schema="forebay")
    op.drop_table("ledger", schema="forebay")
