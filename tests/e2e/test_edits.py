"""No update is lost: clients change one field of one item concurrently, over HTTP.

Firehose repeats and reorders records, and loses acknowledgements, so that the write
function stores commands twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.fixtures.gateway import Reply
from tests.fixtures.stack import RunningStack, new_city

CLIENTS = 8
#: Increments of each client; as many commands as all compare-and-sets that are applied.
INCREMENTS = 2
BUYERS = 12
PIECES = 5
FAULTS = {"duplicate": 0.3, "reorder": 0.5, "lost_ack": 0.2, "partial_failure": 0.1, "seed": 17}
# Most compare-and-sets fail while increments are on their way.
MAX_TRIES = 100
READERS_PAUSE_SECONDS = 0.2
POLLING_SECONDS = 0.3
# Each concurrent request needs a process of its function, and a start takes seconds.
MAX_REQUESTS = 4


@dataclass
class Counter:
    """A city with a population that many clients change."""

    stack: RunningStack
    path: str
    #: The path of the status of the command that made the city.
    made: str
    #: How many writes had no conclusive answer, so that they may have been accepted or not.
    unknown: int = 0
    _requests: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(MAX_REQUESTS), init=False
    )

    @classmethod
    def create(cls, stack: RunningStack, population: int) -> Counter:
        city = new_city(population=population)
        path = f"/cities/{city['geonameid']}"
        made = stack.accepted("PUT", path, city)
        counter = cls(stack, path, made)
        assert counter.wait_for_status(made)["status"] == "applied"
        return counter

    def read(self, after: str) -> Reply:
        """The item, in a state in which the command with this status is settled."""
        while (reply := self._send("GET", self.path, Read_After=after)).status != 200:
            assert reply.status >= 500, reply.body
            time.sleep(POLLING_SECONDS)
        return reply

    def patch(self, population: Any, *, path: str = "", **headers: str) -> dict[str, Any] | None:
        """The final status of a patch of the population; None without a conclusive answer."""
        reply = self._send("PATCH", path or self.path, {"population": population}, **headers)
        if reply.status >= 500:
            self.unknown += 1
            return None
        assert reply.status == 202, reply.body
        return self.wait_for_status(reply["Location"] or "")

    def increment(self, by: int, *, path: str = "") -> dict[str, Any] | None:
        return self.patch({"$increment": by}, path=path)

    def compare_and_set(self, change: Callable[[int], int]) -> int:
        """Read, change and write the population until the write is applied.

        Returns:
            How many writes were rejected before.
        """
        after, rejected = self.made, 0
        while rejected < MAX_TRIES:
            read = self.read(after)
            population = change(read.json()["population"])
            status = self.patch(population, If_Match=read["ETag"] or "")
            if status is None:
                continue
            if status["status"] != "rejected":
                return rejected
            assert status["error"]["code"] == "precondition_failed"
            rejected += 1
            after = status["links"]["status"]
        raise AssertionError(f"{rejected} writes were rejected")

    def wait_for_status(self, path: str) -> dict[str, Any]:
        while (reply := self._send("GET", path.removeprefix("/v1"))).status != 200:
            assert reply.status == 202 or reply.status >= 500, reply.body
            time.sleep(POLLING_SECONDS)
        status: dict[str, Any] = reply.json()
        return status

    def _send(self, method: str, path: str, content: Any = None, **headers: str) -> Reply:
        with self._requests:
            return self.stack.send(method, path, content, **headers)


@dataclass
class Watch:
    """Reads a counter through the API and on the primary, repeatedly, while clients work."""

    counter: Counter
    populations: list[int] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._read_repeatedly)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._read()

    def _read_repeatedly(self) -> None:
        while not self._ended.wait(READERS_PAUSE_SECONDS):
            self._read()

    def _read(self) -> None:
        counter = self.counter
        reply = counter.stack.send("GET", counter.path)
        if reply.status == 200:
            self.populations.append(reply.json()["population"])
        query = "SELECT population FROM cities WHERE geonameid = %s"
        ((population,),) = counter.stack.rows(query, counter.path.rpartition("/")[2])
        self.populations.append(population)


@pytest.fixture
def disorderly(stack: RunningStack) -> RunningStack:
    """The stack, with a Firehose that repeats, reorders and refuses records."""
    stack.set_faults(**FAULTS)
    return stack


def reason_of(status: dict[str, Any] | None) -> str | None:
    """The code of a rejection; None without a rejection."""
    return str(status["error"]["code"]) if status and status["status"] == "rejected" else None


def run_together(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each task in a thread of its own; return their results in order."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


def test_no_update_is_lost(disorderly: RunningStack) -> None:
    """Eight clients read, add 1 and write with `If-Match`; eight others send increments."""
    counter = Counter.create(disorderly, population=1000)
    chance = random.Random(17)

    def add_conditionally() -> int:
        return counter.compare_and_set(lambda population: population + 1)

    def add_increments() -> int:
        for _ in range(INCREMENTS):
            time.sleep(chance.uniform(0, 0.5))
            assert reason_of(counter.increment(1)) is None
        return 0

    rejected = run_together([add_conditionally, add_increments] * CLIENTS)
    assert sum(rejected) > 0, "no two clients have met"
    last = None
    while last is None:
        last = counter.increment(1)
    sent = CLIENTS + CLIENTS * INCREMENTS + 1
    population = counter.read(last["links"]["status"]).json()["population"] - 1000
    # Without unknown writes, exactly as many as were sent.
    assert sent - counter.unknown <= population <= sent + counter.unknown


def test_as_many_buyers_win_as_there_were_pieces_and_stock_is_never_negative(
    disorderly: RunningStack,
) -> None:
    """The guard of half of the buyers is the field's `ge=0`, that of the others a condition."""
    counter = Counter.create(disorderly, population=PIECES)
    key = counter.path.rpartition("/")[2]
    guarded = f"/cities?geonameid=eq.{key}&population=gte.1"

    def buy(path: str) -> str:
        status = counter.increment(-1, path=path)
        return reason_of(status) or "bought" if status else "unknown"

    buyers = [partial(buy, counter.path), partial(buy, guarded)] * (BUYERS // 2)
    watch = Watch(counter)
    with watch.watching():
        results = run_together(buyers)
    assert PIECES - counter.unknown <= results.count("bought") <= PIECES
    assert set(results) <= {"bought", "increment_failed", "precondition_failed", "unknown"}
    assert set(watch.populations) <= set(range(PIECES + 1))
    assert watch.populations[-1] == 0
