"""The processor time that reads take from a replica, with the read cache and without it.

Each request is sent ten times in random order, so nine of ten are hits. Before each round all
answers become invalid, as by a change of the tables. A miss costs the replica more than the same
read without the cache, because its answer has to be proven. The server's processes are measured,
not the time of the requests: other work on the machine affects that less.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from bench import cities
from bench.events import build_proxy_event, unheard
from bench.harness import Aim, Contender, Findings, duration, measure, say
from bench.postgres import Database
from bench.stage import Stage
from forebay.db.connect import connect
from forebay.log import Level, Log
from forebay.metrics import (
    CACHE_ANSWERS_REFUSED,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_SKIPPED,
    Metric,
)
from forebay.read_cache.address import Address
from forebay.read_cache.link import CHANGE_BUDGET, Link
from forebay.read_cache.writer import Announcer
from lambdas.read.app import ReadApp
from lambdas.read.bootstrap import SERVICE

#: The number of different requests of each kind. The mix has all of them.
ITEMS, LISTS, COUNTS = 600, 300, 100
REPEATS = 10
ROUNDS = 5
_PAGE_ROWS = 25
_ATTEMPTS = 10
_MIX = "items, lists and counts"

Events = Sequence[dict[str, Any]]


def compare(stage: Stage) -> Findings:
    """Send items, lists and counts to a function with the cache and to one without it."""
    with ExitStack() as resources:
        database = resources.enter_context(stage.database())
        cities.fill(database)
        resources.enter_context(unheard())
        kinds = _build_events(stage, database)
        server = _Server(database)
        cache = _Cache(stage.read_cache, database)
        plain = cities.reader(database)
        contenders = []
        for kind, events in kinds.items():
            contenders.append(Contender(kind, server.measured(plain, events), len(events)))
            run = cache.repeated(server.measured(cache.app, events), len(events))
            contenders.append(Contender(_cached(kind), run, len(events)))
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    findings = Findings(series)
    findings.ratios = [
        duration(
            f"processor time of a replica at 90 % hits, {kind}",
            series,
            _cached(kind),
            kind,
            Aim(at_most=0.2) if kind == _MIX else None,
        )
        for kind in kinds
    ]
    findings.facts = {
        "microseconds_of_postgres_per_request": {
            timing.name: round(1e6 * min(timing.seconds) / timing.items, 1) for timing in series
        },
        "rounds_repeated_because_the_cache_was_skipped": cache.repetitions,
    }
    return findings


def _cached(kind: str) -> str:
    return f"{kind}, read cache"


def _build_events(stage: Stage, database: Database) -> dict[str, Events]:
    """The requests of each kind, and of the mix, each with its repetitions."""
    keys = database.rows("SELECT geonameid FROM cities ORDER BY md5(name), geonameid")
    countries = database.rows("SELECT DISTINCT country_code FROM cities ORDER BY country_code")
    items = [
        build_proxy_event("GET", "/cities/{key}", path={"key": str(key)})
        for (key,) in keys[: stage.size(ITEMS)]
    ]
    queries = [
        {"country_code": f"eq.{country}", "order": order, "limit": str(_PAGE_ROWS)}
        for order in ("population.desc", "name")
        for (country,) in countries
    ]
    lists = [build_proxy_event("GET", "/cities", query=query) for query in queries]
    counts = [
        build_proxy_event("GET", "/cities", query=query, headers={"Prefer": "count=exact"})
        for query in queries
    ]
    kinds = {"items": items, "lists": lists[: stage.size(LISTS)]}
    kinds["counts"] = counts[: stage.size(COUNTS)]
    kinds[_MIX] = [event for events in kinds.values() for event in events]
    return {kind: _shuffle(events * REPEATS) for kind, events in kinds.items()}


def _shuffle(events: list[dict[str, Any]]) -> Events:
    random.Random(len(events)).shuffle(events)  # the same order in each run
    return events


class _Server:
    """The processes of Postgres."""

    def __init__(self, database: Database) -> None:
        folder = Path(database.rows("SHOW data_directory")[0][0])
        first_line = (folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0]
        self._process = psutil.Process(int(first_line))

    def measured(self, app: ReadApp, events: Events) -> Callable[[], float]:
        """A run of the requests that returns the processor time of Postgres."""

        def run() -> float:
            before = self._read_seconds()
            for event in events:
                if app.handle(event).to_proxy("*")["statusCode"] not in {200, 206}:
                    raise AssertionError(event)
            return self._read_seconds() - before

        return run

    def _read_seconds(self) -> float:
        """Of all processes, also of those that have ended, such as parallel workers."""
        own = self._process.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        for child in self._process.children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:  # counted as ended at the next reading
                continue
            seconds += times.user + times.system
        return float(seconds)


class _Cache:
    """The read cache, and the function that uses it."""

    def __init__(self, address: str, database: Database) -> None:
        self._database = database
        parsed = Address.parse(address)
        assert parsed is not None  # noqa: S101 - a URL is never empty
        self._announcer = Announcer(Link(parsed, CHANGE_BUDGET))
        self._log = _CountingLog(SERVICE)
        self.app = cities.reader(database, read_cache=address, log=self._log)
        #: How often the machine was too busy for the time budget of the cache.
        self.repetitions = 0

    def repeated(self, run: Callable[[], float], requests: int) -> Callable[[], float]:
        """Runs in which the cache answered, or was asked for, every request."""

        def attempt() -> float:
            for _ in range(_ATTEMPTS):
                self._invalidate()
                self._log.counts.clear()
                seconds = run()
                if self._log.counts == _expect_counts(requests):
                    return seconds
                say(f"  again, because the cache was skipped: {dict(self._log.counts)}")
                self.repetitions += 1
                time.sleep(1)
            raise AssertionError("the read cache does not answer in time")

        return attempt

    def _invalidate(self) -> None:
        """Make all answers invalid, as a change of the tables by an operator's tool does."""
        with connect(
            self._database.url,
            application_name="bench-change",
            statement_timeout_ms=10_000,
        ) as connection:
            self._announcer.announce_everything(connection)


def _expect_counts(requests: int) -> Counter[Metric]:
    misses = requests // REPEATS
    return Counter({CACHE_MISSES: misses, CACHE_HITS: requests - misses})


class _CountingLog(Log):
    """Writes the same lines, and counts the metrics of the read cache in them."""

    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.counts: Counter[Metric] = Counter()

    def event(
        self,
        action: str,
        *,
        level: Level = "INFO",
        metrics: Mapping[Metric, float] | None = None,
        **fields: Any,  # noqa: ANN401 - as of the log
    ) -> None:
        for metric in (CACHE_HITS, CACHE_MISSES, CACHE_SKIPPED, CACHE_ANSWERS_REFUSED):
            self.counts[metric] += int((metrics or {}).get(metric, 0))
        super().event(action, level=level, metrics=metrics, **fields)
