"""`python -m ops.cost --reads 100 --hit-rate 0.8 --writes 50 --bytes 500`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ops.cost.estimate import Load
from ops.cost.prices import STAGE_CACHE
from ops.cost.report import report


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the estimate; returns the exit code."""
    sys.stdout.write(report(_load(arguments)))
    return 0


def _load(arguments: Sequence[str] | None) -> Load:
    parser = argparse.ArgumentParser(prog="python -m ops.cost", description="Costs a month.")
    parser.add_argument("--reads", type=_amount, required=True, help="a second, on average")
    parser.add_argument("--hit-rate", type=_share, required=True, help="of the cache, 0 to 1")
    parser.add_argument("--writes", type=_amount, required=True, help="commands a second")
    parser.add_argument("--bytes", type=int, required=True, help="of one command")
    parser.add_argument("--per-request", type=int, default=1, help="commands in one request")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--buffer-seconds", type=int, default=10)
    parser.add_argument("--cache", choices=list(STAGE_CACHE), default="0.5", help="GB")
    parser.add_argument("--small-region", action="store_true", help="with smaller quotas")
    parser.add_argument("--edge", action="store_true", help="CloudFront and WAF in front")
    parser.add_argument("--single-az", action="store_true", help="no standby of the primary")
    parser.add_argument("--replicas", type=int, default=1)
    given = parser.parse_args(arguments)
    return Load(
        reads_per_second=given.reads,
        hit_rate=given.hit_rate,
        writes_per_second=given.writes,
        bytes=given.bytes,
        commands_per_request=given.per_request,
        streams=given.streams,
        buffer_seconds=given.buffer_seconds,
        cache_gigabytes=given.cache,
        large_region=not given.small_region,
        edge=given.edge,
        multi_az=not given.single_az,
        replicas=given.replicas,
    )


def _amount(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
