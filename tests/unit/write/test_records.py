"""Repetitions of requests with an Idempotency-Key, while a table of records is available.

The cases are those of draft-ietf-httpapi-idempotency-key-header-07 §2, and those that it leaves
open.
"""

from __future__ import annotations

import base64
import json
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
    RecordingSink,
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
    """A stream; its process may end before or after it takes the lines."""

    on_step: Callable[[str], None] = lambda _: None

    def put(self, lines: Any) -> None:
        self.on_step("send")
        try:
            super().put(lines)
        finally:
            self.on_step("sent")


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
