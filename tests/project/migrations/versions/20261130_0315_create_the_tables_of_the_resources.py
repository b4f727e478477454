"""Create the tables of the resources.

`if_not_exists`: an earlier release created these tables in one chain of migrations with its own.

The schema after this migration must also work with the code of the *previous* release, which runs
until the deployment has replaced it. So expand first (add nullable columns, new tables, indexes
CONCURRENTLY), move the data, and contract in a later release (docs/migrations.md).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0d3f1b6a92c5"
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
        if_not_exists=True,
    )
    op.create_index(
        op.f("announcements_published_on_idx"),
        "announcements",
        ["published_on"],
        unique=False,
        if_not_exists=True,
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
        if_not_exists=True,
    )
    op.create_index(
        op.f("cities_country_code_idx"),
        "cities",
        ["country_code"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(op.f("cities_name_idx"), "cities", ["name"], unique=False, if_not_exists=True)
    op.create_index(
        op.f("cities_population_idx"), "cities", ["population"], unique=False, if_not_exists=True
    )
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
        if_not_exists=True,
    )
    op.create_index(
        op.f("countries_continent_idx"),
        "countries",
        ["continent"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        op.f("countries_name_idx"), "countries", ["name"], unique=False, if_not_exists=True
    )
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
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("pictures")
    op.drop_index(op.f("countries_name_idx"), table_name="countries")
    op.drop_index(op.f("countries_continent_idx"), table_name="countries")
    op.drop_table("countries")
    op.drop_index(op.f("cities_population_idx"), table_name="cities")
    op.drop_index(op.f("cities_name_idx"), table_name="cities")
    op.drop_index(op.f("cities_country_code_idx"), table_name="cities")
    op.drop_table("cities")
    op.drop_index(op.f("announcements_published_on_idx"), table_name="announcements")
    op.drop_table("announcements")
