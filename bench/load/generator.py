"""Sends requests at their due times, independent of earlier answers: open-loop.

All arrival times are fixed in advance, as a Poisson process of the given rate. A request's latency
counts from its due time. If a server stops for a second, all requests due in that second count as
delayed, not only one ("coordinated omission"). The lag of the generator itself is reported too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

#: Concurrent connections; a request without one waits, which counts as latency.
CONNECTIONS = 200
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send."""

    method: str
    path: str
    body: bytes = b""


@dataclass(slots=True)
class Sent:
    """The results of a load."""

    offered_per_second: float
    seconds: float
    #: Latency of each answered request, from its due time.
    latencies: list[float] = field(default_factory=list)
    #: Lag of each request: how long after its due time the generator started it.
    lags: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    #: Accepted commands: id and time of the answer (`time.monotonic`).
    accepted: list[tuple[str, float]] = field(default_factory=list)
    #: From the first due time to the last answer.
    took_seconds: float = 0.0

    @property
    def succeeded(self) -> int:
        """The number of requests answered with success."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)  # noqa: PLR2004

    @property
    def succeeded_per_second(self) -> float:
        """Successes per second, over the time until the last answer."""
        return self.succeeded / self.took_seconds if self.took_seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The results as numbers."""
        return {
            "offered_per_second": round(self.offered_per_second, 1),
            "succeeded_per_second": round(self.succeeded_per_second, 1),
            "requests": len(self.lags),
            "succeeded": self.succeeded,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "latency_milliseconds": spread(self.latencies),
            "generator_lag_milliseconds": spread(self.lags),
        }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds, each a measured value."""
    ranked = sorted(seconds)
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    if not ranked:
        return {}
    return {
        name: round(ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1000, 2)
        for name, share in shares.items()
    }


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """The due times of requests, in seconds from the start."""
    chance = random.Random(seed)
    times = []
    due = chance.expovariate(rate)
    while due < seconds:
        times.append(due)
        due += chance.expovariate(rate)
    return times


async def offer(
    base_url: str,
    make: Callable[[int], Request],
    *,
    rate: float,
    seconds: float,
    seed: int,
    on_accepted: Callable[[str, float], None] = lambda _id, _at: None,
) -> Sent:
    """Offer a load, and return when each request is answered or has timed out.

    Args:
        base_url: the API's address with the stage.
        make: makes the request of a number.
        rate: requests per second, on average.
        seconds: the time in which requests are due.
        seed: seed of the arrival times, so that another load may have the same.
        on_accepted: called with each accepted command's id and the time of its answer.
    """
    due = arrivals(rate, seconds, seed)
    requests = [make(number) for number in range(len(due))]  # made before the sending starts
    sent = Sent(len(due) / seconds, seconds)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        sender = _Sender(session, base_url, sent, on_accepted)
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for offset, request in zip(due, requests, strict=True):
                await asyncio.sleep(max(0.0, start + offset - time.monotonic()))
                sent.lags.append(max(0.0, time.monotonic() - start - offset))
                group.create_task(sender.send(request, start + offset))
        sent.took_seconds = max(seconds, time.monotonic() - start)
    return sent


@dataclass(frozen=True, slots=True)
class _Sender:
    session: aiohttp.ClientSession
    base_url: str
    sent: Sent
    on_accepted: Callable[[str, float], None]

    async def send(self, request: Request, due: float) -> None:
        """Send a request, and record its status and its latency from the due time."""
        status, body = await self._ask(request)
        now = time.monotonic()
        self.sent.statuses[status] += 1
        if status:
            self.sent.latencies.append(now - due)
        if status == HTTPStatus.ACCEPTED:
            command_id = orjson.loads(body)["command_id"]
            self.sent.accepted.append((command_id, now))
            self.on_accepted(command_id, now)

    async def _ask(self, request: Request) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if request.body else {}
        try:
            async with self.session.request(
                request.method,
                self.base_url + request.path,
                data=request.body or None,
                headers=headers,
            ) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""
