"""The results of a load, as text for people and as one JSON object for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Three percentiles of durations in seconds; None if there are no durations."""

    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Compute nearest-rank percentiles: each is a duration that was really measured."""
        ranked = sorted(seconds)
        return cls(_rank(ranked, 0.5), _rank(ranked, 0.99), _rank(ranked, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a load."""

    #: Items to create.
    items: int
    accepted: int
    #: Permanently refused items.
    refused: int
    #: The number of requests, and of items in answers, that were sent again.
    repeated: int
    #: From the first request to the last answer.
    accepting_seconds: float
    accepted_per_second: float
    #: From acceptance until a list showed the row, for watched commands that were applied.
    visible_seconds: Spread
    #: The number of watched commands, and the interval between two checks of a command: measured
    #: durations exceed the true durations by at most this interval.
    watched: int
    look_seconds: Spread
    #: Statuses of all accepted commands.
    applied: int
    superseded: int
    rejected: int
    #: Accepted commands without a final status when the patience ran out.
    missing: int
    #: The number of statuses from the status route; the others are derived from lists.
    asked: int
    #: The first refusal, rejection or missing command, as an example.
    complaint: str | None

    @property
    def is_complete(self) -> bool:
        """True if every item was accepted and can be read, from this load or another client."""
        return not (self.refused or self.rejected or self.missing)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)

    def text(self) -> str:
        """Return the report in a few lines, with the complaint as the last line, if any."""
        accepted = f"{self.accepted:,} of {self.items:,} accepted"
        rate = f"{self.accepted_per_second:,.0f} a second"
        interval = f"each polled every {_format_seconds(self.look_seconds.p50)}"
        statuses = f"{self.applied:,} applied, {self.superseded:,} superseded"
        faults = f"{self.rejected:,} rejected, {self.refused:,} refused, {self.missing:,} missing"
        listed_count = self.applied + self.superseded + self.rejected - self.asked
        lines = [
            f"{accepted} in {self.accepting_seconds:.1f} s, {rate}; {self.repeated:,} sent again",
            f"from acceptance to visible on the replica: {_format_spread(self.visible_seconds)}",
            *([f"  ({self.watched:,} commands watched, {interval})"] if self.watched else []),
            f"{statuses}, {faults}",
            f"  ({self.asked:,} by single requests, {listed_count:,} in lists)",
        ]
        return "\n".join([*lines, *([self.complaint] if self.complaint else [])])


def _rank(ranked: Sequence[float], share: float) -> float | None:
    return ranked[math.ceil(share * len(ranked)) - 1] if ranked else None


def _format_spread(spread: Spread) -> str:
    if spread.max is None:
        return "no new commands to watch"
    figures = {"p50": spread.p50, "p99": spread.p99, "max": spread.max}
    return ", ".join(f"{name} {_format_seconds(value)}" for name, value in figures.items())


def _format_seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
