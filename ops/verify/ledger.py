"""Check that the numbers of each ledger row are consistent, and that tombstones are declared."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from forebay.db.connect import Connection
from forebay.resource.spec import ResourceSpec, find_retired
from ops.verify.compare import Findings

_LEDGER = "forebay.ledger"
_TOMBSTONES = "forebay.tombstones"


def check_counts(connection: Connection, findings: Findings, *, known: Collection[str] = ()) -> int:
    """Report the ledger rows with counts, a histogram or times that contradict each other.

    Every line counts as one of the five: applied, superseded, duplicate, rejected or skipped. The
    live run adds every line that is a command to the histogram. A replay leaves the histogram
    unchanged, so an object that was interrupted may have a smaller one.

    Args:
        connection: a connection to the database.
        findings: receives the differences.
        known: objects with rows that are reported already.

    Returns:
        The number of such rows.
    """
    rows = [row for row in connection.execute(_CONTRADICTIONS) if row[0] not in known]
    for key, lines, counts, lags, commands in rows:
        histogram = "no histogram" if lags is None else f"a histogram of {lags}"
        findings.add(
            _LEDGER,
            key,
            f"{lines} lines, {commands} of them commands",
            f"{lines} lines, counts {counts}, {histogram}: these contradict each other",
        )
    return len(rows)


def check_tombstones(
    connection: Connection, resources: Mapping[str, ResourceSpec], findings: Findings
) -> int:
    """Report the tombstones of resources that are neither declared nor retired.

    Returns:
        The number of such tombstones.
    """
    rows = connection.execute(_UNDECLARED, [[*resources, *find_retired(resources)]]).fetchall()
    for resource, key, version in rows:
        findings.add(_TOMBSTONES, f"{resource} {key}", "the resource is not declared", version)
    return len(rows)


# The id of an invalid line's rejection is a UUIDv5; ids of commands are UUIDv7.
_CONTRADICTIONS = """
    WITH bad AS (
      SELECT object, count(*) AS lines FROM forebay.rejections
      WHERE substr(id::text, 15, 1) = '5' GROUP BY object),
    rows AS (
      SELECT l.*, l.lines - coalesce(bad.lines, 0) AS commands,
             (SELECT coalesce(sum(n), 0) FROM unnest(l.lags) AS n) AS lagging,
             (SELECT coalesce(min(coalesce(n, -1)), 0) FROM unnest(l.lags) AS n) AS least_lagging
      FROM forebay.ledger AS l LEFT JOIN bad USING (object))
    SELECT object, lines,
           concat_ws(' + ', applied, superseded, duplicates, rejected, skipped),
           lags::text, commands
    FROM rows
    WHERE applied + superseded + duplicates + rejected + skipped <> lines
       OR least(lines, applied, superseded, duplicates, rejected, skipped, replays,
                least_lagging) < 0
       OR completed_at < started_at OR completed_at > now() + interval '1 hour'
       OR completed_at IS NOT NULL AND lags IS NOT NULL
          AND (lagging > commands OR replays = 0 AND lagging < commands)
    ORDER BY object
"""
_UNDECLARED = """
    SELECT resource, key, version::text FROM forebay.tombstones
    WHERE resource <> ALL(%s) ORDER BY resource, key
"""
