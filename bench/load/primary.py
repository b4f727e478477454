"""What the primary does for a load: processor seconds of all its processes, and transactions."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import psycopg

from local.postgres.config import SUPERUSER, Cluster

_STATISTICS_SECONDS = 1.5  # a backend reports its transactions at most once a second


@dataclass(frozen=True, slots=True)
class Work:
    """What was done up to a moment, or between two."""

    cpu_seconds: float
    transactions: int
    wal_bytes: int
    seconds: float

    def since(self, before: Work) -> Work:
        """Between the other and this."""
        return Work(
            self.cpu_seconds - before.cpu_seconds,
            self.transactions - before.transactions,
            self.wal_bytes - before.wal_bytes,
            self.seconds - before.seconds,
        )

    def per(self, commands: int, unit: int) -> dict[str, float]:
        """For so many commands of those that it was done for."""
        share = unit / max(1, commands)
        return {
            "cpu_seconds": round(self.cpu_seconds * share, 4),
            "transactions": round(self.transactions * share, 2),
            "wal_mebibytes": round(self.wal_bytes * share / 2**20, 3),
        }


def look(cluster: Cluster) -> Work:
    """What the primary has done since its start; afterwards there is nothing left to be written.

    A checkpoint first: what a load made dirty is written at its own cost, not at the next one's.
    """
    with psycopg.connect(cluster.url(SUPERUSER), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        time.sleep(_STATISTICS_SECONDS)
        row = connection.execute(
            "SELECT xact_commit + xact_rollback, pg_current_wal_lsn() - '0/0'::pg_lsn "
            "FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate of our own database
    return Work(_cpu_seconds(cluster), int(row[0]), int(row[1]), time.monotonic())


def _cpu_seconds(cluster: Cluster) -> float:
    """Of the server: its own, of processes that have ended, and of those that run."""
    pid = int((cluster.folder / "postmaster.pid").read_text(encoding="ascii").split()[0])
    postmaster = psutil.Process(pid)
    own = postmaster.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in postmaster.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue  # by now among those that have ended: the next look counts it
        total += times.user + times.system
    return float(total)
