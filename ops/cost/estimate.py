"""The estimate: an item for each charge of AWS, and the quotas that limit a load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ops.cost import prices
from ops.cost.prices import HOURS_PER_MONTH

SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
_GIB = 2**30
_FIREHOSE_STEP = 5 * 1024  # bytes; each record is charged as a multiple of this
_MULTIPART_REQUESTS = 3  # for an object that Firehose writes in parts: begin, part, end
_MULTIPART_BELOW_SECONDS = 60
_POLLS_PER_MONTH = 5 * SECONDS_PER_MONTH / 20  # five pollers of Lambda, 20 s each when idle
_SQS_PER_OBJECT = 3  # sent by S3, received, deleted
_ACCESS_LOG_BYTES = 400

#: Rows a second that one processor of the primary writes: docs/performance.md, on two cores.
APPLIED_PER_PROCESSOR = 22_000
SYNCHRONOUS_PER_PROCESSOR = 1_150
_HEADROOM = 0.5  # of a processor may be busy on average
_PROCESSORS_PER_UNIT = 2  # of the instance type that the price is for


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of the system, on average over the month, and its settings."""

    reads_per_second: float
    #: Share of reads that the stage cache answers.
    hit_rate: float
    writes_per_second: float
    #: Size of a command's line in the archive; a read's answer is assumed to be as large.
    bytes: int
    #: Commands in one request.
    commands_per_request: int = 1
    #: Ratio of the busiest second to the average.
    peak: float = 5
    buffer_seconds: int = 10
    buffer_mebibytes: int = 64
    streams: int = 1
    #: us-east-1, us-west-2 and eu-west-1 have larger quotas.
    large_region: bool = True
    cache_gigabytes: str = "0.5"
    edge: bool = False
    multi_az: bool = True
    replicas: int = 1
    memory_gigabytes: float = 0.5
    read_milliseconds: float = 30
    write_milliseconds: float = 25
    compression: float = 0.25
    months_kept: int = 12


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the bill."""

    name: str
    dollars: float
    explained: str


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit of AWS, and the load's use of it in its busiest second."""

    name: str
    used: float
    limit: float

    @property
    def share(self) -> float:
        """The used share of the limit; above 1 the load does not fit."""
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class Estimate:
    """The bill of a month."""

    items: Sequence[Item]

    @property
    def dollars(self) -> float:
        """The sum of all items."""
        return sum(item.dollars for item in self.items)

    @property
    def largest(self) -> Sequence[Item]:
        """The three most expensive items."""
        return sorted(self.items, key=lambda item: -item.dollars)[:3]


def estimate_buffered(load: Load) -> Estimate:
    """Return the bill of this project."""
    return Estimate(
        [*_price_front(load), *_price_pipeline(load), *_price_database(load, APPLIED_PER_PROCESSOR)]
    )


def estimate_synchronous(load: Load) -> Estimate:
    """Return the bill of the same API if its write function waited for an INSERT each time.

    It needs no pipeline, but a primary for the busiest second (which a buffer does not need), and a
    proxy for its connections.
    """
    primary = list(_price_database(load, SYNCHRONOUS_PER_PROCESSOR, peak=load.peak))
    processors = _size_database(load, SYNCHRONOUS_PER_PROCESSOR, load.peak) * _PROCESSORS_PER_UNIT
    proxy = processors * HOURS_PER_MONTH * prices.DATABASE_PROXY.dollars
    return Estimate(
        [*_price_front(load), *primary, Item("RDS Proxy", proxy, f"{processors} processors")]
    )


def estimate_quotas(load: Load) -> Sequence[Quota]:
    """Return the quotas, sorted by their used share in the busiest second, the greatest first."""
    reads, requests = load.reads_per_second * load.peak, _compute_write_requests(load) * load.peak
    is_large = load.large_region
    running = reads * (1 - load.hit_rate) * load.read_milliseconds / 1000
    running += requests * load.write_milliseconds / 1000
    entries = [
        Quota(
            "Firehose, requests/s of all streams",
            requests,
            load.streams * (2000 if is_large else 1000),
        ),
        Quota(
            "Firehose, MiB/s of all streams",
            load.writes_per_second * load.peak * load.bytes / 2**20,
            load.streams * (5 if is_large else 1),
        ),
        Quota("API Gateway, requests/s of the region", reads + requests, 10_000),
        Quota("Lambda, concurrent executions of the region", running, 1_000),
    ]
    return sorted(entries, key=lambda quota: -quota.share)


def _compute_write_requests(load: Load) -> float:
    return load.writes_per_second / load.commands_per_request


def _price_front(load: Load) -> Iterator[Item]:
    reads = load.reads_per_second * SECONDS_PER_MONTH
    writes = _compute_write_requests(load) * SECONDS_PER_MONTH
    requests = reads + writes
    yield Item("API Gateway requests", _price_requests(requests), f"{requests / 1e6:,.1f} M")
    hourly = prices.STAGE_CACHE[load.cache_gigabytes].dollars
    yield Item("Stage cache", hourly * HOURS_PER_MONTH, f"{load.cache_gigabytes} GB, all hours")
    calls = reads * (1 - load.hit_rate) + writes
    milliseconds = (
        reads * (1 - load.hit_rate) * load.read_milliseconds + writes * load.write_milliseconds
    )
    yield Item(
        "Lambda, API",
        _price_lambda(calls, milliseconds / 1000, load),
        f"{calls / 1e6:,.1f} M calls",
    )
    log_gigabytes = requests * _ACCESS_LOG_BYTES / _GIB
    yield Item("Logs", log_gigabytes * prices.LOGS.dollars, f"{log_gigabytes:,.1f} GB")
    gigabytes_out = reads * load.bytes / _GIB
    if not load.edge:
        dollars = max(0.0, gigabytes_out - 100) * prices.TRAFFIC.dollars
        yield Item("Traffic", dollars, f"{gigabytes_out:,.0f} GB")
        return
    traffic = max(0.0, gigabytes_out - 1024) * prices.CLOUDFRONT_TRAFFIC.dollars
    request_dollars = max(0.0, requests - 10e6) * prices.CLOUDFRONT_REQUEST.dollars
    yield Item(
        "CloudFront", traffic + request_dollars, f"{requests / 1e6:,.1f} M, {gigabytes_out:,.0f} GB"
    )
    waf_dollars = prices.WAF_FIXED.dollars + requests * prices.WAF_REQUEST.dollars
    yield Item("WAF", waf_dollars, "one ACL, six rules")


def _price_pipeline(load: Load) -> Iterator[Item]:
    commands = load.writes_per_second * SECONDS_PER_MONTH
    charged_bytes = math.ceil(load.bytes / _FIREHOSE_STEP) * _FIREHOSE_STEP
    gigabytes = commands * charged_bytes / _GIB
    yield Item("Firehose", gigabytes * prices.FIREHOSE.dollars, f"{gigabytes:,.1f} GB charged")
    objects = _count_objects(load)
    parts = _MULTIPART_REQUESTS if load.buffer_seconds < _MULTIPART_BELOW_SECONDS else 1
    request_dollars = objects * (parts * prices.S3_PUT.dollars + prices.S3_GET.dollars)
    yield Item("S3 requests", request_dollars, f"{objects:,.0f} objects")
    stored_gigabytes = commands * load.bytes * load.compression * load.months_kept / _GIB
    yield Item(
        "S3 archive",
        stored_gigabytes * prices.S3_STORAGE.dollars,
        f"{stored_gigabytes:,.1f} GB, {load.months_kept} months",
    )
    messages = objects * _SQS_PER_OBJECT + _POLLS_PER_MONTH
    yield Item("SQS", messages * prices.SQS.dollars, f"{messages / 1e6:,.1f} M")
    endpoint = HOURS_PER_MONTH * prices.ENDPOINT.dollars
    yield Item("Endpoint to SQS", endpoint, "for the sweep, in one zone")
    # An object takes the time of its rows, and a tenth of a second in any case.
    seconds = commands / APPLIED_PER_PROCESSOR + objects * 0.1
    yield Item("Lambda, consumer", _price_lambda(objects, seconds, load), f"{objects:,.0f} calls")


def _price_database(load: Load, per_processor: float, peak: float = 1) -> Iterator[Item]:
    units = _size_database(load, per_processor, peak)
    instances = units * (2 if load.multi_az else 1) + load.replicas
    hourly = instances * prices.DATABASE.dollars
    processors = units * _PROCESSORS_PER_UNIT
    yield Item(
        "Database instances",
        hourly * HOURS_PER_MONTH,
        f"processors: {processors} in the primary"
        + (f", {processors} in its standby" if load.multi_az else "")
        + f", {load.replicas * _PROCESSORS_PER_UNIT} in replicas",
    )
    copies = (2 if load.multi_az else 1) + load.replicas
    dollars = 100 * copies * prices.DATABASE_STORAGE.dollars
    yield Item("Database storage", dollars, f"100 GB, {copies} copies")


def _size_database(load: Load, per_processor: float, peak: float) -> int:
    processors = load.writes_per_second * peak / (per_processor * _HEADROOM)
    return max(1, math.ceil(processors / _PROCESSORS_PER_UNIT))


def _count_objects(load: Load) -> float:
    """Return the number of archive objects that Firehose writes in a month.

    A stream writes an object when its interval has passed or its buffer is full, whichever is
    first. If it gets less than one command in an interval, it writes an object for each command.
    """
    by_time = load.streams * SECONDS_PER_MONTH / max(load.buffer_seconds, 1)
    by_size = load.writes_per_second * SECONDS_PER_MONTH * load.bytes
    by_size /= load.buffer_mebibytes * 2**20
    return min(max(by_time, by_size), load.writes_per_second * SECONDS_PER_MONTH)


def _price_lambda(calls: float, seconds: float, load: Load) -> float:
    duration_dollars = seconds * load.memory_gigabytes * prices.LAMBDA_ARM.dollars
    return calls * prices.LAMBDA_REQUEST.dollars + duration_dollars


def _price_requests(requests: float) -> float:
    total, lower_bound = 0.0, 0.0
    for upper_bound, price in prices.API_REQUESTS:
        total += max(0.0, min(requests, upper_bound) - lower_bound) * price.dollars
        lower_bound = upper_bound
    return total
