"""What the health of the pipeline is told from, one visible statement per question."""

from __future__ import annotations

from typing import Final, LiteralString

#: Whether this is a replica, whether it is fed at the moment, how many seconds it is behind, and
#: the last position of the log that it has received.
#: A replica that has replayed all that it was sent is not behind, however old the last change is;
#: one that nobody feeds can't know what it has missed, so its last change is all there is to tell.
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

#: Whether a replica has replayed a position of the log.
REPLAYED: Final[LiteralString] = """
    SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)
"""

#: Of all objects that were finished in the last so many seconds: bucket (from 1) and commands.
#: Amendments have the ids of the time that they amend, and no lag.
LAGS: Final[LiteralString] = """
    SELECT u.bucket, sum(u.commands)
    FROM forebay.ledger AS l, unnest(l.lags) WITH ORDINALITY AS u (commands, bucket)
    WHERE l.completed_at > now() - make_interval(secs => %s)
      AND l.object !~ '/amend-[^/]*$'
    GROUP BY u.bucket
    ORDER BY u.bucket
"""

#: What the planner believes about the tables; null for one that was never analyzed.
ROWS: Final[LiteralString] = """
    SELECT name, nullif(c.reltuples, -1)::bigint
    FROM unnest(%s::text[]) AS name
    LEFT JOIN pg_class AS c ON c.oid = to_regclass('public.' || quote_ident(name))
"""

#: Rejections without a decision, counted up to the limit: the answer must not wait for a scan.
OPEN_REJECTIONS: Final[LiteralString] = """
    SELECT count(*)
    FROM (
      SELECT FROM forebay.rejections AS r
      WHERE NOT EXISTS (SELECT FROM forebay.decisions AS d WHERE d.rejection = r.id)
      LIMIT 100000) AS undecided
"""

#: Those of the objects that are not applied whole.
UNAPPLIED: Final[LiteralString] = """
    SELECT stored.key
    FROM unnest(%s::text[]) AS stored (key)
    WHERE NOT EXISTS (
      SELECT FROM forebay.ledger AS l
      WHERE l.object = stored.key AND l.completed_at IS NOT NULL)
"""
