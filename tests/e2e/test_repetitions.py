"""Repetitions of writes with an Idempotency-Key, on the whole stack with its table of records."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from forebay.archive.lines import read_chunks
from forebay.command import Command
from local.credentials import read_secret_key
from tests.fixtures.emulator import aws_client
from tests.fixtures.stack import RunningStack, new_city

TABLE = "forebay-local-idempotency"
NEWS = {"title": "Roads", "body": "Closed on Sunday.", "published_on": "2026-02-28"}


def new_key() -> str:
    return f'"{uuid.uuid4()}"'


def count_archived(stack: RunningStack, command_id: str) -> int:
    """The number of lines in the archive with that id."""
    stack.settle()
    commands = [
        entry
        for key in stack.keys("commands/")
        for entries in read_chunks([stack.read_archived(key)])
        for entry in entries
        if isinstance(entry, Command)  # other tests leave damaged objects
    ]
    return sum(command.id == command_id for command in commands)


def test_a_repeated_increment_is_added_once(stack: RunningStack) -> None:
    city, key = new_city(population=10), new_key()
    path = f"/cities/{city['geonameid']}"
    stack.wait_for_status(stack.accepted("PUT", path, city))
    increment = {"population": {"$increment": 5}}

    first = stack.send("PATCH", path, increment, Idempotency_Key=key)
    again = stack.send("PATCH", path, increment, Idempotency_Key=key)

    assert (first.status, again.status) == (202, 202)
    assert (first["Idempotency-Replayed"], again["Idempotency-Replayed"]) == (None, "true")
    assert again.body == first.body
    assert again["Location"] == first["Location"]
    status = first["Location"]
    assert status is not None
    assert stack.wait_for_status(status)["status"] == "applied"
    assert stack.send("GET", path, Read_After=status).json()["population"] == 15
    assert count_archived(stack, first.json()["command_id"]) == 1


def test_a_repeated_put_does_not_undo_the_write_of_another_client(stack: RunningStack) -> None:
    city, key = new_city(), new_key()
    path = f"/cities/{city['geonameid']}"
    stack.accepted("PUT", path, city, Idempotency_Key=key)
    other = stack.accepted("PUT", path, {**city, "name": "Other"})
    stack.accepted("PUT", path, city, Idempotency_Key=key)

    stack.wait_for_status(other)
    assert stack.send("GET", path, Read_After=other).json()["name"] == "Other"


def test_another_request_under_the_key_is_422(stack: RunningStack) -> None:
    key = new_key()
    stack.accepted("POST", "/announcements", NEWS, Idempotency_Key=key)

    for reply in (
        stack.send("POST", "/announcements", {**NEWS, "title": "Other"}, Idempotency_Key=key),
        stack.send("DELETE", "/cities/1", Idempotency_Key=key),
    ):
        assert (reply.status, reply.json()["code"]) == (422, "idempotency_key_reused")


def test_concurrent_repetitions_give_one_command(stack: RunningStack) -> None:
    key = new_key()

    def send(_: int) -> tuple[int, bytes, str | None]:
        reply = stack.send("POST", "/announcements", [NEWS, NEWS], Idempotency_Key=key)
        return reply.status, reply.body, reply["Retry-After"]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(send, range(8)))

    accepted = {body for status, body, _ in replies if status == 207}
    assert len(accepted) == 1
    # On a busy machine, the start of further instances may take longer than the gateway waits.
    assert {status for status, _, _ in replies} <= {207, 409, 504}
    pauses = [pause for status, _, pause in replies if status != 504]
    assert all(pause is not None and int(pause) >= 1 for pause in pauses)
    last = stack.send("POST", "/announcements", [NEWS, NEWS], Idempotency_Key=key)
    assert last.body in accepted
    for result in last.json()["results"]:
        assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"
        assert count_archived(stack, result["command_id"]) == 1


def test_a_repetition_of_a_write_that_took_the_fallback_is_the_same_command(
    stack: RunningStack,
) -> None:
    city, key = new_city(), new_key()
    path = f"/cities/{city['geonameid']}"
    stack.set_faults(down="error")
    try:
        first = stack.send("PUT", path, city, Idempotency_Key=key)
    finally:
        stack.set_faults()
    again = stack.send("PUT", path, city, Idempotency_Key=key)

    assert (first.status, first.body) == (again.status, again.body)
    assert stack.wait_for_status(first.json()["links"]["status"])["status"] == "applied"
    assert count_archived(stack, first.json()["command_id"]) == 1


def test_without_the_table_only_writes_with_a_key_are_refused(stack: RunningStack) -> None:
    secret = read_secret_key(stack.settings)
    client = aws_client("dynamodb", stack.settings.emulator_url, key=secret)
    table = client.describe_table(TableName=TABLE)["Table"]
    client.delete_table(TableName=TABLE)
    try:
        refused = stack.send("POST", "/announcements", NEWS, Idempotency_Key=new_key())
        accepted = stack.send("POST", "/announcements", NEWS)
    finally:
        client.create_table(
            TableName=TABLE,
            KeySchema=table["KeySchema"],
            AttributeDefinitions=table["AttributeDefinitions"],
            BillingMode="PAY_PER_REQUEST",
        )

    assert (refused.status, refused.json()["code"]) == (503, "idempotency_unavailable")
    assert refused["Retry-After"] == "5"
    assert accepted.status == 202
