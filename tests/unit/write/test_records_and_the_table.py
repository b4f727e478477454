"""The table of idempotency records: which requests use it, expiry, failures and metrics."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lambdas.write.app import REPLAYED
from lambdas.write.records import LOCK_SECONDS
from tests.fixtures.api import (
    RETENTION_SECONDS,
    RecordingSink,
    RecordingStore,
    WriteBench,
    document,
)
from tests.fixtures.records import MemoryRecords
from tests.unit.write.test_records import (
    ITEM,
    KINDS,
    WRITES,
    Kill,
    KilledError,
    SteppingSink,
    Write,
    bench_of,
    without_mark,
)


def test_a_refused_request_leaves_no_record() -> None:
    """No command was accepted, so the corrected request may have the same key."""
    bench, table = bench_of()

    assert bench.send("POST", "/cities", {}, Idempotency_Key="k").status == 422
    assert bench.send("POST", "/cities", [{}], Idempotency_Key="k").status == 207
    assert table.by_name == {}
    assert bench.send("POST", "/cities", ITEM, Idempotency_Key="k").status == 202


def test_an_invalid_key_is_400_before_the_table_is_used() -> None:
    bench, table = bench_of()
    table.down = True

    answer = bench.send("POST", "/cities", ITEM, Idempotency_Key='"unclosed')

    assert (answer.status, document(answer)["code"]) == (400, "bad_header")


def test_requests_without_a_key_never_use_the_table() -> None:
    bench, table = bench_of()
    table.down = True

    assert bench.send("POST", "/cities", ITEM).status == 202
    assert bench.send("POST", "/cities", ITEM).status == 202
    assert len(bench.sink.taken) == 2


@pytest.mark.parametrize("write", [WRITES["PUT"], WRITES["array"]], ids=["PUT", "array"])
def test_a_release_that_refuses_the_request_replays_the_earlier_release(write: Write) -> None:
    """Its commands may have been sent, whatever the current release would do."""
    kill = Kill(3)
    table, sink = MemoryRecords(on_step=kill), SteppingSink(on_step=kill)
    with pytest.raises(KilledError):
        write.send(WriteBench(table=table, sink=sink))
    kill.at = None
    refusing = WriteBench(table=table, sink=sink, max_body_bytes=1)
    refusing.now_ms += round(LOCK_SECONDS * 1000)

    assert write.send(refusing, key="other").status == 413
    assert without_mark(write.send(refusing)).status in {202, 207}
    assert len(set(sink.taken)) == write.count


def test_a_record_expires() -> None:
    bench, _ = bench_of()
    bench.send("POST", "/cities", ITEM, Idempotency_Key="k")

    bench.now_ms += (RETENTION_SECONDS - 1) * 1000
    assert REPLAYED in bench.send("POST", "/cities", ITEM, Idempotency_Key="k").headers
    bench.now_ms += 1000
    other = {**ITEM, "population": 1}
    assert bench.send("POST", "/cities", {}, Idempotency_Key="k").status == 422
    assert bench.send("POST", "/cities", other, Idempotency_Key="k").status == 202
    assert len({command.id for command in bench.sink.commands}) == 2


@pytest.mark.parametrize(
    ("write", "status", "code"),
    [(WRITES["PUT"], 503, "not_accepted"), (WRITES["array"], 207, None)],
    ids=["PUT", "array"],
)
def test_commands_that_no_store_accepted_are_sent_by_the_next_repetition(
    write: Write, status: int, code: str | None
) -> None:
    bench, _ = bench_of(sink=RecordingSink(refuse={0}), store=RecordingStore(down=True))

    first = write.send(bench)
    assert (first.status, document(first).get("code")) == (status, code)
    bench.sink.refuse = set()
    again = write.send(bench)

    statuses = [result["status"] for result in document(first).get("results", [])]
    assert statuses == ([503, 422, 202] if write.count == 2 else [])
    assert again.status == (202 if write.count == 1 else 207)
    assert len({command.id for command in bench.sink.commands}) == write.count
    assert without_mark(write.send(bench)) == without_mark(again)


@KINDS
def test_without_the_table_a_required_record_is_503(write: Write) -> None:
    bench, table = bench_of()
    table.down = True

    answer = write.send(bench)

    assert (answer.status, document(answer)["code"]) == (503, "idempotency_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert bench.sink.taken == []
    assert write.send(bench, key=None).status in {202, 207}


@KINDS
def test_without_the_table_an_optional_record_is_left_out(write: Write) -> None:
    bench, table = bench_of(requires_table=False)
    table.down = True

    first, again = write.send(bench), write.send(bench)

    assert first.status == again.status in {202, 207}
    assert len(bench.sink.taken) == 2 * write.count
    # The key alone still gives the same item.
    keys = [command.key for command in bench.sink.commands]
    assert sorted(map(str, keys[: write.count])) == sorted(map(str, keys[write.count :]))


def test_an_invalid_request_is_refused_as_usual_without_the_table() -> None:
    bench, table = bench_of()
    table.down = True

    assert document(bench.send("POST", "/cities", {}, Idempotency_Key="k"))["code"] != (
        "idempotency_unavailable"
    )


def test_a_table_that_fails_after_the_commands_are_sent_does_not_change_the_answer() -> None:
    bench, table = bench_of()

    def fail(step: str) -> None:
        table.down = step == "finish"

    table.on_step = fail
    first = bench.send("POST", "/cities", ITEM, Idempotency_Key="k")
    table.down, table.on_step = False, lambda _: None
    assert first.status == 202
    assert bench.send("POST", "/cities", ITEM, Idempotency_Key="k").status == 409
    bench.now_ms += round(LOCK_SECONDS * 1000)
    assert without_mark(bench.send("POST", "/cities", ITEM, Idempotency_Key="k")) == first
    assert len(set(bench.sink.taken)) == 1


def test_a_slow_attempt_leaves_the_end_of_its_record_to_a_repetition() -> None:
    """Another call of the table could exceed the function's time-out."""
    kill, sink = Kill(None), SteppingSink()
    bench = WriteBench(table=MemoryRecords(on_step=kill), sink=sink)

    def wait(_: str) -> None:
        bench.now_ms += 8_000

    sink.on_step = wait
    first = bench.send("POST", "/cities", ITEM, Idempotency_Key="k")

    assert first.status == 202
    assert kill.steps == ["create", "created"]
    bench.now_ms += round(LOCK_SECONDS * 1000)
    assert without_mark(bench.send("POST", "/cities", ITEM, Idempotency_Key="k")) == first


def test_a_replay_is_counted_and_so_are_reused_keys_and_a_table_that_is_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench, table = bench_of(requires_table=False)
    requests = (ITEM, ITEM, {**ITEM, "population": 1})
    for content in requests:
        bench.send("POST", "/cities", content, Idempotency_Key="k")
    table.down = True
    bench.send("POST", "/cities", ITEM, Idempotency_Key="k")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    counted = [
        {
            name: line[name]
            for name in ("WritesReplayed", "KeysReused", "RecordsUnavailable")
            if name in line
        }
        for line in lines
        if line["action"] == "write_answered"
    ]
    assert counted == [{}, {"WritesReplayed": 1}, {"KeysReused": 1}, {"RecordsUnavailable": 1}]
    assert [line["action"] for line in lines].count("records_unavailable") == 1


def test_a_record_is_read_without_packages_that_the_function_lacks() -> None:
    code = (
        "import sys\n"
        "for name in ('msgspec', 'psycopg', 'sqlalchemy', 'boto3'):\n"
        "    sys.modules[name] = None\n"
        "from forebay.command import Command\n"
        "from forebay.codec import encode\n"
        "from forebay.http import Response\n"
        "from forebay.intake.commands import Line\n"
        "from lambdas.write import records\n"
        "from lambdas.write.plan import Plan, decode_plan\n"
        "command = Command('0199f0c2-0000-7000-8000-000000000002', 'put', 'cities', 1, 1, 'me',\n"
        "                  None, {'name': 'x'})\n"
        "plan = Plan(Response(202, '{}', headers={'A': 'b'}), (Line(command, encode(command)),))\n"
        "assert decode_plan(*plan.encode()) == plan\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
