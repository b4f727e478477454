"""Repetitions of requests with an Idempotency-Key, while a table of records is available.

The cases are those of draft-ietf-httpapi-idempotency-key-header-07 §2, and those that it leaves
open.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import pytest

from forebay.http import Response
from lambdas.write.app import REPLAYED
from lambdas.write.records import LOCK_SECONDS
from tests.fixtures.api import (
    RETENTION_SECONDS,
    RecordingSink,
    RecordingStore,
    WriteBench,
    document,
    event,
)
from tests.fixtures.commands import CITY
from tests.fixtures.records import MemoryRecords

ITEM = {"geonameid": 5, **CITY}
NEWS = {"title": "Roads", "body": "Closed on Sunday.", "published_on": "2026-02-28"}
OPERATIONS = [
    {"op": "create", "resource": "announcements", "body": NEWS},
    {"op": "patch", "resource": "cities", "key": 5, "body": {"population": {"$increment": -2}}},
    {"op": "put", "resource": "cities", "body": {"geonameid": "no number"}},
    {"op": "delete", "resource": "cities", "key": 7},
]
INCREMENT = {"population": {"$increment": 1}}
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Write:
    """A kind of write, and the number of its commands."""

    method: str
    resource: str
    content: Any = None
    count: int = 1
    key: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    media: str | None = "application/json"

    def send(self, bench: WriteBench, key: str | None = "k", **headers: str) -> Response:
        names = {"Idempotency_Key": key} if key is not None else {}
        return bench.send(
            self.method,
            self.resource,
            self.content,
            key=self.key,
            raw=self.raw,
            media=self.media,
            query=self.query,
            **self.headers,
            **names,
            **headers,
        )


WRITES = {
    "POST, the key in the body": Write("POST", "/cities", ITEM),
    "POST, the server's key": Write("POST", "/announcements", NEWS),
    "array": Write("POST", "/announcements", [NEWS, {"title": ""}, NEWS], count=2),
    "NDJSON": Write("POST", "/announcements", raw=f"{json.dumps(NEWS)}\n", media=NDJSON),
    "upsert of PostgREST": Write(
        "POST",
        "/cities",
        [ITEM],
        query={"on_conflict": "geonameid", "columns": ",".join(ITEM)},
        headers={"Prefer": "resolution=merge-duplicates,return=minimal"},
    ),
    "insert of PostgREST that returns rows": Write(
        "POST",
        "/announcements",
        [NEWS],
        headers={
            "Prefer": "return=representation",
            "Accept": "application/vnd.pgrst.object+json",
        },
    ),
    "PUT": Write("PUT", "/cities/{key}", ITEM, key="5"),
    "PUT that creates": Write(
        "PUT", "/cities/{key}", ITEM, key="5", headers={"If_None_Match": "*"}
    ),
    "PATCH": Write("PATCH", "/cities/{key}", {"population": 3}, key="5"),
    "PATCH with an increment": Write("PATCH", "/cities/{key}", INCREMENT, key="5"),
    "PATCH with a condition": Write(
        "PATCH", "/cities/{key}", {"population": 3}, key="5", headers={"If_Match": "*"}
    ),
    "PATCH by a filter": Write(
        "PATCH", "/cities", INCREMENT, query={"geonameid": "in.(1,2,3)"}, count=3
    ),
    "PATCH of PostgREST": Write(
        "PATCH",
        "/cities",
        {"population": 3},
        query={"geonameid": "eq.5", "population": "gt.1"},
        headers={"Prefer": "return=minimal"},
    ),
    "DELETE": Write("DELETE", "/cities/{key}", key="5", media=None),
    "DELETE by a filter": Write(
        "DELETE", "/cities", query={"geonameid": "in.(1,2)"}, media=None, count=2
    ),
    "operations": Write("POST", "/commands", OPERATIONS, count=3),
}
KINDS = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


class KilledError(BaseException):
    """The end of a process; no handler of the write function catches it."""


@dataclass
class Kill:
    """Ends the process at the step with the given number; None: at none."""

    at: int | None
    steps: list[str] = field(default_factory=list)

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) - 1 == self.at:
            raise KilledError(step)


@dataclass
class SteppingSink(RecordingSink):
    """A stream whose process may end before or after it takes the lines."""

    on_step: Callable[[str], None] = lambda _: None

    def put(self, lines: Any) -> set[int]:
        self.on_step("send")
        refused = super().put(lines)
        self.on_step("sent")
        return refused


def bench_of(**arguments: Any) -> tuple[WriteBench, MemoryRecords]:
    table = MemoryRecords()
    return WriteBench(table=table, **arguments), table


def without_mark(response: Response) -> Response:
    """The response as the first attempt's; its headers must have the mark."""
    headers = dict(response.headers)
    assert headers.pop(REPLAYED) == "true"
    return Response(response.status, response.body, response.content_type, headers)


@KINDS
def test_a_repetition_gets_the_first_answer_and_sends_nothing(write: Write) -> None:
    bench, table = bench_of()

    first = write.send(bench)
    bench.now_ms += 1_000
    again = write.send(bench)

    assert first.status in {202, 207}
    assert REPLAYED not in first.headers
    assert without_mark(again) == first
    assert len(bench.sink.taken) == write.count
    (record,) = table.by_name.values()
    assert record.lines == b""


@KINDS
def test_the_answer_with_a_table_is_the_answer_without(write: Write) -> None:
    """Ids and keys differ, so only their places are compared."""
    with_table, without = write.send(bench_of()[0]), write.send(WriteBench())

    assert with_table.status == without.status
    assert with_table.headers.keys() == without.headers.keys()
    assert len(with_table.body) == len(without.body)


@KINDS
@pytest.mark.parametrize("at", range(6))
def test_an_attempt_that_dies_at_any_step_is_taken_over_with_its_commands(
    write: Write, at: int
) -> None:
    """Steps: before and after each of create, send, and finish."""
    kill = Kill(at)
    table, sink = MemoryRecords(on_step=kill), SteppingSink(on_step=kill)
    bench = WriteBench(table=table, sink=sink)

    with pytest.raises(KilledError):
        write.send(bench)
    assert kill.steps == ["create", "created", "send", "sent", "finish", "finished"][: at + 1]
    kill.at = None
    first_ids = {command.id for command in sink.commands}
    bench.now_ms += round(LOCK_SECONDS * 1000)
    again = write.send(bench)
    third = write.send(bench)

    assert again.status in {202, 207}
    assert (REPLAYED in again.headers) == (at > 0)
    assert without_mark(third).body == again.body
    lines = {command.id: line for command, line in zip(sink.commands, sink.taken, strict=True)}
    assert len(lines) == len(set(sink.taken)) == write.count
    assert first_ids <= lines.keys()


@KINDS
@pytest.mark.parametrize("at", range(6))
def test_a_take_over_that_dies_is_taken_over_too(write: Write, at: int) -> None:
    """Steps of the second attempt: create, take over, taken over, send, sent, finish."""
    kill = Kill(2)  # the first attempt dies before it sends
    table, sink = MemoryRecords(on_step=kill), SteppingSink(on_step=kill)
    bench = WriteBench(table=table, sink=sink)
    with pytest.raises(KilledError):
        write.send(bench)
    (record,) = table.by_name.values()

    bench.now_ms += round(LOCK_SECONDS * 1000)
    kill.at, kill.steps = at, []
    with pytest.raises(KilledError):
        write.send(bench)
    kill.at = None
    bench.now_ms += round(LOCK_SECONDS * 1000)
    last = write.send(bench)

    assert last.status in {202, 207}
    assert REPLAYED in last.headers
    assert len({command.id for command in sink.commands}) == len(set(sink.taken)) == write.count
    (after,) = table.by_name.values()
    assert (after.answer, after.is_finished) == (record.answer, True)


@KINDS
def test_a_repetition_while_an_attempt_is_in_progress_is_409(write: Write) -> None:
    kill = Kill(2)
    bench = WriteBench(table=MemoryRecords(on_step=kill), sink=SteppingSink(on_step=kill))
    with pytest.raises(KilledError):
        write.send(bench)

    pauses = []
    for seconds in (0, 1, 9, 10, 9.999):
        bench.now_ms += round(seconds * 1000)
        answer = write.send(bench)
        assert (answer.status, document(answer)["code"]) == (409, "idempotency_in_flight")
        pauses.append(answer.headers["Retry-After"])

    assert pauses == ["1", "1", "10", "10", "1"]
    assert bench.sink.taken == []


@KINDS
def test_a_hundred_concurrent_repetitions_give_one_command(write: Write) -> None:
    bench, _ = bench_of()
    together = Barrier(100)

    def send(_: int) -> Response:
        together.wait()
        return write.send(bench)

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(send, range(100)))

    assert len(bench.sink.taken) == write.count
    assert {answer.status for answer in answers} <= {202, 207, 409}
    bodies = {answer.body for answer in answers if answer.status != 409}
    assert len(bodies) == 1
    first = [
        answer for answer in answers if answer.status != 409 and REPLAYED not in answer.headers
    ]
    assert len(first) == 1


OTHER_REQUESTS: dict[str, Callable[[WriteBench], Response]] = {
    "another body": lambda bench: bench.send(
        "POST", "/cities", {**ITEM, "population": 1}, Idempotency_Key="k"
    ),
    "a body with other white space": lambda bench: bench.send(
        "POST", "/cities", raw=json.dumps(ITEM, indent=1), Idempotency_Key="k"
    ),
    "an invalid body": lambda bench: bench.send("POST", "/cities", {}, Idempotency_Key="k"),
    "no body": lambda bench: bench.send("POST", "/cities", Idempotency_Key="k"),
    "another resource": lambda bench: bench.send(
        "POST", "/announcements", NEWS, Idempotency_Key="k"
    ),
    "another method": lambda bench: bench.send(
        "PUT", "/cities/{key}", ITEM, key="5", Idempotency_Key="k"
    ),
    "another parameter": lambda bench: bench.send(
        "POST", "/cities", ITEM, query={"on_conflict": "geonameid"}, Idempotency_Key="k"
    ),
    "another preference": lambda bench: bench.send(
        "POST", "/cities", ITEM, Prefer="return=minimal", Idempotency_Key="k"
    ),
    "another version seen": lambda bench: bench.send(
        "POST",
        "/cities",
        ITEM,
        Read_After="0199f0c2-0000-7000-8000-000000000002",
        Idempotency_Key="k",
    ),
    "another media type": lambda bench: bench.send(
        "POST", "/cities", ITEM, media=NDJSON, Idempotency_Key="k"
    ),
}


@pytest.mark.parametrize("other", OTHER_REQUESTS.values(), ids=OTHER_REQUESTS.keys())
def test_another_request_under_the_key_is_422(other: Callable[[WriteBench], Response]) -> None:
    bench, _ = bench_of()
    bench.send("POST", "/cities", ITEM, Idempotency_Key="k")

    answer = other(bench)

    assert (answer.status, document(answer)["code"]) == (422, "idempotency_key_reused")
    assert len(bench.sink.taken) == 1


def test_another_request_is_422_even_if_the_first_attempt_died() -> None:
    kill = Kill(2)
    bench = WriteBench(table=MemoryRecords(on_step=kill), sink=SteppingSink(on_step=kill))
    with pytest.raises(KilledError):
        bench.send("POST", "/cities", ITEM, Idempotency_Key="k")
    bench.now_ms += round(LOCK_SECONDS * 1000)

    assert bench.send("PUT", "/cities/{key}", ITEM, key="5", Idempotency_Key="k").status == 422


@pytest.mark.parametrize(
    "again",
    [{"Idempotency_Key": '"k"'}, {"Idempotency_Key": "k", "traceparent": "00-1"}],
    ids=["the key in quotes", "another trace"],
)
def test_headers_that_change_nothing_do_not_make_another_request(again: dict[str, str]) -> None:
    bench, _ = bench_of()
    bench.send("POST", "/cities", ITEM, Idempotency_Key="k")

    assert REPLAYED in bench.send("POST", "/cities", ITEM, **again).headers


def test_base64_and_text_are_different_bodies() -> None:
    """Otherwise, a text could be sent that equals the base64 of an earlier body."""
    bench, _ = bench_of()
    content = base64.b64encode(json.dumps(ITEM).encode()).decode()
    headers = {"content-type": "application/json", "idempotency-key": "k"}
    request = event("POST", "/cities", headers=headers, body=content)

    first = bench.app.handle({**request, "isBase64Encoded": True})
    assert first.status == 202
    assert bench.app.handle(request).status == 422
    assert REPLAYED in bench.app.handle({**request, "isBase64Encoded": True}).headers


@pytest.mark.parametrize("text", ["\ud800", "\x00", "'\"\\", "\u202e\N{SNOWMAN}"])
def test_any_text_in_a_header_can_be_repeated(text: str) -> None:
    bench, _ = bench_of()

    answers = [
        bench.send("POST", "/cities", ITEM, Prefer=prefer, Idempotency_Key="k")
        for prefer in (f"x={text}", f"x={text}", f"x={text}x")
    ]

    assert [answer.status for answer in answers] == [202, 202, 422]


def test_callers_do_not_share_records() -> None:
    bench, table = bench_of()

    answers = [
        bench.send(
            "POST",
            "/cities",
            ITEM,
            Idempotency_Key="k",
            context={"authorizer": {"claims": {"sub": subject}}},
        )
        for subject in ("ann", "bob", "ann")
    ]

    assert [REPLAYED in answer.headers for answer in answers] == [False, False, True]
    assert len(table.by_name) == 2
    assert [command.by for command in bench.sink.commands] == ["user:ann", "user:bob"]


def test_a_refused_request_leaves_no_record() -> None:
    """Nothing was accepted, so the corrected request may have the same key."""
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
        "from lambdas.write.plans import Plan, decode_plan\n"
        "command = Command('0199f0c2-0000-7000-8000-000000000002', 'put', 'cities', 1, 1, 'me',\n"
        "                  None, {'name': 'x'})\n"
        "plan = Plan(Response(202, '{}', headers={'A': 'b'}), (Line(command, encode(command)),))\n"
        "assert decode_plan(*plan.encode()) == plan\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
