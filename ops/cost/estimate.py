"""The estimate: an item for each charge of AWS, and the quotas that limit a load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from forebay.metrics import ATTACHMENT_METRICS, METRICS, RECORDS_METRICS, Metric, Service
from ops.cost import prices
from ops.cost.attachments import price_attachments
from ops.cost.database import (
    APPLIED_PER_PROCESSOR,
    HEADROOM,
    SYNCHRONOUS_PER_PROCESSOR,
    Item,
    Work,
    count_processors,
    price_database,
    price_proxy,
    price_read_cache,
)
from ops.cost.prices import HOURS_PER_MONTH
from ops.cost.settings import AuroraDatabase, ExternalDatabase, Function, RdsDatabase, Settings

SECONDS_PER_MONTH: Final = HOURS_PER_MONTH * 3600
#: The region of CloudFront's secrets, and of all prices.
PRICED_REGION: Final = "us-east-1"
#: Their quotas of Firehose are larger than those of other regions.
LARGE_REGIONS: Final = frozenset({"us-east-1", "us-west-2", "eu-west-1"})
_GIB: Final = 2**30
_FIREHOSE_STEP: Final = 5 * 1024  # bytes; each record is charged as a multiple of this
_MULTIPART_REQUESTS: Final = 3  # for an object that Firehose writes in parts: begin, part, end
_MULTIPART_BELOW_SECONDS: Final = 60
_QUEUES: Final = 3  # events of the archive, of replays and of imports
# Five pollers of Lambda for each queue, 20 s each when idle.
_POLLS_PER_QUEUE: Final = 5 * SECONDS_PER_MONTH / 20
_SQS_PER_OBJECT: Final = 3  # sent by S3, received, deleted
_RECORD_BYTES: Final = 350  # of an idempotency record, besides its compressed commands
_RECORD_WRITES: Final = 2  # before the commands are sent, and after
_WRITE_UNIT: Final = 1024  # bytes; DynamoDB charges for each write as a multiple of this
_ACCESS_LOG_BYTES: Final = 400
_FUNCTION_LOG_BYTES: Final = 850  # the function's own line, and Lambda's three
_LOG_COMPRESSION: Final = 0.15  # of stored logs
_DAYS_PER_MONTH: Final = HOURS_PER_MONTH / 24
#: X-Ray's default rule: the first request of each second, and this share of the others.
_TRACED_SHARE: Final = 0.05
#: Metrics of the alarms in every environment, without those of streams and of the database.
_ALARM_METRICS: Final = 13
_CACHE_ALARM_METRICS: Final = 3
#: Metrics of the alarms that stop deployments.
_CANARY_ALARM_METRICS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of the system, on average over the month; the default is no load."""

    reads_per_second: float = 0
    #: Share of reads that the stage cache answers.
    hit_rate: float = 0.8
    writes_per_second: float = 0
    #: Size of a command's line in the archive; a read's answer is assumed to be as large.
    bytes: int = 500
    #: Commands in one request.
    commands_per_request: int = 1
    #: Share of write requests with an Idempotency-Key, in an environment that records them.
    keyed: float = 1
    #: Ratio of the busiest second to the average.
    peak: float = 5
    read_milliseconds: float = 30
    write_milliseconds: float = 25
    compression: float = 0.25
    months_kept: int = 12
    #: Uploads of attachments, on average, in an environment that has them.
    uploads_per_second: float = 0
    upload_bytes: int = 500_000

    @property
    def uploads(self) -> float:
        """Uploads of attachments in the month."""
        return self.uploads_per_second * SECONDS_PER_MONTH

    @property
    def missed_reads_per_second(self) -> float:
        """Reads that reach the read function."""
        return self.reads_per_second * (1 - self.hit_rate)

    @property
    def write_requests_per_second(self) -> float:
        """Requests that contain the commands."""
        return self.writes_per_second / self.commands_per_request

    @property
    def commands(self) -> float:
        """Commands in the month."""
        return self.writes_per_second * SECONDS_PER_MONTH

    @property
    def requests(self) -> float:
        """Requests in the month."""
        return (self.reads_per_second + self.write_requests_per_second) * SECONDS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit of AWS or of the primary, and the load's use of it."""

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


def estimate_at_rest(settings: Settings) -> Estimate:
    """Return the bill of a month without reads and writes.

    Raises:
        UsageError: the price of the instance class is unknown.
    """
    return estimate_buffered(settings, Load())


def estimate_buffered(settings: Settings, load: Load) -> Estimate:
    """Return the bill of this project.

    Raises:
        UsageError: the price of the instance class is unknown.
    """
    items = [*_price_front(settings, load), *_price_pipeline(settings, load)]
    work = _describe_work(load, APPLIED_PER_PROCESSOR)
    items += price_database(settings, work)
    if not isinstance(settings.database, ExternalDatabase) and settings.database.proxy:
        items.append(price_proxy(settings.database, work))
    if settings.read_cache is not None:
        items.append(price_read_cache(settings.read_cache))
    return Estimate(items)


def estimate_synchronous(settings: Settings, load: Load) -> Estimate:
    """Return the bill of the same API if its write function waited for an INSERT each time.

    It needs no pipeline, but a primary for the busiest second (which a buffer does not need), and a
    proxy for its connections.

    Raises:
        UsageError: the price of the instance class is unknown.
    """
    work = _describe_work(load, SYNCHRONOUS_PER_PROCESSOR, peak=load.peak)
    items = [*_price_front(settings, load), *price_database(settings, work)]
    if not isinstance(settings.database, ExternalDatabase):
        items.append(price_proxy(settings.database, work))
    return Estimate(items)


def estimate_quotas(settings: Settings, load: Load) -> Sequence[Quota]:
    """Return the quotas, sorted by their used share in the busiest second, the greatest first."""
    reads, requests = load.reads_per_second, load.write_requests_per_second
    is_large = settings.region in LARGE_REGIONS
    streams = settings.stream.count
    running = load.missed_reads_per_second * load.read_milliseconds / 1000
    running += requests * load.write_milliseconds / 1000
    peaks = [
        ("Firehose, requests/s of all streams", requests, streams * (2000 if is_large else 1000)),
        (
            "Firehose, MiB/s of all streams",
            load.writes_per_second * load.bytes / 2**20,
            streams * (5 if is_large else 1),
        ),
        ("API Gateway, requests/s of the region", reads + requests, 10_000),
        ("Lambda, concurrent executions of the region", running, 1_000),
    ]
    quotas = [Quota(name, used * load.peak, limit) for name, used, limit in peaks]
    if not isinstance(settings.database, ExternalDatabase):
        # The buffer spreads a peak, so the primary works on the average.
        processors = count_processors(settings.database) * HEADROOM
        used = load.writes_per_second / APPLIED_PER_PROCESSOR
        quotas.append(Quota("The primary, processors on average", used, processors))
    return sorted(quotas, key=lambda quota: -quota.share)


def _describe_work(load: Load, per_processor: float, *, peak: float = 1) -> Work:
    return Work(
        writes_per_second=load.writes_per_second * peak,
        per_processor=per_processor,
        commands=load.commands,
        used=load.requests > 0,
    )


def _price_front(settings: Settings, load: Load) -> Iterator[Item]:
    yield Item(
        "API Gateway requests", _price_requests(load.requests), f"{load.requests / 1e6:,.1f} M"
    )
    size = settings.api.cache.size_gigabytes
    hourly = prices.STAGE_CACHE[size].dollars
    yield Item("Stage cache", hourly * HOURS_PER_MONTH, f"{size} GB, all hours")
    yield from _price_functions(settings, load)
    yield from _price_observation(settings, load)
    if settings.edge is None:
        gigabytes = _count_gigabytes_out(load)
        dollars = max(0.0, gigabytes - 100) * prices.TRAFFIC.dollars
        yield Item("Traffic", dollars, f"{gigabytes:,.0f} GB")
        return
    yield from _price_edge(settings, load)


def _price_functions(settings: Settings, load: Load) -> Iterator[Item]:
    functions = settings.functions
    reads = load.missed_reads_per_second * SECONDS_PER_MONTH
    writes = load.write_requests_per_second * SECONDS_PER_MONTH
    dollars = _price_calls(reads, reads * load.read_milliseconds / 1000, functions.read)
    dollars += _price_calls(writes, writes * load.write_milliseconds / 1000, functions.write)
    yield Item("Lambda, API", dollars, f"{(reads + writes) / 1e6:,.1f} M calls")
    cached = sum(size.gigabytes for size in functions.list_all() if size.snap_start)
    if cached:
        dollars = cached * SECONDS_PER_MONTH * prices.LAMBDA_SNAPSHOT.dollars
        yield Item("Lambda, snapshots", dollars, f"{cached:,.1f} GB, one version each")
    ready = sum(
        size.gigabytes * (size.provisioned_concurrency or 0) for size in functions.list_all()
    )
    if ready:
        dollars = ready * SECONDS_PER_MONTH * prices.LAMBDA_READY.dollars
        yield Item("Lambda, instances kept ready", dollars, f"{ready:,.1f} GB, all hours")


def _price_observation(settings: Settings, load: Load) -> Iterator[Item]:
    calls = load.missed_reads_per_second + load.write_requests_per_second
    size = load.requests * _ACCESS_LOG_BYTES + calls * SECONDS_PER_MONTH * _FUNCTION_LOG_BYTES
    gigabytes = size / _GIB
    months = settings.logs.retention_days / _DAYS_PER_MONTH
    stored = gigabytes * months * _LOG_COMPRESSION * prices.LOG_STORAGE.dollars
    explained = f"{gigabytes:,.1f} GB, kept for {settings.logs.retention_days} days"
    yield Item("Logs", gigabytes * prices.LOGS.dollars + stored, explained)
    alarms, own = count_alarm_metrics(settings), _count_own_metrics(settings, load)
    dollars = max(0, alarms - prices.FREE_METRICS) * prices.ALARM.dollars
    dollars += max(0.0, own - prices.FREE_METRICS) * prices.METRIC.dollars
    yield Item("Alarms and metrics", dollars, f"{alarms} metrics of alarms, {own:,.0f} others")
    if settings.logs.traces:
        traces = _count_traces(settings, load)
        yield Item("Traces", traces * prices.TRACE.dollars, f"{traces / 1e6:,.1f} M")


def _price_edge(settings: Settings, load: Load) -> Iterator[Item]:
    assert settings.edge is not None  # noqa: S101 - checked by the caller
    gigabytes, requests = _count_gigabytes_out(load), load.requests
    dollars = max(0.0, gigabytes - 1024) * prices.CLOUDFRONT_TRAFFIC.dollars
    dollars += max(0.0, requests - 10e6) * prices.CLOUDFRONT_REQUEST.dollars
    dollars += max(0.0, requests - 2e6) * prices.CLOUDFRONT_FUNCTION.dollars
    # The edge's function looks a read's resource up, and reads its parameters.
    lookups = 2 * load.reads_per_second * SECONDS_PER_MONTH
    dollars += lookups * prices.CLOUDFRONT_READ.dollars
    yield Item("CloudFront", dollars, f"{requests / 1e6:,.1f} M, {gigabytes:,.0f} GB")
    dollars = prices.WAF_FIXED.dollars + requests * prices.WAF_REQUEST.dollars
    yield Item("WAF", dollars, "one ACL, six rules")
    copies = 1 if settings.region == PRICED_REGION else 2
    secrets = len(settings.edge.origin_secrets) * copies
    yield Item("Secrets of the edge", secrets * prices.SECRET.dollars, f"{secrets} secrets")


def _price_pipeline(settings: Settings, load: Load) -> Iterator[Item]:
    charged_bytes = math.ceil(load.bytes / _FIREHOSE_STEP) * _FIREHOSE_STEP
    gigabytes = load.commands * charged_bytes / _GIB
    yield Item("Firehose", gigabytes * prices.FIREHOSE.dollars, f"{gigabytes:,.1f} GB charged")
    objects = _count_objects(settings, load)
    in_parts = settings.stream.buffer_seconds < _MULTIPART_BELOW_SECONDS
    puts = _MULTIPART_REQUESTS if in_parts else 1
    dollars = objects * (puts * prices.S3_PUT.dollars + prices.S3_GET.dollars)
    yield Item("S3 requests", dollars, f"{objects:,.0f} objects")
    yield _price_archive(settings, load)
    if settings.encryption.creates_key:
        yield Item("Key", prices.KEY.dollars, "one, without its former versions")
    if settings.idempotency is not None:
        yield _price_records(load, settings.idempotency.retention_hours)
    if settings.attachments is not None:
        yield price_attachments(load, settings.functions.imports)
    queues = _QUEUES + (1 if settings.attachments else 0)
    messages = objects * _SQS_PER_OBJECT + queues * _POLLS_PER_QUEUE
    yield Item("SQS", messages * prices.SQS.dollars, f"{messages / 1e6:,.1f} M")
    if not isinstance(settings.database, ExternalDatabase):
        # SQS, and for the runner the logs, CloudWatch and Firehose.
        endpoints = 4 if settings.operations.runner else 1
        dollars = endpoints * HOURS_PER_MONTH * prices.ENDPOINT.dollars
        yield Item("Interface endpoints", dollars, f"{endpoints} in one zone")
    # An object takes the time of its rows, and a tenth of a second in any case.
    seconds = load.commands / APPLIED_PER_PROCESSOR + objects * 0.1
    dollars = _price_calls(objects, seconds, settings.functions.firehose_consumer)
    yield Item("Lambda, consumer", dollars, f"{objects:,.0f} calls")


def _price_archive(settings: Settings, load: Load) -> Item:
    """Return the price of the stored commands; objects of the first months are in S3 Standard."""
    monthly_gigabytes = load.commands * load.bytes * load.compression / _GIB
    days = settings.archive.glacier_after_days
    months = load.months_kept
    standard = months if days is None else min(months, days / _DAYS_PER_MONTH)
    dollars = monthly_gigabytes * standard * prices.S3_STORAGE.dollars
    dollars += monthly_gigabytes * (months - standard) * prices.S3_GLACIER.dollars
    explained = f"{monthly_gigabytes * months:,.1f} GB, {months} months"
    return Item("S3 archive", dollars, explained)


def _price_records(load: Load, retention_hours: int) -> Item:
    """Return the price of the idempotency records: two writes each, and their storage."""
    records = load.write_requests_per_second * load.keyed * SECONDS_PER_MONTH
    size = _RECORD_BYTES + load.commands_per_request * load.bytes * load.compression
    writes = records * _RECORD_WRITES * math.ceil(size / _WRITE_UNIT)
    gigabytes = records / HOURS_PER_MONTH * retention_hours * size / _GIB
    dollars = writes * prices.DYNAMODB_WRITE.dollars + gigabytes * prices.DYNAMODB_STORAGE.dollars
    return Item("DynamoDB, idempotency", dollars, f"{writes / 1e6:,.1f} M writes")


def count_alarm_metrics(settings: Settings) -> int:
    """Return the number of metrics that the alarms of an environment use."""
    count = _ALARM_METRICS + 2 * settings.stream.count + (1 if settings.idempotency else 0)
    count += 1 if settings.attachments else 0  # the dead letters of uploads
    count += _CACHE_ALARM_METRICS if settings.read_cache is not None else 0
    if settings.deployment.canary != "off":
        # One of them counts the requests without a record.
        count += _CANARY_ALARM_METRICS + (1 if settings.idempotency else 0)
    match settings.database:
        case RdsDatabase(replicas=replicas):
            return count + 3 + replicas
        case AuroraDatabase(replicas=replicas, secondary=secondary):
            # A standby applies no object, so no alarm compares the age of its queue.
            return count + 2 + (1 if replicas else 0) - (1 if secondary else 0)
    return count


def _count_own_metrics(settings: Settings, load: Load) -> float:
    """Return the functions' metrics, each in proportion to the hours in which it has data."""
    hours: dict[Service, float] = {
        "write": 1 if load.writes_per_second else 0,
        "imports": 1 if load.writes_per_second else 0,
        "consumer": 1 if load.writes_per_second else 0,
        "read": 1 if load.reads_per_second else 0,
        "sweep": min(1.0, 60 / settings.sweep.every_minutes),
    }
    absent: list[Metric] = [] if settings.idempotency else [*RECORDS_METRICS]
    absent += [] if settings.attachments else ATTACHMENT_METRICS
    return sum(
        (len(metric.values) or 1) * hours[metric.service]
        for metric in METRICS
        if metric not in absent and (settings.read_cache is not None or not metric.needs_read_cache)
    )


def _count_traces(settings: Settings, load: Load) -> float:
    """Return the traces that X-Ray records: each function begins its own."""
    rates = (
        load.missed_reads_per_second,
        load.write_requests_per_second,
        _count_objects(settings, load) / SECONDS_PER_MONTH,
    )
    traced = (min(rate, 1) + max(0.0, rate - 1) * _TRACED_SHARE for rate in rates)
    return sum(traced) * SECONDS_PER_MONTH


def _count_gigabytes_out(load: Load) -> float:
    return load.reads_per_second * SECONDS_PER_MONTH * load.bytes / _GIB


def _count_objects(settings: Settings, load: Load) -> float:
    """Return the number of archive objects that Firehose writes in a month.

    A stream writes an object when its interval has passed or its buffer is full, whichever is
    first. If it gets less than one command in an interval, it writes an object for each command.
    """
    stream = settings.stream
    by_time = stream.count * SECONDS_PER_MONTH / max(stream.buffer_seconds, 1)
    by_size = load.commands * load.bytes / (stream.buffer_mebibytes * 2**20)
    return min(max(by_time, by_size), load.commands)


def _price_calls(calls: float, seconds: float, size: Function) -> float:
    duration_dollars = seconds * size.gigabytes * prices.LAMBDA_ARM.dollars
    return calls * prices.LAMBDA_REQUEST.dollars + duration_dollars


def _price_requests(requests: float) -> float:
    total, lower_bound = 0.0, 0.0
    for upper_bound, price in prices.API_REQUESTS:
        total += max(0.0, min(requests, upper_bound) - lower_bound) * price.dollars
        lower_bound = upper_bound
    return total
