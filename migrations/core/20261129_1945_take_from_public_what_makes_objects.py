"""Take from PUBLIC what makes objects.

A role that only reads can then create no temporary tables on the primary. Roles that apply commands
need temporary tables, so roles that may insert into the ledger get the right by name first.

Only the database's owner can revoke. For other roles Postgres makes no change and issues a warning
(docs/security.md, "Roles of the database").
"""

from __future__ import annotations

from alembic import op

revision = "8c41f6e0a97d"
down_revision = "5b0c6d1f7e92"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        DO $$
        DECLARE
            writer name;
        BEGIN
            FOR writer IN
                SELECT DISTINCT role.rolname
                FROM pg_class AS ledger
                CROSS JOIN aclexplode(ledger.relacl) AS granted
                JOIN pg_roles AS role ON role.oid = granted.grantee
                WHERE ledger.oid = 'forebay.ledger'::regclass
                    AND granted.privilege_type = 'INSERT'
            LOOP
                EXECUTE format(
                    'GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), writer
                );
            END LOOP;
            EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        END
        $$
    """)
    # Databases created before PostgreSQL 15 grant this.
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def downgrade() -> None:
    op.execute("""
        DO $$
        BEGIN
            EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
        END
        $$
    """)
