"""Foreign content in archive or queue is refused or rejected, and hurts no valid neighbour."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from forebay.codec import encode
from forebay.command import Command
from forebay.ids import MAX_AHEAD_MS
from local.postgres.config import OWNER
from tests.fixtures.bombs import BOMBS, MIB
from tests.fixtures.commands import city, command_id
from tests.fixtures.consumer import Bench, bench_of, consume_within, text_message
from tests.fixtures.emulator import Emulator
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.strangers import LINES, strange_line
from tests.fixtures.tables import Database, open_connection

#: A consumer needs about 90 MiB to exist, and two chunks in addition.
FUNCTION_BYTES = 256 * MIB
#: Bombs that take seconds to inflate.
SLOW = {
    *("10 GiB in members", "2 GiB of empty lines", "2 GiB of braces", "a bomb behind commands"),
}


@pytest.fixture(scope="module")
def one_bench(postgres_cluster: PostgresServer, emulator: Emulator) -> Iterator[Bench]:
    """One consumer, shared by all tests of the module."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with (
            open_connection(url) as connection,
            bench_of(Database(url, connection), emulator) as new_bench,
        ):
            yield new_bench


@pytest.fixture
def bench(one_bench: Bench) -> Bench:
    """The shared consumer, with empty tables and an empty bucket."""
    one_bench.database.empty()
    for listed_object in one_bench.s3.list_objects_v2(Bucket=one_bench.bucket).get("Contents", []):
        one_bench.s3.delete_object(Bucket=one_bench.bucket, Key=listed_object["Key"])
    return one_bench


# Bombs


def explode(bench: Bench, names: list[str]) -> dict[str, Any]:
    """Consume bombs, each followed by a valid object; return the consumer's report."""
    messages = []
    for number, name in enumerate(names):
        messages.append(bench.message(bench.put(f"commands/b{number}.gz", raw=BOMBS[name].make())))
        good = city(100 + number, key=100 + number)
        messages.append(bench.message(bench.put(f"commands/g{number}.gz", good)))
    return consume_within(bench, FUNCTION_BYTES, messages)


@pytest.mark.parametrize(
    "names",
    [
        [name for name in BOMBS if name not in SLOW],
        pytest.param(sorted(SLOW), marks=pytest.mark.long),
    ],
    ids=["quick", "slow"],
)
def test_a_bomb_ends_as_a_rejection_and_its_neighbours_are_applied(
    bench: Bench, names: list[str]
) -> None:
    result = explode(bench, names)
    assert result["answer"] == {"batchItemFailures": []}
    assert result["peak_kibibytes"] * 1024 < FUNCTION_BYTES
    applied = set(bench.database.cities())
    assert {100 + number for number in range(len(names))} <= applied
    for number, name in enumerate(names):
        key = f"commands/b{number}.gz"
        codes = [
            code
            for (code,) in bench.database.rows(
                "SELECT code FROM forebay.rejections WHERE object = %s", key
            )
        ]
        assert BOMBS[name].code in codes, (name, set(codes))
        assert len(codes) <= 10_001, name
        assert bench.database.ledger()[key]["completed_at"] is not None
        if name == "a bomb behind commands":
            assert set(range(50)) <= applied


# Events


@contextmanager
def no_call_of_s3(bench: Bench) -> Iterator[None]:
    """Fail if the block sends a request to S3."""
    calls: list[str] = []

    def note(**told: Any) -> None:
        calls.append(told["event_name"])

    bench.s3.meta.events.register("before-call.s3", note)
    try:
        yield
    finally:
        bench.s3.meta.events.unregister("before-call.s3", note)
    assert calls == []


def event(bucket: object, key: object, **more: Any) -> str:
    entity = {"bucket": {"name": bucket}, "object": {"key": key}}
    return json.dumps({"Records": [{"eventVersion": "2.1", "s3": entity, **more}]})


OURS = "the bench's own bucket"
REFUSED: Mapping[str, tuple[object, object]] = {
    "foreign bucket": ("another", "commands/a.gz"),
    "bucket that begins like ours": (f"{OURS}-2", "commands/a.gz"),
    "ours in capitals": (OURS.upper(), "commands/a.gz"),
    "ours with a line break": (f"{OURS}\n", "commands/a.gz"),
    "address of ours": (f"arn:aws:s3:::{OURS}", "commands/a.gz"),
    "access point": ("arn:aws:s3:us-east-1:123456789012:accesspoint/x", "commands/a.gz"),
    "path out of ours": (f"{OURS}/../another", "commands/a.gz"),
    "no text for a bucket": ({"": OURS}, "commands/a.gz"),
    "null": (None, None),
    "reports": (OURS, "reports/a.gz"),
    "imports": (OURS, "imports/cities/put/a.ndjson"),
    "audit": (OURS, "audit/a"),
    "no prefix": (OURS, "a.gz"),
    "slash ahead": (OURS, "/commands/a.gz"),
    "dots ahead": (OURS, "../commands/a.gz"),
    "prefix in capitals": (OURS, "COMMANDS/a.gz"),
    "prefix without its slash": (OURS, "commands"),
    "prefix, encoded twice": (OURS, "commands%252Fa.gz"),
    "white space ahead": (OURS, "+commands/a.gz"),
    "line break ahead": (OURS, "%0Acommands/a.gz"),
    "NUL in the prefix": (OURS, "comm%00ands/a.gz"),
    "overlong slash": (OURS, "commands%c0%afa.gz"),
    "list of keys": (OURS, ["commands/a.gz"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_event_of_anything_else_is_refused_without_a_call_of_s3(
    capsys: pytest.CaptureFixture[str], bench: Bench, case: str
) -> None:
    bucket, key = json.loads(json.dumps(REFUSED[case]).replace(OURS, bench.bucket))
    bad = text_message(event(bucket, key))
    with no_call_of_s3(bench):
        assert bench.handle(bad) == {bad["messageId"]}
    (line,) = [entry for entry in _logged(capsys) if entry["action"] == "message_failed"]
    assert line["error"] == "EventRefusedError"
    assert line["message_id"] == bad["messageId"]
    assert "is not under s3://" in line["reason"] or "no bucket or no object" in line["reason"]
    good = bench.message(bench.put("commands/good.gz", city(1, key=1)))
    assert bench.handle(bad, good) == {bad["messageId"]}
    assert set(bench.database.cities()) == {1}


@pytest.mark.parametrize(
    "key",
    [
        "commands/",
        "commands/../reports/a.gz",
        "commands/../../etc/passwd",
        "commands//a.gz",
        "commands/a%0AERROR+forged+log+line",
        "commands/%00",
        "commands/%ff%fe",
        "commands/" + "a" * 1_100,
        "commands/%E2%80%AE.gz",
    ],
)
def test_an_unusual_key_names_only_its_own_object(
    capsys: pytest.CaptureFixture[str], bench: Bench, key: str
) -> None:
    """There is no object of that name, so the message fails, with one line in the log."""
    bench.put("reports/a.gz", city(7, key=7))
    bad = text_message(event(bench.bucket, key))
    good = bench.message(bench.put("commands/good.gz", city(1, key=1)))
    assert bench.handle(bad, good) == {bad["messageId"]}
    assert set(bench.database.cities()) == {1}
    assert sum(entry["action"] == "message_failed" for entry in _logged(capsys)) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"Records":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"Records":[{"s3":{"bucket":{"name":"\\ud800"},"object":{"key":"commands/a"}}}]}',
        '{"Records":{"s3":{}}}',
        '{"Records":"commands/a.gz"}',
        '{"Records":[null]}',
        '{"Records":[[["s3"]]]}',
        '{"Records":[{"s3":"bucket"}]}',
        '{"Records":[{"s3":{"bucket":"name","object":"key"}}]}',
        '{"Message":"{\\"Records\\":[]}"}',
        "null",
        "1e999",
        '"' + "a" * 200_000 + '"',
        "\x00",
    ],
)
def test_only_a_body_that_is_not_an_event_fails(bench: Bench, body: str) -> None:
    bad = text_message(body)
    good = bench.message(bench.put("commands/good.gz", city(1, key=1)))
    with no_call_of_s3(bench):
        assert bench.handle(bad) == {bad["messageId"]}
    assert bench.handle(bad, good) == {bad["messageId"]}
    assert set(bench.database.cities()) == {1}


@pytest.mark.parametrize(
    "told", [5, [], "x", {}, {"run": "x"}, {"run": "x", "selection": 5}, {"run": None}]
)
def test_a_forged_order_to_replay_is_refused(bench: Bench, told: object) -> None:
    bench.put("commands/a.gz", city(1, key=1))
    bad = text_message(event(bench.bucket, "commands/a.gz", forebay=told))
    assert bench.handle(bad) == {bad["messageId"]}
    assert bench.database.cities() == {}


def _logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the events that the consumer has logged since the last call."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Foreign lines


@pytest.mark.parametrize("case", LINES)
def test_an_unusual_line_is_rejected_by_name_or_applied_and_affects_no_neighbour(
    bench: Bench, case: str
) -> None:
    line, code = LINES[case]
    before = bench.database.rows("SELECT count(*) FROM pg_class")
    raw = gzip.compress(encode(city(1, key=1)) + line + encode(city(2, key=2)))
    assert bench.handle(bench.message(bench.put("commands/a.gz", raw=raw))) == set()
    cities = bench.database.cities()
    assert {1, 2} <= set(cities)
    assert len(cities) == 2 + (code is None)
    assert list(bench.database.rejections().values()) == ([code] if code else [])
    row = bench.database.ledger()["commands/a.gz"]
    assert (row["lines"], row["applied"], row["rejected"]) == (
        3,
        2 + (code is None),
        code is not None,
    )
    assert bench.database.rows("SELECT count(*) FROM pg_class") == before


def test_a_body_of_a_newer_schema_is_held_and_its_neighbours_apply(
    capsys: pytest.CaptureFixture[str], bench: Bench
) -> None:
    raw = gzip.compress(encode(city(1, key=1)) + strange_line(schema=99) + encode(city(2, key=2)))
    bad = bench.message(bench.put("commands/a.gz", raw=raw))
    assert bench.handle(bad) == {bad["messageId"]}
    assert set(bench.database.cities()) == {1, 2}
    (line,) = [entry for entry in _logged(capsys) if entry["action"] == "message_failed"]
    assert "deploy the newer release" in line["reason"]


# Foreign ids


def _ahead(ms: int, **changes: Any) -> Command:
    text = f"{time.time_ns() // 1_000_000 + ms:012x}"
    return city(1, key=1, **changes)._replace(id=f"{text[:8]}-{text[8:]}-7000-8000-000000000000")


def test_ids_from_the_future_are_applied_and_their_object_is_named(
    capsys: pytest.CaptureFixture[str], bench: Bench
) -> None:
    """Order must not matter, so these commands win; a warning names them."""
    forged = _ahead(365 * 86_400_000, name="forged")
    bench.put("commands/fine.gz", _ahead(MAX_AHEAD_MS // 2, name="a clock that is ahead"))
    bench.put("commands/forged.gz", forged)
    bench.put("commands/later.gz", _ahead(0, name="later"))
    for name in ("fine", "forged", "later"):
        assert bench.handle(bench.message(f"commands/{name}.gz")) == set()
    assert bench.database.cities()[1][2] == "forged"
    assert bench.database.ledger()["commands/later.gz"]["superseded"] == 1
    (line,) = [entry for entry in _logged(capsys) if entry["action"] == "ids_from_the_future"]
    assert (line["object"], line["last_id"]) == ("commands/forged.gz", forged.id)
    assert line["level"] == "WARNING"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_first_of_two_contents_under_one_id_stays(bench: Bench, order: tuple[str, str]) -> None:
    """Ids have 74 random bits, so one of the two is forged; `forebay verify` reports it."""
    for name in order:
        bench.put(f"commands/{name}.gz", city(5, key=1, name=name))
        assert bench.handle(bench.message(f"commands/{name}.gz")) == set()
    assert bench.database.cities()[1][2] == order[0]
    assert sum(row["duplicates"] for row in bench.database.ledger().values()) == 1


# Foreign decisions


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        b"5",
        b"{}",
        b'{"decision":"rejected","id":"x","code":"c","detail":"d","object":"o","line":"l"}',
        b'{"decision":"rejected","id":"0199f0c2-0000-7000-8000-000000000000","code":5}',
        b'{"decision":"owner","database":"mine"}',
        b"\xff\xfe",
        gzip.compress(b"{}", mtime=0),
    ],
)
def test_a_forged_entry_of_the_decision_log_stops_everything_by_name(
    capsys: pytest.CaptureFixture[str], bench: Bench, content: bytes
) -> None:
    """No command is applied that a decision may concern; removing the entry leaves no trace."""
    forged = "decisions/00000000000000000001.ndjson"
    bench.put(forged, raw=content)
    bench.session.close()  # a new connection reads the log
    message = bench.message(bench.put("commands/a.gz", city(1, key=1)))
    assert bench.handle(message) == {message["messageId"]}
    assert bench.database.cities() == {}
    (line,) = [entry for entry in _logged(capsys) if entry["action"] == "message_failed"]
    assert line["error"] == "DecisionLogError"
    assert f"{forged} is not a valid object of the decision log" in line["reason"]
    bench.s3.delete_object(Bucket=bench.bucket, Key=forged)
    assert bench.handle(message) == set()
    assert set(bench.database.cities()) == {1}


def test_other_objects_in_the_folder_of_decisions_are_ignored(bench: Bench) -> None:
    for stray in ("decisions/", "decisions/notes.txt", "decisions/~"):
        bench.put(stray, raw=b"")
    bad = bench.message(bench.put("commands/a.gz", city(1, key=1, name="x" * 300)))
    assert bench.handle(bad) == set()
    assert bench.database.rejections() == {command_id(1): "string_data_right_truncation"}
