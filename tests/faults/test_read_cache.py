"""The read cache dies, freezes, or loses its answers."""

import signal
import time

import orjson

from tests.fixtures.faults import lasting, wait_until_applied
from tests.fixtures.faulty import FaultyStack, Watched
from tests.fixtures.gateway import Client
from tests.fixtures.stack import new_city

PART = "read cache"
_OK = 200


def test_the_read_cache_is_killed(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "read cache killed (-9)", "SIGKILL to Valkey; started again later, empty", part=PART
    ) as watched:
        stack.kill("read cache")
        read_own_writes(stack, until=time.monotonic() + lasting(20))
        stack.start_read_cache()
        watched.ends()
    assert_all_reads_were_answered(watched)


def test_the_read_cache_freezes(faulty_stack: FaultyStack) -> None:
    """It accepts connections and commands, and answers none: calls time out."""
    stack = faulty_stack
    valkey = stack.child("read cache").process
    with stack.fault(
        "read cache frozen", "SIGSTOP to Valkey: connections open, no answers", part=PART
    ) as watched:
        valkey.send_signal(signal.SIGSTOP)
        try:
            read_own_writes(stack, until=time.monotonic() + lasting(20))
        finally:
            valkey.send_signal(signal.SIGCONT)
        watched.ends()
    assert_all_reads_were_answered(watched)


def read_own_writes(stack: FaultyStack, *, until: float) -> None:
    """Replace a city again and again; each read after a write must have what was written."""
    client = Client(stack.settings.ports.gateway)
    kind = {"Content-Type": "application/json"}
    city, count = new_city(), 0
    path = f"/v1/cities/{city['geonameid']}"
    while time.monotonic() < until:
        city |= {"population": count}
        reply = client.request("PUT", path, kind, orjson.dumps(city))
        assert reply.status == 202, reply.body
        version = reply.json()["command_id"]
        assert wait_until_applied(lambda: stack.primary_url, [version])
        read = client.get(path, {"Read-After": version})
        assert (read.status, read.json()) == (_OK, city)
        count += 1
    assert count, "nothing was read"


def assert_all_reads_were_answered(watched: Watched) -> None:
    """Assert that no client saw the fault."""
    statuses = {status for due, status, _ in watched.traffic.read if due >= watched.began}
    assert statuses == {_OK}
