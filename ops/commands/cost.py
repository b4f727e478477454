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
    reads: Annotated[float, typer.Option(min=0, help="Reads a second, on average.")],
    writes: Annotated[float, typer.Option(min=0, help="Commands a second, on average.")],
    hit_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of reads that the stage cache answers.")
    ] = 0.8,
    size: Annotated[int, typer.Option("--bytes", min=1, help="Bytes of one command.")] = 500,
    per_request: Annotated[int, typer.Option(min=1, max=500, help="Commands in a request.")] = 1,
    peak: Annotated[
        float, typer.Option(min=1, help="The busiest second, in times of the average.")
    ] = 5,
    streams: Annotated[int, typer.Option(min=1, help="Delivery streams.")] = 1,
    buffer_seconds: Annotated[int, typer.Option(min=0, max=900, help="Of a stream.")] = 10,
    cache: Annotated[str, typer.Option(help="Stage cache, GB.")] = "0.5",
    small_region: Annotated[
        bool, typer.Option("--small-region", help="Not us-east-1, us-west-2 or eu-west-1.")
    ] = False,
    edge: Annotated[bool, typer.Option("--edge", help="CloudFront and WAF in front.")] = False,
    single_az: Annotated[
        bool, typer.Option("--single-az", help="No standby of the primary.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=0, max=15, help="Read replicas.")] = 1,
    as_json: options.Json = False,
) -> int:
    """Estimate a month on AWS, beside the same load written synchronously. Asks nobody."""
    if cache not in STAGE_CACHE:
        raise UsageError(f"--cache {cache!r} is no size; there are {', '.join(STAGE_CACHE)}")
    if not max(reads, writes) < float("inf") or reads + writes <= 0:
        raise UsageError("--reads and --writes must be numbers, and not both 0")
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
