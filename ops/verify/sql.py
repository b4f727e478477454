"""The SQL of verify: read-only short statements, each with its own snapshot.

The same server formats and hashes the rows of both sides, so that two spellings of one value
(`1.50` and `1.5`, one moment in two zones) give equal rows, as they do for apply.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from forebay.resource.spec import ResourceSpec
from ops.folding.partition import SLICE_SQL

# The patch of a row with the greatest id: after the cut, it exempts the row like a later version.
_WITH_NEWEST = """
    (SELECT r.*, e.newest AS _newest FROM {} AS r LEFT JOIN (
       SELECT key, CASE WHEN jsonb_typeof(fields) = 'object' THEN (
         SELECT max(f.value COLLATE "C") FROM jsonb_each_text(fields) AS f) END AS newest
       FROM forebay.edits WHERE resource = {}) AS e ON e.key = r.{}::text)
"""
# The slice of a compared key, and that of a row; see `ops.folding.partition.find_slice`.
_OF_COMPARED = SLICE_SQL.replace("{key}", "j.key")
_OF_ROW = SLICE_SQL.replace("{key}", "t.{key}::text")

# Rows that the cut's commands must have made. An outdated row sorts after every cut, although no
# later command has made it: it waits for a replay. Its version begins with `e` or `f`, see
# `forebay.ids.mark_outdated`.
_COUNTS = (
    '(t._version <= %(cut)s::uuid AND coalesce(t._newest <= %(cut)s::text COLLATE "C", true)'
    " OR t._version >= 'e0000000-0000-0000-0000-000000000000'::uuid)"
)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements that compare one table."""

    #: Expected rows (JSON) against the table, by slice. Parameters: rows, cut.
    compare: sql.Composed
    #: Rows up to the cut, and outdated rows, by slice: count and digest. Parameter: cut.
    scan: sql.Composed
    #: Keys and versions of slices. Parameters: cut, slices.
    rows_of: sql.Composed
    #: Keys and versions of rows newer than the cut, without outdated rows. Parameter: cut.
    newer: sql.Composed


def build_row_statements(spec: ResourceSpec) -> Statements:
    """Return the statements for the table of a resource."""
    columns: list[sql.Composable] = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.sql_type))
        for column in spec.columns
    ]
    columns += [sql.SQL("_version uuid"), sql.SQL("_by_create boolean")]
    names = [*(column.name for column in spec.columns), "_version", "_by_create"]
    key = sql.Identifier(spec.key.name)
    return _build_statements(
        {
            "table": sql.SQL(_WITH_NEWEST).format(
                sql.Identifier("public", spec.table), sql.Literal(spec.path), key
            ),
            "columns": sql.SQL(", ").join(columns),
            "key": key,
            "s_row": _hash_row("s", names),
            "t_row": _hash_row("t", names),
            # A newer delete has removed the row since the cut.
            "gone": sql.SQL(
                "t._version IS NULL AND EXISTS (SELECT FROM forebay.tombstones AS d"
                " WHERE d.resource = {} AND d.key = s.{}::text AND d.version > %(cut)s::uuid)"
            ).format(sql.Literal(spec.path), key),
        }
    )


def build_tombstone_statements(spec: ResourceSpec) -> Statements:
    """Return the statements for the tombstones of a resource."""
    key = sql.Identifier(spec.key.name)
    return _build_statements(
        {
            "table": sql.SQL(
                "(SELECT key, version AS _version, NULL::text AS _newest"
                " FROM forebay.tombstones WHERE resource = {})"
            ).format(sql.Literal(spec.path)),
            "columns": sql.SQL("key text, _version uuid"),
            "key": sql.Identifier("key"),
            "s_row": _hash_row("s", ["key", "_version"]),
            "t_row": _hash_row("t", ["key", "_version"]),
            # A newer put has restored the row since the cut. If that row is outdated, it is itself
            # the difference.
            "gone": sql.SQL(
                "t._version IS NULL AND EXISTS (SELECT FROM {} AS r"
                " WHERE r.{} = s.key::{} AND r._version > %(cut)s::uuid)"
            ).format(
                sql.Identifier("public", spec.table),
                key,
                sql.SQL(spec.key.sql_type),
            ),
        }
    )


def _hash_row(side: str, names: list[str]) -> sql.Composed:
    cells = (sql.SQL("{}.{}").format(sql.Identifier(side), sql.Identifier(name)) for name in names)
    return sql.SQL("hashtextextended(ROW({})::text, 0)").format(sql.SQL(", ").join(cells))


def _build_statements(parts: dict[str, sql.Composable]) -> Statements:
    def compose(text: str) -> sql.Composed:
        return sql.SQL(text).format(**parts)

    return Statements(compose(_COMPARE), compose(_SCAN), compose(_ROWS_OF), compose(_NEWER))


_COMPARE = """
    WITH j AS (
      SELECT s.{key}::text AS key, s._version AS wanted, t._version AS found, {s_row} AS s_hash,
             CASE WHEN t._version IS NOT NULL THEN {t_row} END AS t_hash
      FROM json_to_recordset(%(rows)s::json) AS s({columns})
      LEFT JOIN {table} AS t ON t.{key} = s.{key}
      WHERE coalesce(COUNTS, true) AND NOT ({gone}))
    SELECT SLICE, count(*), sum(s_hash), count(found), sum(t_hash),
           array_agg(key) FILTER (WHERE s_hash IS DISTINCT FROM t_hash),
           array_agg(wanted::text) FILTER (WHERE s_hash IS DISTINCT FROM t_hash),
           array_agg(found::text) FILTER (WHERE s_hash IS DISTINCT FROM t_hash)
    FROM j GROUP BY 1
""".replace("SLICE", _OF_COMPARED).replace("COUNTS", _COUNTS)
_SCAN = """
    SELECT SLICE, count(*), sum({t_row}) FROM {table} AS t
    WHERE COUNTS GROUP BY 1
""".replace("SLICE", _OF_ROW).replace("COUNTS", _COUNTS)
_ROWS_OF = """
    SELECT t.{key}::text, t._version::text FROM {table} AS t
    WHERE COUNTS AND SLICE = ANY(%(slices)s)
""".replace("SLICE", _OF_ROW).replace("COUNTS", _COUNTS)
# No command's id begins with `e` or `f`; a version that does is the mark of an outdated row.
_NEWER = """
    SELECT t.{key}::text, t._version::text FROM {table} AS t
    WHERE t._version > %(cut)s::uuid
      AND t._version < 'e0000000-0000-0000-0000-000000000000'::uuid
"""
