"""The growth of apply's time and memory with the number of commands.

One consumer applies new rows to a growing table. A power law is fitted to the times: an exponent of
1 is linear. `--size 10000000` measures up to 10 million.
"""

from __future__ import annotations

import math
from itertools import chain

from bench import orders
from bench.consumers import running
from bench.harness import Aim, Contender, Findings, Series, measure, single
from bench.stage import Stage

LARGEST = 1_000_000
SMALLEST = 1_000
ROUNDS = 3
_AT_ONCE = 100_000  # commands made at a time: ten million would not fit into memory


def compare(stage: Stage) -> Findings:
    """Measure sizes that grow tenfold; a new consumer for each, to measure its memory."""
    largest = stage.chosen_size or stage.size(LARGEST)
    sizes = [SMALLEST * 10**step for step in range(round(math.log10(largest / SMALLEST)) + 1)]
    findings = Findings()
    peaks: dict[str, int] = {}
    with stage.database() as database:
        for size in sizes:
            keys = _write(stage, size)
            with running(1, url=database.url, folder=stage.folder) as consumer:

                def apply(keys: list[str] = keys, size: int = size) -> None:
                    counts = consumer.apply(keys)
                    if counts.applied != size:
                        raise AssertionError(f"{counts} instead of {size}")

                rounds = stage.rounds(ROUNDS) if size < LARGEST else 1
                name = f"{size:,} commands"
                findings.series += measure(
                    [Contender(name, apply, size, database.empty)], rounds=rounds
                )
                peaks[name] = round(consumer.peak_mebibytes)
    exponent = fit_exponent(findings.series)
    first, last = (peaks[f"{size:,} commands"] for size in (sizes[-2], sizes[-1]))
    findings.ratios = [
        single(
            f"growth of time, {sizes[0]:,} to {sizes[-1]:,} commands: exponent",
            "linear",
            exponent,
            "exponent",
            Aim(at_most=1.05),
        ),
        single(
            f"peak memory at {sizes[-1]:,} commands, {last} MiB",
            f"{first} MiB at {sizes[-2]:,}",
            last / first,
            "size",
            Aim(at_most=1.1),
        ),
    ]
    findings.facts = {"exponent": round(exponent, 4), "peak_mebibytes": peaks}
    return findings


def fit_exponent(series: list[Series]) -> float:
    """The slope of log time over log commands, by least squares over the fastest rounds."""
    points = [(math.log(timing.items), math.log(min(timing.seconds))) for timing in series]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)


def _write(stage: Stage, size: int) -> list[str]:
    """Write objects in parts, each with different keys and ids; return the objects' keys."""
    parts = (
        orders.write_objects(
            stage.folder,
            orders.encode_lines(
                list(orders.commands(min(_AT_ONCE, size), generation=part, seed=1000 + part))
            ),
            name=f"{size}-{part:03d}",
        ).keys
        for part in range(-(-size // _AT_ONCE))
    )
    return list(chain.from_iterable(parts))
