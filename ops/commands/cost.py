"""`forebay cost`: estimate the monthly cost of an environment, and the first quota it reaches."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import options
from ops.console import Console
from ops.cost.estimate import Load
from ops.cost.report import build_json_object, report
from ops.cost.settings import load
from ops.errors import UsageError
from ops.exit_codes import ExitCode

_Env = Annotated[
    str,
    typer.Option("--env", envvar="FOREBAY_OPS_ENV", help="A file of infra/environments."),
]
_Reads = Annotated[float, typer.Option(min=0, help="Reads per second, on average.")]
_Writes = Annotated[float, typer.Option(min=0, help="Commands per second, on average.")]
_HitRate = Annotated[
    float, typer.Option(min=0, max=1, help="Share of reads that the stage cache answers.")
]
_Size = Annotated[int, typer.Option("--bytes", min=1, help="Size of a command.")]
_PerRequest = Annotated[int, typer.Option(min=1, max=500, help="Commands per request.")]
_Keyed = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Share of write requests with an Idempotency-Key, if they are recorded."
    ),
]
_Uploads = Annotated[float, typer.Option(min=0, help="Uploads of attachments per second.")]
_UploadBytes = Annotated[int, typer.Option(min=1, help="Size of an upload.")]
_Peak = Annotated[float, typer.Option(min=1, help="Ratio of the busiest second to the average.")]


def cost(
    *,
    env: _Env,
    reads: _Reads = 0,
    writes: _Writes = 0,
    hit_rate: _HitRate = 0.8,
    size: _Size = 500,
    per_request: _PerRequest = 1,
    keyed: _Keyed = 1,
    uploads: _Uploads = 0,
    upload_bytes: _UploadBytes = 500_000,
    peak: _Peak = 5,
    as_json: options.Json = False,
) -> int:
    """Estimate the monthly cost of an environment on AWS, at rest and under load.

    Reads the environment's file, not the deployed stacks, and uses no network. Without --reads and
    --writes, only the month at rest.
    """
    if not max(reads, writes, uploads) < float("inf"):
        raise UsageError("--reads, --writes and --uploads must be finite")
    settings = load(env)
    if uploads and settings.attachments is None:
        raise UsageError(f"--env {env} has no attachments; add the table [attachments] to its file")
    estimated = Load(
        reads_per_second=reads,
        hit_rate=hit_rate,
        writes_per_second=writes,
        bytes=size,
        commands_per_request=per_request,
        keyed=keyed,
        uploads_per_second=uploads,
        upload_bytes=upload_bytes,
        peak=peak,
    )
    console = Console(as_json=as_json)
    console.result(build_json_object(env, settings, estimated), report(settings, estimated))
    return ExitCode.OK
