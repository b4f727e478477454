"""Marks rows as outdated, so that a replay writes them again.

A replay skips a row that has the command's version already. That is wrong if a defect wrote the
row: then its version is right and its values are not. A marked row loses to the command that made
it, and to those that beat this command (law 2). Until one of them replaces it, the row stays
readable, and readers see its original version: the mark is reversible
(`forebay.ids.original_version`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from psycopg import sql

from forebay.apply.rows.table import ORIGINAL_VERSION
from forebay.command import KeyValue
from forebay.db.connect import Connection
from forebay.db.locks import lock_resources
from forebay.ids import NIL, ORPHANED_DIGIT, OUTDATED_DIGIT, accepted_ms, make_least_id
from forebay.resource.spec import ResourceSpec


def count_rows(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
    *,
    orphaned: bool = False,
) -> int:
    """The number of rows that `outdate` would mark."""
    values = _build_values(spec, since, until, key, orphaned=orphaned)
    row = connection.execute(_format_query(_COUNT, spec), values).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class Outdated:
    """The result of `outdate`."""

    rows: int
    #: The period in which the commands of the rows and their patches were accepted; its end is
    #: exclusive. At least the period that was given.
    since: dt.datetime
    until: dt.datetime


def outdate(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
    *,
    orphaned: bool = False,
) -> Outdated:
    """Mark rows as outdated, and forget their patches, so that a replay writes both again.

    Args:
        connection: to the primary, autocommit.
        spec: of the resource.
        since: start of the period in which the rows' commands were accepted.
        until: its end, exclusive.
        key: only the row of this key.
        orphaned: whether the archive no longer has the rows' commands, so that the rows lose to
            every other command of their keys.
    """
    values = _build_values(spec, since, until, key, orphaned=orphaned)
    with connection.transaction():
        lock_resources(connection, [spec.path], exclusive=True)
        period = connection.execute(_format_query(_PERIOD, spec), values).fetchone()
        connection.execute(_format_query(_FORGET, spec), values)
        rows = connection.execute(_format_query(_OUTDATE, spec), values).rowcount
    first_id, last_id = period or (None, None)
    if first_id is None or last_id is None:
        return Outdated(rows, since, until)
    return Outdated(
        rows,
        min(since, _get_time(first_id)),
        max(until, _get_time(last_id) + dt.timedelta(seconds=1)),
    )


def _get_time(command_id: str) -> dt.datetime:
    """Return the time of acceptance, in whole seconds."""
    return dt.datetime.fromtimestamp(accepted_ms(command_id) // 1000, dt.UTC)


def _build_values(
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None,
    *,
    orphaned: bool,
) -> dict[str, object]:
    digit = ORPHANED_DIGIT if orphaned else OUTDATED_DIGIT
    return {
        "resource": spec.path,
        "since": make_least_id(since),
        "until": make_least_id(until),
        "key": None if key is None else str(key),
        "digit": digit,
        "least_mark": digit + NIL[1:],
        "orphaned": orphaned,
    }


def _format_query(query: sql.SQL, spec: ResourceSpec) -> sql.Composed:
    return query.format(
        table=sql.Identifier("public", spec.table),
        key=sql.Identifier(spec.key.name),
        version=sql.SQL(ORIGINAL_VERSION),
    )


_WHERE = """
    WHERE {version} >= %(since)s::uuid AND {version} < %(until)s::uuid
      AND t._version < %(least_mark)s::uuid
      AND (%(key)s::text IS NULL OR t.{key}::text = %(key)s)
"""
_COUNT = sql.SQL("SELECT count(*) FROM {table} AS t <where>".replace("<where>", _WHERE))
#: The smallest and the greatest id of the commands that the rows and their patches are from.
_PERIOD = sql.SQL(
    """
    WITH rows AS (SELECT t.{key}::text AS key, {version} AS version FROM {table} AS t <where>),
    edits AS (SELECT e.* FROM forebay.edits AS e JOIN rows USING (key)
              WHERE e.resource = %(resource)s),
    patches AS (
      SELECT f.value AS id FROM edits, jsonb_each_text(
        CASE WHEN jsonb_typeof(fields) = 'object' THEN fields ELSE '{{}}' END) AS f
      UNION ALL SELECT substr(line, 14, 36)
      FROM edits, unnest(kept) AS line),
    ids AS (
      SELECT version AS id FROM rows
      UNION ALL SELECT CASE WHEN pg_input_is_valid(id, 'uuid') THEN id::uuid END FROM patches)
    SELECT min(coalesce(e.id, ids.id)::text COLLATE "C"), max(ids.id::text COLLATE "C")
    FROM ids
    LEFT JOIN forebay.effects AS e ON e.effective_id = ids.id AND e.effective_id <> e.id
    """.replace("<where>", _WHERE)
)
_FORGET = sql.SQL(
    """
    DELETE FROM forebay.edits AS e USING {table} AS t
    <where> AND e.resource = %(resource)s AND e.key = t.{key}::text
    """.replace("<where>", _WHERE)
)
# The marks are those of `forebay.ids`.
_OUTDATE = sql.SQL(
    """
    UPDATE {table} AS t SET _by_create = t._by_create OR %(orphaned)s, _version = (
      %(digit)s || substr({version}::text, 2, 13) || left({version}::text, 1)
      || substr({version}::text, 16)
    )::uuid
    <where>
    """.replace("<where>", _WHERE)
)
