"""Measures contenders together: in each round each runs once, in changing order.

Noise of the machine then affects all of them alike, and ratios are calculated within each round.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Contender:
    """Code to measure."""

    name: str
    #: The measured function. If it returns a number, that is used instead, in seconds.
    run: Callable[[], float | None]
    #: The number of items (commands, rows, requests) that it handles.
    items: int
    #: Runs before each round, not measured.
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Series:
    """The times of a contender, one for each round."""

    name: str
    items: int
    seconds: tuple[float, ...]

    @property
    def per_second(self) -> float:
        """Items per second, in the round of median time."""
        return self.items / statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Aim:
    """The range that a ratio should be in."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Return True if the value is in the range."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        """The aim in the form of the tables."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure: the ratio of a contender to its limit or peer."""

    what: str
    against: str
    value: float
    low: float
    high: float
    aim: Aim | None = None
    #: How to read the value: `speed` (more is better), `time` or `size` (less is better).
    kind: str = "speed"


@dataclass(slots=True)
class Findings:
    """The results of a comparison."""

    series: list[Series] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    #: Sizes, fits, profiles, versions of peers: facts that explain the figures.
    facts: dict[str, Any] = field(default_factory=dict)


def measure(contenders: Sequence[Contender], *, rounds: int, warm_up: bool = False) -> list[Series]:
    """Measure all contenders.

    Args:
        contenders: at least one.
        rounds: how many times each runs.
        warm_up: whether each runs once before, without being measured.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-1 if warm_up else 0, rounds):
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            contender.prepare()
            gc.collect()
            start = time.perf_counter()
            own_seconds = contender.run()
            seconds = time.perf_counter() - start if own_seconds is None else own_seconds
            if number >= 0:
                times[contender.name].append(seconds)
                say(
                    f"  {number + 1}/{rounds} {contender.name}: {seconds:.3f} s, "
                    f"{contender.items / seconds:,.0f}/s"
                )
    return [
        Series(contender.name, contender.items, tuple(times[contender.name]))
        for contender in contenders
    ]


def speed(
    what: str, measured: Sequence[Series], name: str, against: str, aim: Aim | None = None
) -> Ratio:
    """The first contender's items per second over the other's: the median over the rounds."""
    first, other = _find_pair(measured, name, against)
    values = [
        (first.items / seconds) / (other.items / other_seconds)
        for seconds, other_seconds in zip(first.seconds, other.seconds, strict=True)
    ]
    return _summarize_ratio(what, against, values, aim, "speed")


def duration(
    what: str, measured: Sequence[Series], name: str, against: str, aim: Aim | None = None
) -> Ratio:
    """The first contender's time per item over the other's: the median over the rounds."""
    first, other = _find_pair(measured, name, against)
    values = [
        (seconds / first.items) / (other_seconds / other.items)
        for seconds, other_seconds in zip(first.seconds, other.seconds, strict=True)
    ]
    return _summarize_ratio(what, against, values, aim, "time")


def single(what: str, against: str, value: float, kind: str, aim: Aim | None = None) -> Ratio:
    """A figure that is measured once."""
    return Ratio(what, against, value, value, value, aim, kind)


def _find_pair(measured: Sequence[Series], name: str, against: str) -> tuple[Series, Series]:
    by_name = {series.name: series for series in measured}
    return by_name[name], by_name[against]


def _summarize_ratio(
    what: str, against: str, values: list[float], aim: Aim | None, kind: str
) -> Ratio:
    return Ratio(what, against, statistics.median(values), min(values), max(values), aim, kind)


def say(text: str) -> None:
    """Print progress for the operator; results go to files."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
