"""The consumer is killed, or exceeds its time-out."""

import random
import time

import psycopg

from local.postgres.config import SUPERUSER
from tests.fixtures.faults import lasting
from tests.fixtures.faulty import VISIBILITY_SECONDS, FaultyStack

PART = "consumer"


def test_a_consumer_killed_at_random_points(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    chance = random.Random(7)
    with stack.fault(
        "consumer killed (-9) at random points",
        "SIGKILL to every instance, again and again",
        part=PART,
    ) as watched:
        kills = 0
        deadline = time.monotonic() + lasting(20)
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.2, 2.0))
            kills += stack.kill_workers("firehose_consumer")
        watched.ends()
        watched.fault.remark = f"{kills} instances killed"
    assert kills > 3


def test_a_consumer_that_takes_too_long(faulty_stack: FaultyStack) -> None:
    """The emulator kills the process after the deployed time-out of 20 s, as Lambda does."""
    stack = faulty_stack
    with stack.fault(
        "consumer time-out",
        "a lock is held for longer than the function may run, so that it is ended",
        part=PART,
    ) as watched:
        with psycopg.connect(stack.local.primary.url(SUPERUSER)) as blocker:
            blocker.execute("LOCK TABLE cities IN EXCLUSIVE MODE")
            time.sleep(VISIBILITY_SECONDS + 5)
        watched.ends()
