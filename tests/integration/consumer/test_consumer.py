"""The consumer on a real Postgres and a real S3 API: messages in, tables and answers out."""

from __future__ import annotations

import gc
import gzip
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from forebay.apply.prepare import Chunk
from forebay.archive.decisions import build_entry_key
from forebay.codec import encode
from forebay.command import Command
from forebay.conditions import SETTLING_SECONDS
from forebay.ids import IdSource
from tests.fixtures.commands import city, command_id, patch
from tests.fixtures.consumer import Bench, bench_of, text_message
from tests.fixtures.emulator import Emulator, wait_until
from tests.fixtures.proxies import postgres_proxy
from tests.fixtures.tables import Database


def test_objects_are_applied_and_counted(bench: Bench) -> None:
    bench.put("commands/2026/01/01/00/a.gz", city(1, key=1), city(2, key=2))
    bench.put("commands/2026/01/01/00/b.gz", city(3, key=1), city(4, key=9, name="x" * 300))
    first = bench.message("commands/2026/01/01/00/a.gz")
    second = bench.message("commands/2026/01/01/00/b.gz")
    assert bench.handle(first, second) == set()
    assert set(bench.database.cities()) == {1, 2}
    counted = bench.counted()
    assert counted["ObjectsApplied"] == 2
    assert counted["CommandsApplied"] == 3
    assert counted["CommandsRejected"] == 1
    assert counted["ApplyLagOldest"] >= counted["ApplyLagNewest"] > 0


def test_a_failed_condition_is_not_counted_with_the_rejections_that_raise_an_alarm(
    bench: Bench,
) -> None:
    conditional = city(2)._replace(condition={"where": [["population", "lt", 0]]})
    bench.put("commands/2026/01/01/00/a.gz", city(1), conditional, city(4, name="x" * 300))
    assert bench.handle(bench.message("commands/2026/01/01/00/a.gz")) == set()
    counted = bench.counted()
    assert (counted["CommandsUnmet"], counted["CommandsRejected"]) == (1, 1)


class HidingQueue:
    """Records for how long messages are hidden."""

    def __init__(self) -> None:
        self.hidden: list[tuple[str, int]] = []

    def hide(self, receipt: str, seconds: int) -> None:
        self.hidden.append((receipt, seconds))


def chain(length: int) -> list[Command]:
    """A put, and increments of which each depends on the command before it."""
    ids = IdSource()
    commands = [city(1, population=0)._replace(id=ids.make(create=False))]
    for _ in range(length - 1):
        increment = patch(2, population={"$increment": 1})
        condition = {"after": [commands[-1].id]}
        id_ = ids.make(create=False, decided=True)
        commands.append(increment._replace(id=id_, condition=condition))
    return commands


def delivered(message: dict[str, Any], times: int, *, seconds_ago: float = 0) -> dict[str, Any]:
    """The message as Lambda's event shows it at a later delivery."""
    first = round((time.time() - seconds_ago) * 1000)
    attributes = {
        "ApproximateReceiveCount": str(times),
        "ApproximateFirstReceiveTimestamp": str(first),
    }
    return message | {"receiptHandle": f"receipt {times}", "attributes": attributes}


def test_a_command_waits_for_the_one_that_it_depends_on_and_returns_soon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = HidingQueue()
    monkeypatch.setattr(bench.consumer, "_open_queue", lambda: queue)
    item, increment = chain(2)
    refused = city(5, key=5, name="x" * 300)
    late = bench.message(bench.put("commands/2026/01/01/00/a.gz", increment, refused))
    for times in (1, 2, 3, 4):
        assert bench.handle(delivered(late, times)) == {late["messageId"]}
    assert queue.hidden == [
        ("receipt 1", 15), ("receipt 2", 60), ("receipt 3", 225), ("receipt 4", 225),
    ]  # fmt: skip
    counted = bench.counted()
    assert counted.get("MessagesFailed", 0) == 0
    # Its neighbours are applied, and counted at the first delivery.
    assert (counted["CommandsRejected"], counted.get("ObjectsApplied", 0)) == (1, 0)
    first = bench.message(bench.put("commands/2026/01/01/00/b.gz", item))
    assert bench.handle(first) == set()
    assert bench.handle(delivered(late, 5)) == set()
    assert bench.database.rows("SELECT population FROM cities") == [(1,)]


def test_objects_of_a_batch_wait_for_each_other_in_any_order(bench: Bench) -> None:
    keys = [
        bench.put(f"commands/2026/01/01/00/{n}.gz", command) for n, command in enumerate(chain(4))
    ]
    assert bench.handle(*map(bench.message, reversed(keys))) == set()
    assert bench.database.rows("SELECT population FROM cities") == [(3,)]


def test_a_failure_in_a_message_is_kept_when_its_other_object_need_not_wait_any_more(
    bench: Bench,
) -> None:
    item, increment = chain(2)
    late = bench.put("commands/2026/01/01/00/a.gz", increment)
    newer_schema = bench.put("commands/2026/01/01/00/b.gz", city(9, key=9)._replace(schema=99))
    both = bench.message(late, newer_schema)
    first = bench.message(bench.put("commands/2026/01/01/00/c.gz", item))
    assert bench.handle(both, first) == {both["messageId"]}
    assert bench.database.rows("SELECT population FROM cities") == [(1,)]


def test_a_command_waits_no_longer_than_its_message_may(bench: Bench) -> None:
    _, increment = chain(2)
    late = bench.message(bench.put("commands/2026/01/01/00/a.gz", increment))
    assert bench.handle(delivered(late, 4, seconds_ago=SETTLING_SECONDS)) == set()
    assert bench.counted()["CommandsUnmet"] == 1


def test_objects_that_fail_leave_no_commands_in_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in which every object needs a newer release, as during its deployment."""
    messages = [
        bench.message(bench.put(f"commands/{n}.gz", city(n + 1, key=n)._replace(schema=99)))
        for n in range(10)
    ]
    chunks: list[int] = []

    def note(*_: object) -> None:
        chunks.append(sum(isinstance(obj, Chunk) for obj in gc.get_objects()))

    monkeypatch.setattr(bench.consumer, "_report_failure", note)
    gc.collect()
    gc.freeze()  # leaves the objects of the test run out of `get_objects`: there are millions
    try:
        assert len(bench.handle(*messages)) == 10
    finally:
        gc.unfreeze()
    assert len(chunks) == 10
    assert max(chunks) <= 2


def test_a_rejection_is_archived_in_the_decision_log(bench: Bench) -> None:
    bench.put("commands/2026/01/01/00/a.gz", city(4, key=9, name="x" * 300))
    bench.handle(bench.message("commands/2026/01/01/00/a.gz"))
    listed = bench.s3.list_objects_v2(Bucket=bench.bucket, Prefix="decisions/")["Contents"]
    # The first entry makes the database the archive's owner.
    assert [archive_object["Key"] for archive_object in listed] == [
        build_entry_key(1),
        build_entry_key(2),
    ]
    body = bench.s3.get_object(Bucket=bench.bucket, Key=listed[1]["Key"])["Body"].read()
    rejection = json.loads(body)
    assert rejection["id"] == command_id(4)
    assert rejection["code"] == "string_data_right_truncation"
    assert json.loads(rejection["line"])["body"]["name"] == "x" * 300


def test_keys_in_events_are_form_encoded(bench: Bench) -> None:
    key = bench.put("commands/a+b c%20d=é.gz", city(1, key=1))
    assert bench.handle(bench.message(key)) == set()
    assert set(bench.database.ledger()) == {key}


def test_one_message_may_name_several_objects(bench: Bench) -> None:
    keys = [bench.put(f"commands/{number}.gz", city(number, key=number)) for number in (1, 2, 3)]
    assert bench.handle(bench.message(*keys)) == set()
    assert set(bench.database.cities()) == {1, 2, 3}


def test_a_test_event_is_acknowledged(bench: Bench) -> None:
    body = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bench.bucket})
    assert bench.handle(text_message(body)) == set()


def test_a_message_that_comes_twice_changes_nothing(bench: Bench) -> None:
    message = bench.message(bench.put("commands/a.gz", city(1, key=1)))
    assert bench.handle(message, message) == set()
    assert bench.database.ledger()["commands/a.gz"]["applied"] == 1
    assert bench.counted()["ObjectsAlreadyApplied"] == 1


@pytest.mark.parametrize(
    "body",
    [
        *("", "no JSON", "[]", "{}", '{"Records":[]}', '{"Records":[{}]}', '{"Records":[5]}'),
        '{"Records":[{"s3":{"bucket":{"name":5},"object":{"key":5}}}]}',
    ],
)
def test_only_the_message_that_is_not_an_event_fails(bench: Bench, body: str) -> None:
    bad, good = text_message(body), bench.message(bench.put("commands/a.gz", city(1, key=1)))
    assert bench.handle(bad, good) == {bad["messageId"]}
    assert set(bench.database.cities()) == {1}


def test_foreign_buckets_and_prefixes_are_refused(bench: Bench, emulator: Emulator) -> None:
    foreign = f"foreign-{uuid.uuid4().hex}"
    emulator.s3.create_bucket(Bucket=foreign)
    content = gzip.compress(encode(city(1, key=1)))
    emulator.s3.put_object(Bucket=foreign, Key="commands/a.gz", Body=content)
    bench.put("rejections/a.gz", city(2, key=2))
    messages = [bench.message("commands/a.gz", bucket=foreign), bench.message("rejections/a.gz")]
    assert bench.handle(*messages) == {message["messageId"] for message in messages}
    assert bench.database.cities() == {}


def test_a_missing_object_fails_alone(bench: Bench) -> None:
    missing = bench.message("commands/missing.gz")
    good = bench.message(bench.put("commands/a.gz", city(1, key=1)))
    assert bench.handle(missing, good) == {missing["messageId"]}
    assert set(bench.database.cities()) == {1}


GOOD = encode(city(1, key=1)) + encode(city(2, key=2))


# Ids for pytest: the objects contain the time of compression, so they can't serve as names.
UNREADABLE: dict[str, tuple[bytes, str, set[int]]] = {
    "no gzip": (b"no gzip at all", "object_not_gzip", set()),
    "cut off": (gzip.compress(GOOD)[:-6], "object_corrupt", {1, 2}),
    "half a line": (gzip.compress(GOOD + b'{"v":1,"id":'), "line_not_json", {1, 2}),
    "another envelope version": (
        gzip.compress(GOOD[:-1].replace(b'"v":1', b'"v":2', 1)),
        "envelope_version_unknown",
        {2},
    ),
    "a long line": (gzip.compress(GOOD + b"x" * 2_000_000), "line_too_long", {1, 2}),
    "no UTF-8": (gzip.compress(b"\xff\n" + GOOD), "line_not_json", {1, 2}),
}


@pytest.mark.parametrize(("raw", "code", "applied"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_object_is_rejected_and_stops_no_neighbour(
    bench: Bench, raw: bytes, code: str, applied: set[int]
) -> None:
    bad = bench.message(bench.put("commands/bad.gz", raw=raw))
    good = bench.message(bench.put("commands/good.gz", city(3, key=3)))
    assert bench.handle(bad, good) == set()
    assert set(bench.database.cities()) == applied | {3}
    assert list(bench.database.rejections().values()) == [code]
    assert bench.database.ledger()["commands/bad.gz"]["completed_at"] is not None


def test_while_the_primary_is_away_messages_fail_and_later_apply(
    database: Database, emulator: Emulator
) -> None:
    """The primary is waited for once, not for each message."""
    with (
        postgres_proxy(database.connection.info.port) as proxy,
        bench_of(database, emulator, proxy.url(database.url), patience_seconds=0.5) as bench,
    ):
        messages = [
            bench.message(bench.put(f"commands/{number}.gz", city(number, key=number)))
            for number in range(10)
        ]
        with proxy.refusing():
            began = time.monotonic()
            assert bench.handle(*messages) == {message["messageId"] for message in messages}
            assert time.monotonic() - began < 10 * 0.5
        assert bench.handle(*messages) == set()
        assert set(database.cities()) == set(range(10))


def test_a_primary_that_is_back_soon_costs_no_message(
    database: Database, emulator: Emulator
) -> None:
    with (
        postgres_proxy(database.connection.info.port) as proxy,
        bench_of(database, emulator, proxy.url(database.url)) as bench,
    ):
        bench.handle(bench.message(bench.put("commands/a.gz", city(1, key=1))))
        with proxy.refusing():
            message = bench.message(bench.put("commands/b.gz", city(2, key=2)))
            with ThreadPoolExecutor() as pool:
                failures = pool.submit(bench.handle, message)
                wait_until(lambda: proxy.refused > 3, "it has tried more than twice")
                proxy.allow()
                assert failures.result() == set()
        assert set(database.cities()) == {1, 2}


def test_a_connection_that_was_lost_between_batches_costs_no_message(bench: Bench) -> None:
    bench.handle(bench.message(bench.put("commands/a.gz", city(1, key=1))))
    bench.database.connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    assert bench.handle(bench.message(bench.put("commands/b.gz", city(2, key=2)))) == set()
    assert set(bench.database.cities()) == {1, 2}


def test_a_decision_that_fails_before_it_is_archived_is_none(bench: Bench) -> None:
    """Before the next attempt a newer command arrives, and the command has lost."""
    bad = city(4, key=9, name="x" * 300)
    message = bench.message(bench.put("commands/2026/01/01/00/a.gz", bad))
    with ledger_failing(bench.database):
        assert bench.handle(message)
    assert bench.s3.list_objects_v2(Bucket=bench.bucket, Prefix="decisions/")["KeyCount"] == 1
    bench.handle(bench.message(bench.put("commands/2026/01/01/00/b.gz", city(5, key=9))))

    assert bench.handle(message) == set()
    assert bench.database.rejections() == {}
    assert bench.database.cities()[9][0] == command_id(5)


@contextmanager
def ledger_failing(database: Database) -> Iterator[None]:
    """Make every write to the ledger fail as if the server were shutting down."""
    database.connection.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'terminating connection' USING ERRCODE = 'admin_shutdown'; END $$;
        CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON forebay.ledger EXECUTE FUNCTION fail();
        """
    )
    yield
    database.connection.execute("DROP TRIGGER fails ON forebay.ledger; DROP FUNCTION fail()")


def test_why_an_object_failed_is_noted_with_the_number_of_failures(bench: Bench) -> None:
    held = encode(city(1)).replace(b'"schema":1', b'"schema":9')
    key = bench.put("commands/2026/01/01/00/held.gz", raw=gzip.compress(held))
    good = bench.put("commands/2026/01/01/00/good.gz", city(2, key=2))
    message = bench.message(key)
    for _ in range(2):
        assert bench.handle(message, bench.message(good)) == {message["messageId"]}
    rows = bench.database.rows("SELECT object, error, times FROM forebay.failures")
    assert [(name, times) for name, _, times in rows] == [(key, 2)]
    assert rows[0][1].startswith("HeldError: ")


def test_a_failure_without_a_note_affects_no_neighbour(bench: Bench) -> None:
    bench.database.connection.execute("DROP TABLE forebay.failures")
    gone = bench.message("commands/2026/01/01/00/gone.gz")
    good = bench.put("commands/2026/01/01/00/good.gz", city(2, key=2))
    assert bench.handle(gone, bench.message(good)) == {gone["messageId"]}
    assert set(bench.database.cities()) == {2}


def test_amendments_do_not_count_in_the_lag(bench: Bench) -> None:
    """Their ids have the time of the amended commands, which may be months old."""
    key = bench.put(f"commands/2025/10/17/06/amend-{command_id(1)}-0.gz", city(1, key=1))
    assert bench.handle(bench.message(key)) == set()
    counted = bench.counted()
    assert counted["CommandsApplied"] == 1
    assert "ApplyLagOldest" not in counted
