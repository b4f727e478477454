"""DynamoDB, which keeps the idempotency records, refuses every call."""

import time

import orjson

from tests.fixtures.faults import lasting, wait_until_applied
from tests.fixtures.faulty import FaultyStack
from tests.fixtures.gateway import Client, Reply
from tests.fixtures.stack import new_city

PART = "records"


def test_dynamodb_is_down(faulty_stack: FaultyStack) -> None:
    """Writes with a key are refused, the others accepted; the same key works afterwards."""
    stack = faulty_stack
    city = new_city()

    def write() -> Reply:
        path = f"/v1/cities/{city['geonameid']}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": "while-it-is-down"}
        return Client(stack.settings.ports.gateway).request(
            "PUT", path, headers, orjson.dumps(city)
        )

    with stack.fault(
        "DynamoDB down",
        "every call of DynamoDB is answered 503; writes with and without `Idempotency-Key`",
        part=PART,
    ) as watched:
        stack.dynamodb_proxy.refuse = lambda *_: True
        ended = time.monotonic() + lasting(20)
        refusals = 0
        while time.monotonic() < ended:
            reply = write()
            assert (reply.status, reply.json()["code"]) == (503, "idempotency_unavailable")
            assert reply["Retry-After"]
            refusals += 1
        stack.dynamodb_proxy.refuse = None
        watched.ends()
        watched.fault.remark = f"{refusals} writes with a key were refused (503), no other write"
    first, again = write(), write()
    assert (first.status, again.status) == (202, 202)
    assert first.json()["command_id"] == again.json()["command_id"]
    assert again["Idempotency-Replayed"] == "true"
    command_id = first.json()["command_id"]
    assert wait_until_applied(lambda: stack.primary_url, [command_id])
