"""Undoes commands that were applied before this database learned of their rejection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

from forebay.db.connect import Connection
from forebay.db.locks import lock_resources
from forebay.decisions.rejections import Rejection
from forebay.ids import mark_orphaned, mark_outdated
from forebay.resource.spec import ResourceSpec


def undo(
    connection: Connection, resources: Mapping[str, ResourceSpec], rejected: Sequence[Rejection]
) -> int:
    """Remove rows and tombstones made by rejected commands; return their number.

    Needed if this database applied commands before they were decided, for example in a rebuild
    for inspection while another database owned the archive. A replay restores the rows that the
    removed rows had replaced. Call it inside a transaction.
    """
    by_path: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in rejected:
        path = rejection.resource
        if path is not None and path in resources and rejection.key is not None:
            by_path[path].append(rejection)
    lock_resources(connection, by_path, exclusive=True)
    count, remaining = 0, list(by_path)
    while remaining:
        # Rows can be removed only after the rows that refer to them.
        attempted, remaining = remaining, []
        for path in attempted:
            removed_count = _remove(connection, resources[path], by_path[path])
            count += removed_count or 0
            if removed_count is None:
                remaining.append(path)
        if remaining == attempted:
            break
    # Rows with references from other rows stay, marked until a replay.
    for path in remaining:
        spec, statements = resources[path], _build_statements(resources[path])
        for statement in (statements.mark, statements.tombstones):
            count += _run(connection, statement, spec, by_path[path])
    return count


def _remove(
    connection: Connection, spec: ResourceSpec, rejections: Sequence[Rejection]
) -> int | None:
    """Remove rows and tombstones; return their number, or None if other rows refer to them."""
    statements = _build_statements(spec)
    try:
        with connection.transaction():
            rows = _run(connection, statements.rows, spec, rejections)
            return rows + _run(connection, statements.tombstones, spec, rejections)
    except psycopg.errors.ForeignKeyViolation:
        return None


def _run(
    connection: Connection,
    statement: sql.Composed,
    spec: ResourceSpec,
    rejections: Sequence[Rejection],
) -> int:
    values = {
        "resource": spec.path,
        "keys": [rejection.key for rejection in rejections],
        "ids": [rejection.id for rejection in rejections],
        "outdated": [mark_outdated(rejection.id) for rejection in rejections],
        "orphaned": [mark_orphaned(rejection.id) for rejection in rejections],
    }
    return connection.execute(statement, values).rowcount


class _Statements(NamedTuple):
    """Statements that undo commands of a resource."""

    rows: sql.Composed
    mark: sql.Composed
    tombstones: sql.Composed


def _build_statements(spec: ResourceSpec) -> _Statements:
    parts: dict[str, sql.Composable] = {
        "table": sql.Identifier("public", spec.table),
        "key": sql.Identifier(spec.key.name),
        "type": sql.SQL(spec.key.sql_type),
    }
    statements = (_UNDO_ROWS, _MARK_ROWS, _UNDO_TOMBSTONES)
    return _Statements(*(sql.SQL(text).format(**parts) for text in statements))


# A key that the column's type can't read made no row. By key first: the key has an index.
_UNDO_ROWS = """
    DELETE FROM {table} AS t
    USING unnest(%(keys)s::text[], %(ids)s::uuid[], %(outdated)s::uuid[]) AS r (key, id, outdated)
    WHERE pg_input_is_valid(r.key, '{type}')
      AND t.{key} = CASE WHEN pg_input_is_valid(r.key, '{type}') THEN r.key::{type} END
      AND t._version IN (r.id, r.outdated)
"""
_MARK_ROWS = """
    UPDATE {table} AS t SET _version = r.orphaned, _by_create = true
    FROM unnest(%(keys)s::text[], %(ids)s::uuid[], %(outdated)s::uuid[], %(orphaned)s::uuid[])
         AS r (key, id, outdated, orphaned)
    WHERE pg_input_is_valid(r.key, '{type}')
      AND t.{key} = CASE WHEN pg_input_is_valid(r.key, '{type}') THEN r.key::{type} END
      AND t._version IN (r.id, r.outdated)
"""
_UNDO_TOMBSTONES = """
    DELETE FROM forebay.tombstones AS d
    USING unnest(%(keys)s::text[], %(ids)s::uuid[]) AS r (key, id)
    WHERE d.resource = %(resource)s AND d.key = r.key AND d.version = r.id
"""
