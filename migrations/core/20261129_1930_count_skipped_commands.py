"""Count the commands of retired resources.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5b0c6d1f7e92"
down_revision = "5d7a1c0e93b4"
branch_labels = None
depends_on = None

_TABLES = ("ledger", "run_objects")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(
            table,
            sa.Column(
                "skipped",
                sa.BigInteger(),
                server_default=sa.text("0"),
                nullable=False,
                comment="Commands of retired resources",
            ),
            schema="forebay",
        )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_column(table, "skipped", schema="forebay")
