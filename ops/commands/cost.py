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

_Reads = Annotated[float, typer.Option(min=0, help="Reads per second, on average.")]
_Writes = Annotated[float, typer.Option(min=0, help="Commands per second, on average.")]
_HitRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of reads that the stage cache answers.")
]
_Size = Annotated[int, typer.Option("--bytes", min=1, help="Size of a command.")]
_PerRequest = Annotated[int, typer.Option(min=1, max=500, help="Commands per request.")]
_Peak = Annotated[float, typer.Option(min=1, help="Ratio of the busiest second to the average.")]
_Streams = Annotated[int, typer.Option(min=1, help="Number of delivery streams.")]
_BufferSeconds = Annotated[int, typer.Option(min=0, max=900, help="Buffer interval of a stream.")]
_Cache = Annotated[str, typer.Option(help="Size of the stage cache in GB.")]
_SmallRegion = Annotated[
    bool,
    typer.Option(
        "--small-region",
        help="A region other than us-east-1, us-west-2 and eu-west-1, with smaller quotas.",
    ),
]
_Edge = Annotated[bool, typer.Option("--edge", help="CloudFront and WAF in front of the API.")]
_SingleAz = Annotated[bool, typer.Option("--single-az", help="The primary has no standby.")]
_Replicas = Annotated[int, typer.Option(min=0, max=15, help="Number of read replicas.")]


def cost(
    *,
    reads: _Reads,
    writes: _Writes,
    hit_rate: _HitRate = 0.8,
    size: _Size = 500,
    per_request: _PerRequest = 1,
    peak: _Peak = 5,
    streams: _Streams = 1,
    buffer_seconds: _BufferSeconds = 10,
    cache: _Cache = "0.5",
    small_region: _SmallRegion = False,
    edge: _Edge = False,
    single_az: _SingleAz = False,
    replicas: _Replicas = 1,
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
