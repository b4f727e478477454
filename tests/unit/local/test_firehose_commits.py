"""Group commit: which puts share a sync, and how each put ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import pytest

from local.firehose.commits import GroupCommit
from local.firehose.segment import Record
from local.firehose.spool import SpoolWriteError

ONE = [Record(1, b"1")]
TWO = [Record(2, b"22"), Record(2, b"2")]
THREE = [Record(3, b"333")]


class SlowDisk:
    """A store in memory that makes one commit at a time, each when the test allows it."""

    def __init__(self) -> None:
        self.commits: list[list[Record]] = []
        self.turns = asyncio.Semaphore(0)
        self.is_full = False

    async def store(self, records: Sequence[Record]) -> None:
        self.commits.append(list(records))
        await self.turns.acquire()
        if self.is_full:
            raise SpoolWriteError("full")


@contextlib.asynccontextmanager
async def running(commits: GroupCommit) -> AsyncIterator[None]:
    task = asyncio.create_task(commits.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def queued(*puts: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
    """Start puts in order, and let them reach the queue."""
    tasks = [asyncio.create_task(put) for put in puts]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def test_puts_that_arrive_during_a_sync_share_the_next() -> None:
    async def scenario() -> None:
        disk = SlowDisk()
        commits = GroupCommit(disk.store, room=lambda: 1_000)
        async with running(commits):
            first = await queued(commits.add(ONE))
            rest = await queued(commits.add(TWO), commits.add(THREE))
            assert disk.commits == [ONE]
            assert not any(task.done() for task in first + rest)

            disk.turns.release()
            await asyncio.gather(*first)
            assert not any(task.done() for task in rest)

            disk.turns.release()
            await asyncio.gather(*rest)
            assert disk.commits == [ONE, TWO + THREE]

    asyncio.run(scenario())


def test_a_put_that_does_not_fit_the_object_waits_for_the_next() -> None:
    async def scenario() -> None:
        disk = SlowDisk()
        commits = GroupCommit(disk.store, room=lambda: 3)
        puts = await queued(commits.add(ONE), commits.add(TWO), commits.add(THREE))
        async with running(commits):
            for _ in puts:
                disk.turns.release()
            await asyncio.gather(*puts)
        assert disk.commits == [ONE, TWO, THREE]

    asyncio.run(scenario())


def test_a_failed_commit_fails_its_puts_and_no_others() -> None:
    async def scenario() -> None:
        disk = SlowDisk()
        commits = GroupCommit(disk.store, room=lambda: 1_000)
        async with running(commits):
            disk.is_full = True
            puts = await queued(commits.add(ONE), commits.add(TWO))
            disk.turns.release()
            outcomes = await asyncio.gather(*puts, return_exceptions=True)
            assert all(isinstance(outcome, SpoolWriteError) for outcome in outcomes)

            disk.is_full = False
            disk.turns.release()
            await commits.add(THREE)

    asyncio.run(scenario())


def test_a_caller_that_goes_away_does_not_disturb_its_neighbours() -> None:
    async def scenario() -> None:
        disk = SlowDisk()
        commits = GroupCommit(disk.store, room=lambda: 1_000)
        leaving, staying = await queued(commits.add(ONE), commits.add(TWO))
        async with running(commits):
            leaving.cancel()
            disk.turns.release()
            await staying
            with pytest.raises(asyncio.CancelledError):
                await leaving

    asyncio.run(scenario())
