"""The SQL of apply for one resource, made from its declaration."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from forebay.resource.spec import ResourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """Set-based statements over one staging table, in the order in which they run."""

    create_stage: sql.Composed
    clear_stage: sql.Composed
    copy: sql.Composed
    staged_keys: sql.Composed
    input_errors: sql.Composed
    delete_rows: sql.Composed
    bury: sql.Composed
    upsert: sql.Composed
    #: The same where the resource has no tombstone at all, which saves a join.
    upsert_unburied: sql.Composed
    unbury: sql.Composed
    count_rows_at_version: sql.Composed
    count_tombstones_at_version: sql.Composed


def statements(spec: ResourceSpec) -> Statements:
    """Every statement that applies commands of this resource."""
    names = [column.name for column in spec.columns]
    stage = sql.Identifier("pg_temp", f"forebay_in_{spec.table}")
    parts: dict[str, sql.Composable] = {
        "table": sql.Identifier("public", spec.table),
        "stage": stage,
        "stage_name": sql.Literal(f'pg_temp."forebay_in_{spec.table}"'),
        "resource": sql.Literal(spec.path),
        "key": sql.Identifier(spec.key.name),
        "columns": sql.SQL(", ").join(map(sql.Identifier, names)),
        "set": sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
            for name in (*names[1:], "_version", "_by_create")
        ),
    }
    made = {name: sql.SQL(text).format(**parts) for name, text in _TEMPLATES.items()}
    return Statements(**made)


# `t` is a row of the resource, `s` a staged command, `d` a tombstone. "Beats" is law 2: a put or
# delete beats a create; among puts and deletes the greater id, among creates the smaller.
_UPSERT_HEAD = """
    INSERT INTO {table} AS t ({columns}, _version, _by_create)
    SELECT {columns}, _version, _by_create FROM {stage} AS s WHERE NOT s._delete
"""
# One order of keys in every transaction: two consumers then never wait for each other in a ring.
_UPSERT_TAIL = """
    ORDER BY {key}
    ON CONFLICT ({key}) DO UPDATE SET {set}
    WHERE CASE WHEN excluded._by_create
               THEN t._by_create AND excluded._version < t._version
               ELSE t._by_create OR excluded._version > t._version END
"""
_NOT_BURIED = """
    AND NOT EXISTS (
      SELECT FROM forebay.tombstones AS d
      WHERE d.resource = {resource} AND d.key = s.{key}::text
        AND (s._by_create OR d.version > s._version))
"""
_TEMPLATES = {
    # AS SELECT keeps the types but no NOT NULL: a delete has no values.
    "create_stage": """
        CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS
        SELECT {columns}, _version, _by_create, false AS _delete FROM {table} WITH NO DATA
    """,
    "clear_stage": "TRUNCATE {stage}",
    "copy": """
        COPY {stage} ({columns}, _version, _by_create, _delete) FROM STDIN (ON_ERROR ignore)
    """,
    "staged_keys": "SELECT {key}::text FROM {stage}",
    # The staging table has the real table's types, whatever an operator has made of them.
    "input_errors": """
        SELECT v.position, e.sql_error_code,
               concat_ws('; ', e.message, e.detail, 'column ' || v.name)
        FROM unnest(%(positions)s::int[], %(names)s::text[], %(texts)s::text[])
             AS v (position, name, value)
        JOIN pg_attribute AS a ON a.attrelid = {stage_name}::regclass AND a.attname = v.name
        CROSS JOIN LATERAL
          pg_input_error_info(v.value, format_type(a.atttypid, a.atttypmod)) AS e
        WHERE e.sql_error_code IS NOT NULL
        ORDER BY v.position, a.attnum
    """,
    "delete_rows": """
        DELETE FROM {table} AS t USING {stage} AS s
        WHERE s._delete AND t.{key} = s.{key} AND (t._by_create OR t._version < s._version)
    """,
    # A row that is still there after delete_rows is newer than the delete.
    "bury": """
        INSERT INTO forebay.tombstones AS d (resource, key, version)
        SELECT {resource}, s.{key}::text, s._version FROM {stage} AS s
        WHERE s._delete AND NOT EXISTS (SELECT FROM {table} AS t WHERE t.{key} = s.{key})
        ORDER BY s.{key}
        ON CONFLICT (resource, key) DO UPDATE SET version = excluded.version
        WHERE d.version < excluded.version
    """,
    "upsert": _UPSERT_HEAD + _NOT_BURIED + _UPSERT_TAIL,
    "upsert_unburied": _UPSERT_HEAD + _UPSERT_TAIL,
    "unbury": """
        DELETE FROM forebay.tombstones AS d USING {stage} AS s, {table} AS t
        WHERE NOT s._delete AND t.{key} = s.{key} AND NOT t._by_create
          AND d.resource = {resource} AND d.key = s.{key}::text AND d.version < t._version
    """,
    "count_rows_at_version": """
        SELECT count(*) FROM {stage} AS s JOIN {table} AS t USING ({key})
        WHERE NOT s._delete AND t._version = s._version
    """,
    "count_tombstones_at_version": """
        SELECT count(*) FROM {stage} AS s JOIN forebay.tombstones AS d
          ON d.resource = {resource} AND d.key = s.{key}::text
        WHERE s._delete AND d.version = s._version
    """,
}
