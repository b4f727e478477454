"""Commands that can't be applied are rejected with a reason; their neighbours are applied."""

import uuid

import orjson

from forebay.codec import encode
from local.credentials import read_secret_key
from tests.fixtures.emulator import aws_client
from tests.fixtures.hand import hand_made, status_path
from tests.fixtures.stack import RunningStack, gzipped, new_city


def counts(stack: RunningStack, key: str) -> tuple[int, ...]:
    """Lines, applied, superseded, duplicates and rejected, from the ledger."""
    columns = "lines, applied, superseded, duplicates, rejected"
    return stack.rows(f"SELECT {columns} FROM forebay.ledger WHERE object = %s", key)[0]


def rejected_codes(stack: RunningStack, key: str) -> list[str]:
    rows = stack.rows("SELECT code FROM forebay.rejections WHERE object = %s ORDER BY 1", key)
    return [code for (code,) in rows]


def test_a_command_that_the_database_refuses_is_rejected_and_its_neighbours_are_applied(
    stack: RunningStack,
) -> None:
    good = [hand_made(new_city()) for _ in range(3)]
    too_long = hand_made(new_city(), name="x" * 300)
    no_number = hand_made(new_city(), population="many")
    lines = [encode(command) for command in (good[0], too_long, good[1], no_number, good[2])]
    key = stack.archive(f"hand-made-{uuid.uuid4()}", gzipped(lines))
    stack.wait_until_applied(key)

    for command in good:
        assert stack.wait_for_status(status_path(command))["status"] == "applied"
    for command in (too_long, no_number):
        status = stack.wait_for_status(status_path(command))
        assert status["status"] == "rejected"
        assert status["error"]["code"]
        assert status["error"]["detail"]
        assert stack.send("GET", f"/cities/{command.key}").status == 404
    assert counts(stack, key) == (5, 3, 0, 0, 2)

    entries = map(stack.read_archived, stack.keys("decisions/"))
    lines_of = [orjson.loads(line) for entry in entries for line in entry.splitlines()]
    archived = [line for line in lines_of if line.get("object") == key]
    assert {line["id"] for line in archived} == {too_long.id, no_number.id}
    assert {orjson.loads(line["line"])["id"] for line in archived} == {too_long.id, no_number.id}


def test_only_invalid_lines_are_rejected(stack: RunningStack) -> None:
    first, last = hand_made(new_city()), hand_made(new_city())
    newer_format = orjson.dumps({**orjson.loads(encode(hand_made(new_city()))), "v": 2})
    unknown = encode(hand_made(new_city())).replace(b'"cities"', b'"rivers"')
    lines = [encode(first), b"no JSON\n", newer_format + b"\n", unknown, b"[]\n", encode(last)]
    key = stack.archive(f"bad-lines-{uuid.uuid4()}", gzipped(lines))
    stack.wait_until_applied(key)
    for command in (first, last):
        assert stack.wait_for_status(status_path(command))["status"] == "applied"
    assert rejected_codes(stack, key) == [
        "envelope_invalid",
        "envelope_version_unknown",
        "line_not_json",
        "unknown_resource",
    ]
    assert counts(stack, key) == (6, 2, 0, 0, 4)


def test_complete_lines_are_applied_from_an_object_that_ends_within_a_line(
    stack: RunningStack,
) -> None:
    whole, half = hand_made(new_city()), hand_made(new_city())
    key = stack.archive(f"half-line-{uuid.uuid4()}", gzipped([encode(whole), encode(half)[:100]]))
    stack.wait_until_applied(key)
    assert stack.wait_for_status(status_path(whole))["status"] == "applied"
    assert rejected_codes(stack, key) == ["line_not_json"]
    assert stack.client.get(status_path(half)).status == 202, "nobody knows of it"


def test_readable_lines_of_a_truncated_object_are_applied(stack: RunningStack) -> None:
    whole = hand_made(new_city())
    lines = [encode(whole), *(uuid.uuid4().bytes for _ in range(2000))]
    key = stack.archive(f"cut-{uuid.uuid4()}", gzipped(lines)[:-4000])
    stack.wait_until_applied(key)
    assert stack.wait_for_status(status_path(whole))["status"] == "applied"
    assert "object_corrupt" in rejected_codes(stack, key)


def test_an_object_that_is_not_gzip_does_not_stop_the_others(stack: RunningStack) -> None:
    garbage = stack.archive(f"garbage-{uuid.uuid4()}", b"\0garbage" * 100)
    good = hand_made(new_city())
    key = stack.archive(f"good-{uuid.uuid4()}", gzipped([encode(good)]))
    stack.wait_until_applied(garbage, key)
    assert rejected_codes(stack, garbage) == ["object_not_gzip"]
    assert stack.wait_for_status(status_path(good))["status"] == "applied"


def test_a_rejected_command_stays_rejected_and_its_key_is_free(stack: RunningStack) -> None:
    city = new_city()
    bad = hand_made(city, name="x" * 300)
    line = gzipped([encode(bad)])
    first = stack.archive(f"once-{uuid.uuid4()}", line)
    stack.wait_until_applied(first)
    put = stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    again = stack.archive(f"twice-{uuid.uuid4()}", line)
    stack.wait_until_applied(again)
    assert stack.wait_for_status(status_path(bad))["status"] == "rejected"
    assert counts(stack, again) == (1, 0, 0, 1, 0)
    assert put["status"] == "applied"


def test_bad_commands_do_not_end_in_the_dead_letter_queue(stack: RunningStack) -> None:
    """Retries can't repair bad data, so a message must not fail because of it."""
    garbage = stack.archive(f"garbage-{uuid.uuid4()}", b"garbage")
    stack.wait_until_applied(garbage)
    queues = aws_client("sqs", stack.settings.emulator_url, key=read_secret_key(stack.settings))
    for url in (stack.deployed.queue_url, stack.deployed.dead_letter_queue_url):
        attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["ApproximateNumberOfMessages"] == "0"
