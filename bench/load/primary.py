"""The primary's work for a load: processor seconds of all its processes, and transactions."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import psycopg

from local.postgres.config import SUPERUSER, Cluster

_STATISTICS_SECONDS = 1.5  # a backend reports its transactions at most once a second


@dataclass(frozen=True, slots=True)
class Work:
    """The work up to a moment, or between two moments."""

    cpu_seconds: float
    transactions: int
    wal_bytes: int
    seconds: float

    def since(self, before: Work) -> Work:
        """The work from `before` to this moment."""
        return Work(
            self.cpu_seconds - before.cpu_seconds,
            self.transactions - before.transactions,
            self.wal_bytes - before.wal_bytes,
            self.seconds - before.seconds,
        )

    def per(self, commands: int, unit: int) -> dict[str, float]:
        """The work per `unit` commands, if the total is the work for `commands`."""
        share = unit / max(1, commands)
        return {
            "cpu_seconds": round(self.cpu_seconds * share, 4),
            "transactions": round(self.transactions * share, 2),
            "wal_mebibytes": round(self.wal_bytes * share / 2**20, 3),
        }


def look(cluster: Cluster) -> Work:
    """The primary's work since its start; all of it is written to disk first.

    The initial checkpoint makes each load, and not the next one, pay for writing its changed pages.
    """
    with psycopg.connect(cluster.url(SUPERUSER), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        time.sleep(_STATISTICS_SECONDS)
        row = connection.execute(
            "SELECT xact_commit + xact_rollback, pg_current_wal_lsn() - '0/0'::pg_lsn "
            "FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate of our own database
    return Work(_read_cpu_seconds(cluster), int(row[0]), int(row[1]), time.monotonic())


def _read_cpu_seconds(cluster: Cluster) -> float:
    """Processor seconds of the server: its own, those of ended processes, and of running ones."""
    pid = int((cluster.folder / "postmaster.pid").read_text(encoding="ascii").split()[0])
    postmaster = psutil.Process(pid)
    server_times = postmaster.cpu_times()
    total = (
        server_times.user
        + server_times.system
        + server_times.children_user
        + server_times.children_system
    )
    for child in postmaster.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it has ended: the next call counts it
        total += times.user + times.system
    return float(total)
