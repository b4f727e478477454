"""Marks rows as outdated, so that a replay writes them again.

A replay skips a row that has the command's version already. That is wrong if a defect wrote the
row: then its version is right and its values are not. A marked row loses to the command that made
it, and to those that beat this command (law 2). Until one of them replaces it, the row stays
readable, and readers see its original version: the mark is reversible
(`forebay.ids.original_version`).
"""

from __future__ import annotations

import datetime as dt

from psycopg import sql

from forebay.apply.statements import ORIGINAL_VERSION
from forebay.command import KeyValue
from forebay.db.connect import Connection
from forebay.db.locks import lock_resources
from forebay.ids import NIL, ORPHANED_DIGIT, OUTDATED_DIGIT, least_id
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
    values = _build_values(since, until, key, orphaned=orphaned)
    row = connection.execute(_format_query(_COUNT, spec), values).fetchone()
    return int(row[0]) if row else 0


def outdate(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
    *,
    orphaned: bool = False,
) -> int:
    """Mark rows as outdated; return their number.

    Args:
        connection: to the primary, autocommit.
        spec: of the resource.
        since: start of the period in which the rows' commands were accepted.
        until: its end, exclusive.
        key: only the row of this key.
        orphaned: whether the archive no longer has the rows' commands, so that the rows lose to
            every other command of their keys.
    """
    values = _build_values(since, until, key, orphaned=orphaned)
    with connection.transaction():
        lock_resources(connection, [spec.path], exclusive=True)
        return connection.execute(_format_query(_OUTDATE, spec), values).rowcount


def _build_values(
    since: dt.datetime, until: dt.datetime, key: KeyValue | None, *, orphaned: bool
) -> dict[str, object]:
    digit = ORPHANED_DIGIT if orphaned else OUTDATED_DIGIT
    return {
        "since": least_id(since),
        "until": least_id(until),
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
