"""Marks rows so that a replay writes them anew.

A replay leaves alone what has its version already. That is right unless the row was written wrongly
by a defect: then its version is right and its values are not. A row that is marked here loses to
every command of its key (law 2: a create with the greatest id there is loses to each), so that the
replay, or a client, writes it anew; until then it stays readable as it is.
"""

from __future__ import annotations

import datetime as dt

from psycopg import sql

from forebay.apply.table import lock_resources
from forebay.command import KeyValue
from forebay.db.connect import Connection
from forebay.resource.spec import ResourceSpec

#: No command has it: a UUIDv7 begins with the time.
LOSES_TO_ALL = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def count_rows(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
) -> int:
    """How many rows commands of that time have made what they are."""
    row = connection.execute(_named(_COUNT, spec), _values(since, until, key)).fetchone()
    return int(row[0]) if row else 0


def outdate(
    connection: Connection,
    spec: ResourceSpec,
    since: dt.datetime,
    until: dt.datetime,
    key: KeyValue | None = None,
) -> int:
    """Marks those rows; how many that were.

    Args:
        connection: to the primary, autocommit.
        spec: of the resource.
        since: when the first command was accepted whose row is marked.
        until: before which time the last one was.
        key: only the row of this key.
    """
    with connection.transaction():
        lock_resources(connection, [spec.path], exclusive=True)
        return connection.execute(_named(_OUTDATE, spec), _values(since, until, key)).rowcount


def _values(since: dt.datetime, until: dt.datetime, key: KeyValue | None) -> dict[str, object]:
    return {
        "since": _least_id(since),
        "until": _least_id(until),
        "key": None if key is None else str(key),
        "loses": LOSES_TO_ALL,
    }


def _least_id(moment: dt.datetime) -> str:
    """What sorts before every command id of that millisecond or later."""
    stamp = f"{round(moment.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-0000-0000-000000000000"


def _named(query: sql.SQL, spec: ResourceSpec) -> sql.Composed:
    return query.format(
        table=sql.Identifier("public", spec.table), key=sql.Identifier(spec.key.name)
    )


_COUNT = sql.SQL("""
    SELECT count(*) FROM {table}
    WHERE _version >= %(since)s::uuid AND _version < %(until)s::uuid
      AND (%(key)s::text IS NULL OR {key}::text = %(key)s)
""")
_OUTDATE = sql.SQL("""
    UPDATE {table} SET _version = %(loses)s::uuid, _by_create = true
    WHERE _version >= %(since)s::uuid AND _version < %(until)s::uuid
      AND (%(key)s::text IS NULL OR {key}::text = %(key)s)
""")
