"""Undoes commands that were applied before this database learned of their rejection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

from forebay.db.connect import Connection
from forebay.db.locks import lock_resources
from forebay.decisions.effects import Effect, find_effects
from forebay.decisions.rejections import Rejection
from forebay.ids import mark_orphaned, mark_outdated
from forebay.resource.spec import ResourceSpec


def undo(
    connection: Connection,
    resources: Mapping[str, ResourceSpec],
    rejected: Sequence[Rejection],
    effects: Sequence[Effect] = (),
) -> int:
    """Remove rows, tombstones and patches made by rejected commands; return their number.

    Also removed are those of decided commands with a private decision that differs from `effects`,
    the archive's decisions.

    Needed if this database applied commands before the archive had the decisions about them, for
    example in a rebuild for inspection while another database owned the archive. A replay restores
    the rows that the removed rows had replaced. Call it inside a transaction.
    """
    by_path: dict[str, list[_WrittenVersion]] = defaultdict(list)
    for written in (*_list_rejected(connection, rejected), *_list_overruled(connection, effects)):
        if written.resource in resources:
            by_path[written.resource].append(written)
    lock_resources(connection, by_path, exclusive=True)
    count, remaining = _remove_unreferenced(connection, resources, by_path)
    # Rows with references from other rows stay, marked until a replay.
    for path in remaining:
        spec, statements = resources[path], _build_undo_statements(resources[path])
        for statement in (
            statements.outdate,
            statements.edits,
            statements.mark,
            statements.tombstones,
        ):
            count += _execute(connection, statement, spec, by_path[path])
    return count


def _remove_unreferenced(
    connection: Connection,
    resources: Mapping[str, ResourceSpec],
    by_path: Mapping[str, Sequence[_WrittenVersion]],
) -> tuple[int, list[str]]:
    """Remove rows resource by resource, until only rows with references from others remain.

    Returns:
        The number of removed rows and tombstones, and the paths of the remaining resources.
    """
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
    return count, remaining


def _list_rejected(
    connection: Connection, rejected: Sequence[Rejection]
) -> Iterator[_WrittenVersion]:
    """Yield the versions that rejected commands may have written, as themselves or as effects."""
    private = find_effects(connection, [r.id for r in rejected if r.resource is not None])
    for rejection in rejected:
        if rejection.resource is None or rejection.key is None:
            continue
        yield _WrittenVersion(rejection.resource, rejection.key, rejection.id)
        if rejection.id in private:
            yield _WrittenVersion(
                rejection.resource, rejection.key, private[rejection.id].effective_id
            )
    _delete_private(connection, "effects", list(private))


def _list_overruled(connection: Connection, effects: Sequence[Effect]) -> Iterator[_WrittenVersion]:
    """Yield the versions written by decided commands with a private decision that differs."""
    ids = [effect.id for effect in effects]
    private = find_effects(connection, ids)
    for effect in effects:
        own = private.get(effect.id)
        if own is not None and own.effective_id != effect.effective_id:
            yield _WrittenVersion(own.resource, own.key, own.effective_id)
    _delete_private(connection, "rejections", ids)


def _delete_private(connection: Connection, table: str, ids: Sequence[str]) -> None:
    """Delete private decisions that differ from the archive's decisions."""
    if ids:
        statement = "DELETE FROM {} WHERE slot IS NULL AND id = ANY(%s::uuid[])"
        name = sql.Identifier("forebay", table)
        connection.execute(sql.SQL(statement).format(name), [list(ids)])


def _remove(
    connection: Connection, spec: ResourceSpec, versions: Sequence[_WrittenVersion]
) -> int | None:
    """Remove rows and tombstones; return their number, or None if other rows refer to them."""
    statements = _build_undo_statements(spec)
    try:
        with connection.transaction():
            rows = _execute(connection, statements.outdate, spec, versions)
            _execute(connection, statements.edits, spec, versions)
            rows += _execute(connection, statements.rows, spec, versions)
            return rows + _execute(connection, statements.tombstones, spec, versions)
    except psycopg.errors.ForeignKeyViolation:
        return None


def _execute(
    connection: Connection,
    statement: sql.Composed,
    spec: ResourceSpec,
    versions: Sequence[_WrittenVersion],
) -> int:
    values = {
        "resource": spec.path,
        "keys": [version.key for version in versions],
        "ids": [version.id for version in versions],
        "outdated": [mark_outdated(version.id) for version in versions],
        "orphaned": [mark_orphaned(version.id) for version in versions],
    }
    return connection.execute(statement, values).rowcount


class _WrittenVersion(NamedTuple):
    """A version of a row or tombstone that a command may have written."""

    resource: str
    #: As text.
    key: str
    #: The id under which the command has taken its place.
    id: str


class _UndoStatements(NamedTuple):
    """Statements that undo commands of a resource."""

    outdate: sql.Composed
    edits: sql.Composed
    rows: sql.Composed
    mark: sql.Composed
    tombstones: sql.Composed


def _build_undo_statements(spec: ResourceSpec) -> _UndoStatements:
    parts: dict[str, sql.Composable] = {
        "table": sql.Identifier("public", spec.table),
        "key": sql.Identifier(spec.key.name),
        "type": sql.SQL(spec.key.sql_type),
    }
    statements = (_OUTDATE_PATCHED, _UNDO_EDITS, _UNDO_ROWS, _MARK_ROWS, _UNDO_TOMBSTONES)
    return _UndoStatements(*(sql.SQL(text).format(**parts) for text in statements))


# A row with the value of a rejected patch is written again by its own command, in a replay: the
# value before is not known here.
_OUTDATE_PATCHED = """
    UPDATE {table} AS t SET _version = ('e' || substr(t._version::text, 2, 13)
      || substr(t._version::text, 1, 1) || substr(t._version::text, 16))::uuid
    FROM unnest(%(keys)s::text[], %(ids)s::uuid[]) AS r (key, id)
    JOIN forebay.edits AS e ON e.resource = %(resource)s AND e.key = r.key
    WHERE pg_input_is_valid(r.key, '{type}')
      AND t.{key} = CASE WHEN pg_input_is_valid(r.key, '{type}') THEN r.key::{type} END
      AND r.id::text IN (SELECT value FROM jsonb_each_text(e.fields))
      AND t._version < 'e0000000-0000-0000-0000-000000000000'::uuid
"""
# Also if the base of the patches is rejected: a replay brings them back.
# A kept line begins with `{"v":1,"id":"`. As JSON, a line with an escaped NUL could not be read.
_UNDO_EDITS = """
    DELETE FROM forebay.edits AS e
    USING unnest(%(keys)s::text[], %(ids)s::uuid[], %(outdated)s::uuid[]) AS r (key, id, outdated)
    WHERE e.resource = %(resource)s AND e.key = r.key
      AND (r.id::text IN (SELECT value FROM jsonb_each_text(e.fields))
           OR EXISTS (SELECT FROM unnest(e.kept) AS line WHERE substr(line, 14, 36) = r.id::text)
           OR EXISTS (
             SELECT FROM {table} AS t
             WHERE t.{key} = CASE WHEN pg_input_is_valid(r.key, '{type}') THEN r.key::{type} END
               AND t._version IN (r.id, r.outdated)))
"""
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
