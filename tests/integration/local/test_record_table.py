"""The table of idempotency records: the emulator's DynamoDB, and the table in memory like it."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from forebay.aws.records import MAX_INLINE_BYTES, Record, RecordTable
from forebay.errors import TransientError
from forebay.http import Response
from lambdas.write.app import REPLAYED
from lambdas.write.records import LOCK_SECONDS, RecordStore
from tests.fixtures.api import RecordingSink, WriteBench
from tests.fixtures.commands import CITY
from tests.fixtures.emulator import Emulator
from tests.fixtures.records import MemoryRecords

NOW_MS = 1_790_000_000_000
RECORD = Record(
    name="ann",
    fingerprint=b"\x00\xff",
    attempt="first",
    locked_until_ms=NOW_MS + 30_000,
    expires_at=NOW_MS // 1000 + 3600,
    answer=b"answer",
    lines=b"lines",
)
SMALL_BYTES = 4  # a part of a content in these tests


@pytest.fixture(scope="module")
def table_name(emulator: Emulator) -> Iterator[str]:
    client, name = emulator.client("dynamodb"), f"records-{uuid.uuid4()}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    client.delete_table(TableName=name)


@pytest.fixture(params=["memory", "DynamoDB", "DynamoDB in parts"])
def store(request: pytest.FixtureRequest) -> RecordStore:
    if request.param == "memory":
        return MemoryRecords()
    emulator: Emulator = request.getfixturevalue("emulator")
    name: str = request.getfixturevalue("table_name")
    max_bytes = MAX_INLINE_BYTES if request.param == "DynamoDB" else SMALL_BYTES
    return RecordTable(emulator.client("dynamodb"), name, max_inline_bytes=max_bytes)


@pytest.fixture
def record() -> Record:
    return replace(RECORD, name=str(uuid.uuid4()))


def test_a_new_record_is_stored_and_found(store: RecordStore, record: Record) -> None:
    assert store.find(record.name, now_ms=NOW_MS) is None
    assert store.create(record, now_ms=NOW_MS) is None
    assert store.find(record.name, now_ms=NOW_MS) == record


def test_a_record_is_never_replaced_before_it_expires(store: RecordStore, record: Record) -> None:
    store.create(record, now_ms=NOW_MS)
    other = replace(record, attempt="second", answer=b"other", fingerprint=b"2")

    assert store.create(other, now_ms=NOW_MS) == record
    assert store.create(other, now_ms=NOW_MS + 3_599_999) == record
    assert store.find(record.name, now_ms=NOW_MS) == record


def test_an_expired_record_is_absent(store: RecordStore, record: Record) -> None:
    store.create(record, now_ms=NOW_MS)
    other = replace(record, attempt="second", expires_at=record.expires_at + 9)

    assert store.find(record.name, now_ms=NOW_MS + 3_600_000) is None
    assert store.create(other, now_ms=NOW_MS + 3_600_000) is None
    assert store.find(record.name, now_ms=NOW_MS + 3_600_000) == other


def test_a_call_that_the_sdk_repeats_is_not_prevented_by_itself(
    emulator: Emulator, table_name: str, record: Record
) -> None:
    """The first answer gets lost; the repeated call finds the record of the same attempt."""
    table = RecordTable(emulator.client("dynamodb"), table_name)
    assert table.create(record, now_ms=NOW_MS) is None
    assert table.create(record, now_ms=NOW_MS) is None
    for _ in range(2):
        assert table.take_over(record, attempt="second", locked_until_ms=5) is None


def test_one_attempt_takes_over(store: RecordStore, record: Record) -> None:
    store.create(record, now_ms=NOW_MS)

    assert store.take_over(record, attempt="second", locked_until_ms=NOW_MS + 60_000) is None
    locked = replace(record, attempt="second", locked_until_ms=NOW_MS + 60_000)
    assert store.take_over(record, attempt="third", locked_until_ms=NOW_MS + 60_000) == locked
    assert store.find(record.name, now_ms=NOW_MS) == locked


def test_a_finished_record_keeps_its_answer_only(store: RecordStore, record: Record) -> None:
    store.create(record, now_ms=NOW_MS)
    store.finish(record)

    found = store.find(record.name, now_ms=NOW_MS)
    assert found is not None
    assert (found.is_finished, found.answer) == (True, b"answer")
    changed = store.take_over(record, attempt="second", locked_until_ms=1)
    assert changed is not None
    assert changed.is_finished
    assert store.create(replace(record, attempt="second"), now_ms=NOW_MS) == found


def test_a_finished_record_has_no_bodies_of_commands(
    emulator: Emulator, table_name: str, record: Record
) -> None:
    client = emulator.client("dynamodb")
    table = RecordTable(client, table_name)
    table.create(record, now_ms=NOW_MS)
    table.finish(record)

    item = client.get_item(TableName=table_name, Key={"id": {"S": record.name}})["Item"]
    assert "commands" not in item


def test_an_expired_record_of_another_request_is_not_finished(
    store: RecordStore, record: Record
) -> None:
    store.create(replace(record, fingerprint=b"other"), now_ms=NOW_MS)
    store.finish(record)

    found = store.find(record.name, now_ms=NOW_MS)
    assert found is not None
    assert not found.is_finished


def test_no_record_comes_into_being_by_its_end(store: RecordStore, record: Record) -> None:
    store.finish(record)
    store.release(record, attempt="first")

    assert store.find(record.name, now_ms=NOW_MS) is None


def test_only_the_attempt_with_the_lock_releases_it(store: RecordStore, record: Record) -> None:
    store.create(record, now_ms=NOW_MS)

    store.release(record, attempt="second")
    assert store.find(record.name, now_ms=NOW_MS) == record
    store.release(record, attempt="first")
    assert store.find(record.name, now_ms=NOW_MS) == replace(record, locked_until_ms=0)


def test_a_content_larger_than_an_item_is_stored_in_parts(
    emulator: Emulator, table_name: str, record: Record
) -> None:
    """DynamoDB's limit is 400 KB; a request of 6 MiB that can't be compressed takes as much."""
    table = RecordTable(emulator.client("dynamodb"), table_name)
    large = replace(record, answer=os.urandom(500_000), lines=os.urandom(2_000_000))

    assert table.create(large, now_ms=NOW_MS) is None
    assert table.find(record.name, now_ms=NOW_MS) == large
    assert table.create(replace(large, attempt="second"), now_ms=NOW_MS) == large


def test_a_missing_part_is_an_error_and_no_shorter_answer(
    emulator: Emulator, table_name: str, record: Record
) -> None:
    client = emulator.client("dynamodb")
    table = RecordTable(client, table_name, max_inline_bytes=SMALL_BYTES)
    table.create(record, now_ms=NOW_MS)
    client.delete_item(TableName=table_name, Key={"id": {"S": f"{record.name}.first.1"}})

    with pytest.raises(TransientError, match="is missing"):
        table.find(record.name, now_ms=NOW_MS)


class FailingClient:
    """A client of DynamoDB with calls that all fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(**_: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "PutItem"),
        ConnectionClosedError(endpoint_url="https://dynamodb"),
    ],
    ids=["refused", "closed"],
)
def test_every_failure_is_transient(error: Exception, record: Record) -> None:
    table = RecordTable(FailingClient(error), "records")  # type: ignore[arg-type]

    calls: list[Callable[[], object]] = [
        lambda: table.create(record, now_ms=NOW_MS),
        lambda: table.take_over(record, attempt="2", locked_until_ms=1),
        lambda: table.finish(record),
        lambda: table.release(record, attempt="first"),
        lambda: table.find(record.name, now_ms=NOW_MS),
    ]
    for call in calls:
        with pytest.raises(TransientError, match="idempotency records: "):
            call()


def test_a_hundred_concurrent_repetitions_give_one_command(
    emulator: Emulator, table_name: str
) -> None:
    client = emulator.client("dynamodb", max_pool_connections=100)
    sink, key, together = RecordingSink(), str(uuid.uuid4()), Barrier(100)

    def send(_: int) -> Response:
        # Each instance of the function has an app of its own.
        bench = WriteBench(table=RecordTable(client, table_name), sink=sink)
        together.wait()
        return bench.send("PATCH", "/cities/{key}", CITY, key="5", Idempotency_Key=key)

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(send, range(100)))

    assert len(sink.taken) == 1
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {202, 409}
    firsts = [
        answer for answer in answers if answer.status == 202 and REPLAYED not in answer.headers
    ]
    assert len(firsts) == 1
    assert {answer.body for answer in answers if answer.status == 202} == {firsts[0].body}


def test_a_dead_attempt_is_taken_over_once_by_concurrent_repetitions(
    emulator: Emulator, table_name: str
) -> None:
    class Died(BaseException):
        pass

    class Dying(RecordingSink):
        def put(self, lines: Any) -> None:
            super().put(lines)
            raise Died

    client = emulator.client("dynamodb", max_pool_connections=20)
    key, dying, sink, together = str(uuid.uuid4()), Dying(), RecordingSink(), Barrier(20)

    def send(sink: RecordingSink, seconds: float) -> Response:
        bench = WriteBench(table=RecordTable(client, table_name), sink=sink)
        bench.now_ms += round(seconds * 1000)
        return bench.send("PATCH", "/cities/{key}", CITY, key="5", Idempotency_Key=key)

    def repeat(_: int) -> Response:
        together.wait()
        return send(sink, LOCK_SECONDS)

    with pytest.raises(Died):
        send(dying, 0)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(repeat, range(20)))

    assert sink.taken == dying.taken
    assert {answer.status for answer in answers} <= {202, 409}
    assert all(REPLAYED in answer.headers for answer in answers if answer.status == 202)


def test_a_table_that_hangs_is_skipped_for_seconds_and_then_tried_again(record: Record) -> None:
    """Otherwise each write with a key would wait for the time-out."""
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client: Any = botocore.session.get_session().create_client(
            "dynamodb",
            endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=0.2, retries={"total_max_attempts": 1}),
        )
        table = RecordTable(client, "records", clock=lambda: now)

        def count_connections() -> int:
            with pytest.raises(TransientError):
                table.create(record, now_ms=NOW_MS)
            silent.settimeout(0.1)
            connections = 0
            while True:
                try:
                    silent.accept()[0].close()
                except TimeoutError:
                    return connections
                connections += 1

        assert count_connections() == 1
        assert count_connections() == 0
        now = 1.5
        assert count_connections() == 1
        now = 3.0  # the second pause is longer
        assert count_connections() == 0
        now = 4.0
        assert count_connections() == 1


def test_a_table_that_refuses_calls_is_not_skipped(emulator: Emulator, record: Record) -> None:
    table = RecordTable(emulator.client("dynamodb"), "no-such-table")
    for _ in range(2):
        with pytest.raises(TransientError, match="ResourceNotFoundException"):
            table.create(record, now_ms=NOW_MS)
