"""The health queries, one readable statement per purpose."""

from __future__ import annotations

from typing import Final, LiteralString

from forebay.unmet import NOT_UNMET_SQL

#: Columns: is this a replica, is it streaming, its lag in seconds, and the last position of the log
#: that it has received. A streaming replica that has replayed all it received
#: is not behind, however old the last change is. A replica that is not streaming can't detect
#: missed changes; its last change is the only measure.
REPLICATION: Final[LiteralString] = """
    WITH r AS (
      SELECT pg_is_in_recovery() AS replica,
             EXISTS (SELECT FROM pg_stat_wal_receiver) AS streaming,
             pg_last_wal_receive_lsn() AS received,
             pg_last_wal_replay_lsn() AS replayed,
             extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS age
    )
    SELECT replica, streaming,
           CASE WHEN NOT replica THEN NULL
                WHEN streaming AND received = replayed THEN 0
                ELSE greatest(age, 0) END::float8,
           received::text
    FROM r
"""

#: True if a replica has replayed a position of the log.
REPLAYED: Final[LiteralString] = """
    SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)
"""

#: The buckets (from 1) and commands of all objects that were completed in the last so many seconds.
#: Amendments have the ids of the time that they amend, and no lag.
LAGS: Final[LiteralString] = """
    SELECT u.bucket, sum(u.commands)
    FROM forebay.ledger AS l, unnest(l.lags) WITH ORDINALITY AS u (commands, bucket)
    WHERE l.completed_at > now() - make_interval(secs => %s)
      AND l.object !~ '/amend-[^/]*$'
    GROUP BY u.bucket
    ORDER BY u.bucket
"""

#: The planner's estimates of the tables' rows; null for a table that was never analyzed.
ROWS: Final[LiteralString] = """
    SELECT name, nullif(c.reltuples, -1)::bigint
    FROM unnest(%s::text[]) AS name
    LEFT JOIN pg_class AS c ON c.oid = to_regclass('public.' || quote_ident(name))
"""

#: Rejections that wait for an operator, counted up to a limit to avoid a long scan.
OPEN_REJECTIONS: Final[LiteralString] = f"""
    SELECT count(*)
    FROM (
      SELECT FROM forebay.rejections AS r
      WHERE r.{NOT_UNMET_SQL}
        AND NOT EXISTS (SELECT FROM forebay.decisions AS d WHERE d.rejection = r.id)
      LIMIT 100000) AS undecided
"""  # noqa: S608 - a constant

#: The objects that are not completely applied.
UNAPPLIED: Final[LiteralString] = """
    SELECT stored.key
    FROM unnest(%s::text[]) AS stored (key)
    WHERE NOT EXISTS (
      SELECT FROM forebay.ledger AS l
      WHERE l.object = stored.key AND l.completed_at IS NOT NULL)
"""
