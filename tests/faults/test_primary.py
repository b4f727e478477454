"""The primary is killed, restarted, or unreachable."""

import time
from contextlib import closing

import psycopg

from local.postgres.config import SUPERUSER
from tests.fixtures.emulator import wait_until
from tests.fixtures.faults import LONG_SECONDS, lasting
from tests.fixtures.faulty import FaultyStack

PART = "primary"


def wait_until_applying(stack: FaultyStack, primary: psycopg.Connection) -> None:
    """Wait until a consumer is inside a transaction that it can't finish."""
    wait_until(
        lambda: (
            primary.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay-consumer'"
                " AND state = 'active' AND wait_event_type = 'Lock'"
            ).fetchone()
            != (0,)
        ),
        "a consumer waits for the lock",
    )


def test_a_primary_killed_while_it_applies(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "primary killed (-9) while applying",
        "a lock holds a consumer in its transaction, SIGKILL to the server, start again",
        part=PART,
    ) as watched:
        url = stack.local.primary.url(SUPERUSER)
        # Not the connections' own context managers, which would commit on broken connections.
        with (
            closing(psycopg.connect(url)) as blocker,
            closing(psycopg.connect(url, autocommit=True)) as look,
        ):
            blocker.execute("LOCK TABLE cities IN EXCLUSIVE MODE")
            wait_until_applying(stack, look)
            watched.begins()
            stack.kill("Postgres primary")
        stack.start_primary()
        watched.ends()


def test_a_primary_that_is_restarted(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault("primary restarted", "fast shutdown, start again", part=PART) as watched:
        stack.stop("Postgres primary")
        stack.start_primary()
        watched.ends()


def test_a_primary_that_cannot_be_reached(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "primary unreachable",
        "packets vanish in a proxy: open connections hang, new ones get no answer",
        part=PART,
    ) as watched:
        with stack.primary.unreachable():
            time.sleep(lasting(LONG_SECONDS))
        watched.ends()
