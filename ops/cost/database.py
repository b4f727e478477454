"""The database's part of the bill, for RDS and Aurora."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ops.cost import prices
from ops.cost.prices import HOURS_PER_MONTH, Price
from ops.cost.settings import AuroraDatabase, ManagedDatabase, RdsDatabase, ReadCache, Settings
from ops.errors import UsageError

#: Rows a second that one processor of the primary writes: docs/performance.md, on two cores.
APPLIED_PER_PROCESSOR: Final = 22_000
SYNCHRONOUS_PER_PROCESSOR: Final = 1_150
HEADROOM: Final = 0.5  # of a processor may be busy on average
#: A unit has 2 GiB of memory, and r-classes have 8 GiB for each processor.
_UNITS_PER_PROCESSOR: Final = 4
_LEAST_UNITS: Final = 0.5  # of a cluster that is awake
#: Aurora bills the data instead of a volume; an assumption.
_AURORA_GIGABYTES: Final = 10
_SMALL_SIZES: Final[Mapping[str, float]] = {"micro": 0.125, "small": 0.25, "medium": 0.5}
_PROCESSORS_OF_LARGE: Final = 2  # and of every smaller size
_LEAST_PROXY_PROCESSORS: Final = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the bill."""

    name: str
    dollars: float
    explained: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a primary."""

    #: Commands per second, in the second for which the primary is sized.
    writes_per_second: float
    #: Commands per second that one processor writes.
    per_processor: float
    #: Commands in the month.
    commands: float
    #: False if no client uses the database.
    used: bool

    @property
    def processors(self) -> float:
        """The processors that the work needs, with headroom."""
        return self.writes_per_second / (self.per_processor * HEADROOM)


def price_database(settings: Settings, work: Work) -> Iterator[Item]:
    """Yield the items of the database; none for an external database.

    Raises:
        UsageError: the price of the instance class is unknown.
    """
    match settings.database:
        case RdsDatabase() as database:
            yield _price_instances(database, work)
            yield _price_volumes(database)
        case AuroraDatabase() as database:
            yield _price_cluster(database, work, settings.sweep.every_minutes)
            yield _price_cluster_storage(database, work)


def price_proxy(database: ManagedDatabase, work: Work) -> Item:
    """Return the item of RDS Proxy in front of the primary."""
    processors = max(_LEAST_PROXY_PROCESSORS, count_processors(database, work))
    dollars = processors * HOURS_PER_MONTH * prices.DATABASE_PROXY.dollars
    return Item("RDS Proxy", dollars, f"{processors:g} processors")


def price_read_cache(cache: ReadCache) -> Item:
    """Return the item of the read cache's nodes.

    Raises:
        UsageError: the price of the node type is unknown.
    """
    assert cache.node_type is not None  # noqa: S101 - only on the emulator
    nodes = 1 + cache.replicas
    hourly = nodes * _find_hourly(prices.CACHE_LARGE, cache.node_type)
    return Item("Read cache", hourly * HOURS_PER_MONTH, f"{nodes} {cache.node_type}")


def count_processors(database: ManagedDatabase, work: Work | None = None) -> float:
    """Return the processors of the primary: as configured, or as many as the work needs."""
    if isinstance(database, AuroraDatabase) and database.serverless is not None:
        configured: float = database.serverless.max_units / _UNITS_PER_PROCESSOR
        return configured if work is None else max(configured, work.processors)
    _, factor = _parse_class(_get_class(database))
    processors = max(1, factor) * _PROCESSORS_OF_LARGE
    return processors * (1 if work is None else _count_sizes(database, work))


def _price_instances(database: RdsDatabase, work: Work) -> Item:
    sizes = _count_sizes(database, work)
    primaries = sizes * (2 if database.multi_az else 1)
    replica_class = database.replica_class or database.instance_class
    hourly = primaries * _find_hourly(prices.RDS_LARGE, database.instance_class)
    hourly += database.replicas * _find_hourly(prices.RDS_LARGE, replica_class)
    standby = " and its standby" if database.multi_az else ""
    return Item(
        "Database instances",
        hourly * HOURS_PER_MONTH,
        f"{primaries} {database.instance_class} for the primary{standby}, "
        f"{database.replicas} {replica_class} for replicas",
    )


def _price_volumes(database: RdsDatabase) -> Item:
    copies = (2 if database.multi_az else 1) + database.replicas
    dollars = database.storage_gibibytes * copies * prices.RDS_STORAGE.dollars
    return Item("Database storage", dollars, f"{database.storage_gibibytes} GB, {copies} copies")


def _price_cluster(database: AuroraDatabase, work: Work, sweep_minutes: int) -> Item:
    factor = prices.AURORA_OPTIMIZED_FACTOR if database.io_optimized else 1
    if database.serverless is None:
        count = _count_sizes(database, work) + database.instances - 1
        hourly = _find_hourly(prices.AURORA_LARGE, _get_class(database))
        dollars = count * factor * hourly * HOURS_PER_MONTH
        return Item("Database instances", dollars, f"{count} {_get_class(database)}")
    units, hours = _measure_capacity(database, work, sweep_minutes)
    dollars = units * hours * database.instances * factor * prices.AURORA_UNIT.dollars
    explained = f"{units:g} units for {hours:,.0f} hours, {database.instances} instances"
    return Item("Database instances", dollars, explained)


def _measure_capacity(
    database: AuroraDatabase, work: Work, sweep_minutes: int
) -> tuple[float, float]:
    """Return the capacity units of one serverless instance, and its hours awake in the month."""
    serverless = database.serverless
    assert serverless is not None  # noqa: S101 - checked by the caller
    units = max(serverless.min_units, _LEAST_UNITS, work.processors * _UNITS_PER_PROCESSOR)
    if work.used or serverless.pause_after_seconds is None:
        return units, HOURS_PER_MONTH
    sweeps = HOURS_PER_MONTH * 60 / sweep_minutes
    return units, min(HOURS_PER_MONTH, sweeps * serverless.pause_after_seconds / 3600)


def _price_cluster_storage(database: AuroraDatabase, work: Work) -> Item:
    if database.io_optimized:
        dollars = _AURORA_GIGABYTES * prices.AURORA_OPTIMIZED_STORAGE.dollars
        return Item("Database storage", dollars, f"{_AURORA_GIGABYTES} GB, I/O included")
    dollars = _AURORA_GIGABYTES * prices.AURORA_STORAGE.dollars
    dollars += work.commands * prices.AURORA_REQUEST.dollars
    explained = f"{_AURORA_GIGABYTES} GB, {work.commands / 1e6:,.1f} M I/O requests"
    return Item("Database storage", dollars, explained)


def _count_sizes(database: ManagedDatabase, work: Work) -> int:
    """Return how many times as large as configured the primary must be."""
    return max(1, math.ceil(work.processors / count_processors(database)))


def _get_class(database: ManagedDatabase) -> str:
    assert database.instance_class is not None  # noqa: S101 - a serverless cluster has none
    return database.instance_class


def _find_hourly(large: Mapping[str, Price], instance_class: str) -> float:
    family, factor = _parse_class(instance_class)
    if family not in large:
        raise UsageError(
            f"the price of {instance_class} is unknown; ops/cost/prices.py has the families "
            f"{', '.join(large)}: add the family's class `large`, with its source"
        )
    return large[family].dollars * factor


def _parse_class(instance_class: str) -> tuple[str, float]:
    """Return the family, and the size as a multiple of `large`: `r8g`, 4.0 of `r8g.2xlarge`."""
    family, _, size = instance_class.partition(".")
    if size in _SMALL_SIZES:
        return family, _SMALL_SIZES[size]
    count = size.removesuffix("large").removesuffix("x")
    if not size.endswith("large") or not (count.isdecimal() or not count):
        raise UsageError(f"{instance_class} is not an instance class; write it like r8g.2xlarge")
    if size == "large":
        return family, 1
    return family, 2 * int(count or 1)
