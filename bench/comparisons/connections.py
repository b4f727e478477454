"""Throughput of one to four consumers, and whether CPU, log or locks limit it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any, Self

import psutil
import psycopg

from bench import orders
from bench.consumers import Consumers, running
from bench.harness import Contender, Findings, measure, speed
from bench.postgres import Database
from bench.stage import Stage
from local.postgres.config import SUPERUSER

COMMANDS = 200_000
ROUNDS = 3
MOST = 4
_SAMPLE_SECONDS = 0.02


def compare(stage: Stage) -> Findings:
    """Apply the same new rows with one to four consumers."""
    commands = list(orders.commands(stage.size(COMMANDS)))
    objects = orders.write_objects(stage.folder, orders.encode_lines(commands), name="new")
    findings = Findings()
    activity: dict[str, Any] = {}
    with ExitStack() as resources:
        database = resources.enter_context(stage.database())
        contenders = []
        for count in range(1, MOST + 1):
            consumers = resources.enter_context(
                running(count, url=database.url, folder=stage.folder)
            )
            name = _name(count)

            def apply(consumers: Consumers = consumers, name: str = name) -> None:
                with _Watch(database) as watch:
                    counts = consumers.apply(objects.keys)
                if counts.applied != len(commands):
                    raise AssertionError(counts)
                activity[name] = watch.summary()

            contenders.append(Contender(name, apply, len(commands), database.empty))
        findings.series = measure(contenders, rounds=stage.rounds(ROUNDS))
    findings.ratios = [
        speed(f"new rows by {_name(count)}", findings.series, _name(count), _name(1))
        for count in range(2, MOST + 1)
    ]
    findings.facts = {"commands": len(commands), "seen": activity}
    return findings


def _name(count: int) -> str:
    return "1 consumer" if count == 1 else f"{count} consumers"


class _Watch:
    """Samples the machine and the wait events of the consumers' backends while they work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waits: Counter[str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._wal = self._read_wal_bytes()
        self._cpu = psutil.cpu_times()
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._started
        self._ended.set()
        self._thread.join()
        self._cpu_after = psutil.cpu_times()
        self._wal = self._read_wal_bytes() - self._wal

    def summary(self) -> dict[str, Any]:
        """The share of samples by wait event, the share of busy cores, and the log per second.

        `Client` waits are for the consumer's Python; `running` is Postgres at work.
        """
        total = sum(self._waits.values()) or 1
        idle = self._cpu_after.idle - self._cpu.idle
        cores = psutil.cpu_count() or 1
        return {
            "backends": {what: round(n / total, 2) for what, n in self._waits.most_common(8)},
            "cores_busy": round(1 - idle / (self._seconds * cores), 2),
            "log_mebibytes_per_second": round(self._wal / 2**20 / self._seconds, 1),
        }

    def _look(self) -> None:
        url = self._database.cluster.url(SUPERUSER, self._database.name)
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._ended.wait(_SAMPLE_SECONDS):
                for kind, event in connection.execute(_WAITS).fetchall():
                    self._waits["running" if kind is None else f"{kind}: {event}"] += 1

    def _read_wal_bytes(self) -> int:
        row = self._database.rows("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(row[0][0])


_WAITS = """
    SELECT wait_event_type, wait_event FROM pg_stat_activity
    WHERE application_name = 'forebay-consumer' AND datname = current_database()
"""
