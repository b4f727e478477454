"""Marks rows as outdated, so that a replay writes them again.

A replay skips a row that has the command's version already. That is wrong if a defect wrote the
row: then its version is right and its values are not. A marked row loses to every command of its
key (law 2: a create whose id is greater than all others loses to each), so the replay, or a client,
replaces it. Until then the row stays readable, and readers see its original version: the mark is
reversible (`forebay.ids.original_version`).
"""

from __future__ import annotations

import datetime as dt

from psycopg import sql

from forebay.apply.table import lock_resources
from forebay.command import KeyValue
from forebay.db.connect import Connection
from forebay.ids import least_id
from forebay.resource.spec import ResourceSpec


def count_rows(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
) -> int:
    """The number of rows whose versions are commands of that period."""
    row = connection.execute(
        _format_query(_COUNT, spec), _build_values(since, until, key)
    ).fetchone()
    return int(row[0]) if row else 0


def outdate(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
) -> int:
    """Mark those rows as outdated; return their number.

    Args:
        connection: to the primary, autocommit.
        spec: of the resource.
        since: start of the period in which the rows' commands were accepted.
        until: its end, exclusive.
        key: only the row of this key.
    """
    with connection.transaction():
        lock_resources(connection, [spec.path], exclusive=True)
        return connection.execute(
            _format_query(_OUTDATE, spec), _build_values(since, until, key)
        ).rowcount


def _build_values(
    since: dt.datetime, until: dt.datetime, key: KeyValue | None
) -> dict[str, object]:
    return {
        "since": least_id(since),
        "until": least_id(until),
        "key": None if key is None else str(key),
    }


def _format_query(query: sql.SQL, spec: ResourceSpec) -> sql.Composed:
    return query.format(
        table=sql.Identifier("public", spec.table), key=sql.Identifier(spec.key.name)
    )


_COUNT = sql.SQL("""
    SELECT count(*) FROM {table}
    WHERE _version >= %(since)s::uuid AND _version < %(until)s::uuid
      AND (%(key)s::text IS NULL OR {key}::text = %(key)s)
""")
# The mark is that of `forebay.ids.mark_outdated`.
_OUTDATE = sql.SQL("""
    UPDATE {table} SET _by_create = true, _version = (
      'f' || substr(_version::text, 2, 13) || left(_version::text, 1) || substr(_version::text, 16)
    )::uuid
    WHERE _version >= %(since)s::uuid AND _version < %(until)s::uuid
      AND (%(key)s::text IS NULL OR {key}::text = %(key)s)
""")
