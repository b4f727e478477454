"""Create the first tables.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "fb15dd88e4ac"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "announcements",
        sa.Column(
            "id", sa.UUID(), autoincrement=False, nullable=False, comment="Made by the server."
        ),
        sa.Column("title", sa.String(length=200), autoincrement=False, nullable=False),
        sa.Column(
            "body",
            sa.String(length=20000),
            autoincrement=False,
            nullable=False,
            comment="Plain text or Markdown.",
        ),
        sa.Column("published_on", sa.Date(), autoincrement=False, nullable=False),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="With its time zone.",
        ),
        sa.Column("status", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("pinned", sa.Boolean(), autoincrement=False, nullable=False),
        sa.Column(
            "tags", postgresql.JSONB(astext_type=sa.Text()), autoincrement=False, nullable=False
        ),
        sa.Column(
            "_version", sa.UUID(), nullable=False, comment="Id of the command that made it so"
        ),
        sa.Column("_by_create", sa.Boolean(), nullable=False, comment="That command was a create"),
        sa.PrimaryKeyConstraint("id", name=op.f("announcements_pkey")),
        comment="Something that is announced to the public.",
    )
    op.create_index(
        op.f("announcements_published_on_idx"), "announcements", ["published_on"], unique=False
    )
    op.create_table(
        "cities",
        sa.Column("geonameid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), autoincrement=False, nullable=False),
        sa.Column("country_code", sa.String(length=2), autoincrement=False, nullable=False),
        sa.Column("population", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("latitude", sa.DOUBLE_PRECISION(), autoincrement=False, nullable=False),
        sa.Column("longitude", sa.DOUBLE_PRECISION(), autoincrement=False, nullable=False),
        sa.Column("timezone", sa.String(length=64), autoincrement=False, nullable=False),
        sa.Column(
            "_version", sa.UUID(), nullable=False, comment="Id of the command that made it so"
        ),
        sa.Column("_by_create", sa.Boolean(), nullable=False, comment="That command was a create"),
        sa.PrimaryKeyConstraint("geonameid", name=op.f("cities_pkey")),
        comment="A populated place, as GeoNames knows it.",
    )
    op.create_index(op.f("cities_country_code_idx"), "cities", ["country_code"], unique=False)
    op.create_index(op.f("cities_name_idx"), "cities", ["name"], unique=False)
    op.create_index(op.f("cities_population_idx"), "cities", ["population"], unique=False)
    op.create_table(
        "countries",
        sa.Column("code", sa.String(length=2), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=100), autoincrement=False, nullable=False),
        sa.Column("iso3", sa.String(length=3), autoincrement=False, nullable=False),
        sa.Column("capital", sa.String(length=100), autoincrement=False, nullable=True),
        sa.Column("continent", sa.String(length=2), autoincrement=False, nullable=False),
        sa.Column("currency", sa.String(length=3), autoincrement=False, nullable=True),
        sa.Column("population", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("area_km2", sa.DOUBLE_PRECISION(), autoincrement=False, nullable=False),
        sa.Column(
            "_version", sa.UUID(), nullable=False, comment="Id of the command that made it so"
        ),
        sa.Column("_by_create", sa.Boolean(), nullable=False, comment="That command was a create"),
        sa.PrimaryKeyConstraint("code", name=op.f("countries_pkey")),
        comment="A country or dependent territory.",
    )
    op.create_index(op.f("countries_continent_idx"), "countries", ["continent"], unique=False)
    op.create_index(op.f("countries_name_idx"), "countries", ["name"], unique=False)
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
    op.drop_index(op.f("countries_name_idx"), table_name="countries")
    op.drop_index(op.f("countries_continent_idx"), table_name="countries")
    op.drop_table("countries")
    op.drop_index(op.f("cities_population_idx"), table_name="cities")
    op.drop_index(op.f("cities_name_idx"), table_name="cities")
    op.drop_index(op.f("cities_country_code_idx"), table_name="cities")
    op.drop_table("cities")
    op.drop_index(op.f("announcements_published_on_idx"), table_name="announcements")
    op.drop_table("announcements")
