"""`forebay cost`: estimate the monthly cost of a load on AWS, and the first quota it reaches."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import options
from ops.console import Console
from ops.cost.estimate import Load
from ops.cost.prices import STAGE_CACHE
from ops.cost.report import as_json_object, report
from ops.errors import UsageError
from ops.exit_codes import ExitCode


def cost(
    *,
    reads: Annotated[float, typer.Option(min=0, help="Reads per second, on average.")],
    writes: Annotated[float, typer.Option(min=0, help="Commands per second, on average.")],
    hit_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of reads that the stage cache answers.")
    ] = 0.8,
    size: Annotated[int, typer.Option("--bytes", min=1, help="Size of a command.")] = 500,
    per_request: Annotated[int, typer.Option(min=1, max=500, help="Commands per request.")] = 1,
    peak: Annotated[
        float, typer.Option(min=1, help="Ratio of the busiest second to the average.")
    ] = 5,
    streams: Annotated[int, typer.Option(min=1, help="Number of delivery streams.")] = 1,
    buffer_seconds: Annotated[
        int, typer.Option(min=0, max=900, help="Buffer interval of a stream.")
    ] = 10,
    cache: Annotated[str, typer.Option(help="Size of the stage cache in GB.")] = "0.5",
    small_region: Annotated[
        bool,
        typer.Option(
            "--small-region",
            help="A region other than us-east-1, us-west-2 and eu-west-1, with smaller quotas.",
        ),
    ] = False,
    edge: Annotated[
        bool, typer.Option("--edge", help="CloudFront and WAF in front of the API.")
    ] = False,
    single_az: Annotated[
        bool, typer.Option("--single-az", help="The primary has no standby.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=0, max=15, help="Number of read replicas.")] = 1,
    as_json: options.Json = False,
) -> int:
    """Estimate the monthly cost on AWS, compared with synchronous writes. Uses no network."""
    if cache not in STAGE_CACHE:
        raise UsageError(f"--cache {cache!r} is not a size; use one of {', '.join(STAGE_CACHE)}")
    if not max(reads, writes) < float("inf") or reads + writes <= 0:
        raise UsageError("--reads and --writes must be finite, and one of them above 0")
    load = Load(
        reads_per_second=reads,
        hit_rate=hit_rate,
        writes_per_second=writes,
        bytes=size,
        commands_per_request=per_request,
        peak=peak,
        streams=streams,
        buffer_seconds=buffer_seconds,
        cache_gigabytes=cache,
        large_region=not small_region,
        edge=edge,
        multi_az=not single_az,
        replicas=replicas,
    )
    console = Console(as_json=as_json)
    console.result(as_json_object(load), report(load))
    return ExitCode.OK
