"""Count in the ledger how long commands took.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "91284fde3b61"
down_revision = "fb15dd88e4ac"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ledger",
        sa.Column(
            "lags",
            postgresql.ARRAY(sa.Integer()),
            nullable=True,
            comment="Commands by the time from acceptance to applied; forebay.lag has the buckets",
        ),
        schema="forebay",
    )


def downgrade() -> None:
    op.drop_column("ledger", "lags", schema="forebay")
