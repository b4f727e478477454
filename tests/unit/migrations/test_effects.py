"""Classifying statements: those that only add, and those that may change or remove data."""

from __future__ import annotations

import pytest

from migrations.effects import find_hurting_statements

TYPES = {
    ("cities", "name"): "character varying(200)",
    ("cities", "id"): "integer",
    ("cities", "price"): "numeric(10,2)",
    ("cities", "note"): "text",
}


def hurting(sql: str) -> list[str]:
    return list(
        find_hurting_statements(sql, lambda table, column: TYPES.get((table, column)), set())
    )


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE rivers (name VARCHAR(10) NOT NULL, CONSTRAINT pk PRIMARY KEY (name))",
        "CREATE INDEX cities_name_idx ON cities (name)",
        "CREATE INDEX CONCURRENTLY cities_name_idx ON cities (name)",
        "COMMENT ON TABLE cities IS 'They drop; table cities'",
        "ALTER TABLE cities ADD COLUMN mayor VARCHAR(10)",
        "ALTER TABLE cities ADD COLUMN mayor VARCHAR(10) DEFAULT 'x' NOT NULL",
        "ALTER TABLE forebay.ledger ADD COLUMN skipped BIGINT DEFAULT 0 NOT NULL",
        "ALTER TABLE cities ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE cities ALTER COLUMN name TYPE VARCHAR(300)",
        "ALTER TABLE cities ALTER COLUMN name TYPE TEXT",
        "ALTER TABLE cities ALTER COLUMN id TYPE BIGINT",
        "ALTER TABLE cities ALTER COLUMN price TYPE NUMERIC(12, 4)",
        "CREATE TABLE a (x INTEGER); CREATE UNIQUE INDEX a_x ON a (x)",
        "CREATE TABLE a (x INTEGER); ALTER TABLE a ADD CONSTRAINT a_key UNIQUE (x)",
        "-- DROP TABLE cities;\nCOMMIT; BEGIN;",
        "SET statement_timeout = '30min'",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    ],
)
def test_additions_are_not_destructive(sql: str) -> None:
    assert hurting(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE cities",
        "drop table cities",
        "DROP INDEX by_hand",
        "DROP VIEW v",
        "ALTER TABLE cities DROP COLUMN name",
        "ALTER TABLE cities RENAME COLUMN name TO title",
        "ALTER TABLE cities RENAME TO towns",
        "ALTER TABLE cities ADD COLUMN mayor VARCHAR(10) NOT NULL",
        "ALTER TABLE cities ADD COLUMN mayor VARCHAR(10) UNIQUE",
        "ALTER TABLE cities ADD COLUMN a INTEGER, DROP COLUMN name",
        "ALTER TABLE cities ADD CONSTRAINT cities_name_key UNIQUE (name)",
        "ALTER TABLE cities ADD CONSTRAINT f FOREIGN KEY (country) REFERENCES countries (code)",
        "ALTER TABLE cities ALTER COLUMN name SET NOT NULL",
        "ALTER TABLE cities ALTER COLUMN name TYPE VARCHAR(100)",
        "ALTER TABLE cities ALTER COLUMN note TYPE VARCHAR(100)",
        "ALTER TABLE cities ALTER COLUMN id TYPE SMALLINT",
        "ALTER TABLE cities ALTER COLUMN price TYPE NUMERIC(12, 5)",
        "ALTER TABLE cities ALTER COLUMN price TYPE NUMERIC(12, 1)",
        "ALTER TABLE cities ALTER COLUMN name TYPE VARCHAR(300) USING left(name, 3)",
        "CREATE UNIQUE INDEX cities_name_key ON cities (name)",
        "UPDATE cities SET name = 'x'",
        "DELETE FROM cities",
        "TRUNCATE cities",
        "INSERT INTO cities SELECT 1 ON CONFLICT (id) DO UPDATE SET name = 'x'",
        "WITH gone AS (DELETE FROM cities RETURNING *) INSERT INTO towns SELECT * FROM gone",
        "DO $$ BEGIN DROP TABLE cities; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON cities EXECUTE FUNCTION f()",
        "/* a */ DROP TABLE cities",
        "COMMENT ON TABLE cities IS E'it\\'s'; DROP TABLE cities",
        "COMMENT ON TABLE cities IS 'it''s'; DROP TABLE cities; --'",
        "/* /* */ */ DROP TABLE cities",
    ],
)
def test_anything_else_may_hurt(sql: str) -> None:
    assert len(hurting(sql)) == 1


def test_a_destructive_statement_is_shown_as_written() -> None:
    assert hurting(
        "ALTER TABLE cities\n  ALTER name SET DEFAULT 'a;b';\nUPDATE cities SET a='b;'"
    ) == ["UPDATE cities SET a='b;'"]
