"""The load generator keeps its schedule, and measures latency from each request's due time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bench.load.generator import Request, Sent, arrivals, offer, spread


def test_arrivals_are_fixed_by_rate_and_seed() -> None:
    first = arrivals(50, 20, seed=3)
    assert first == arrivals(50, 20, seed=3)
    assert first != arrivals(50, 20, seed=4)
    assert first == sorted(first)
    assert 0 < first[0] < first[-1] < 20
    assert len(first) == pytest.approx(1000, rel=0.15)


def test_percentiles_are_values_that_were_measured() -> None:
    percentiles = spread([number / 1000 for number in range(1, 1001)])
    assert percentiles == {"p50": 501.0, "p99": 991.0, "p99.9": 1000.0, "max": 1000.0}
    assert spread([]) == {}


@asynccontextmanager
async def serving(pause_seconds: float) -> AsyncIterator[str]:
    """Run a server that answers requests one after the other, the first of them late."""
    turn, first = asyncio.Lock(), [pause_seconds]

    async def answer(_: web.Request) -> web.Response:
        async with turn:
            await asyncio.sleep(first.pop() if first else 0)
        return web.json_response({"command_id": "an id"}, status=202)

    app = web.Application()
    app.router.add_put("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def loaded(pause_seconds: float) -> Sent:
    async with serving(pause_seconds) as url:
        return await offer(url, lambda _: Request("PUT", "/", b"{}"), rate=100, seconds=1.5, seed=1)


def test_a_pause_counts_for_every_request_that_arrived_during_it() -> None:
    """A client that waits for each answer before its next request would see one slow request."""
    sent = asyncio.run(loaded(pause_seconds=1.0))
    assert sent.succeeded == len(sent.accepted) == len(arrivals(100, 1.5, seed=1))
    slow = [seconds for seconds in sent.latencies if seconds > 0.25]
    due_in_time = [at for at in arrivals(100, 1.5, seed=1) if at < 0.7]
    assert len(slow) >= len(due_in_time) * 0.9
