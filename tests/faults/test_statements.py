"""Faults of a consumer in the middle of an object: at each statement, with each command."""

import gzip
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from forebay.codec import encode
from forebay.command import Command
from tests.fixtures.commands import city
from tests.fixtures.consumer import Bench, another_consumer, aws_environment, bench_of
from tests.fixtures.emulator import Emulator
from tests.fixtures.faults import Fault, Results
from tests.fixtures.operating import Operator
from tests.fixtures.proxies import postgres_proxy
from tests.fixtures.tables import Database

RIG = "the consumer, Postgres, S3 of the emulator"
PENDING = "202 was answered before; the status stays `pending` for so long"
_FAR_AHEAD = 1_000_000  # more statements than any test executes
#: The acceptance hour in the ids of test commands.
HOUR = "commands/2025/10/17/06"
MEBIBYTE = 1024 * 1024


@contextmanager
def fault(
    results: Results, bench: Bench, name: str, how: str, *, part: str
) -> Iterator[tuple[Fault, "Expected"]]:
    """Record a fault of a consumer; check afterwards that tables and archive agree."""
    fault = Fault(name=name, how=how, part=part, rig=RIG, client=PENDING)
    expected = Expected()
    began = time.monotonic()
    yield fault, expected
    fault.seconds = round(time.monotonic() - began, 1)
    expected.judge(fault, bench.database)
    fault.verified = verified(bench)
    results.add(fault)


class Expected:
    """The expected content of the tables after a fault."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.deleted: set[str] = set()
        self.rejected: set[str] = set()

    def judge(self, fault: Fault, database: Database) -> None:
        """Set the numbers of acknowledged, lost and hurt commands."""
        if fault.acknowledged:  # the test has counted them itself
            return
        fault.acknowledged = len(self.rows) + len(self.deleted) + len(self.rejected)
        cities, tombstones = database.cities(), set(database.tombstones().values())
        versions = {key: version for key, (version, _, _) in cities.items()}
        rejections = set(database.rejections())
        fault.lost = sum(versions.get(key) != version for key, version in self.rows.items())
        fault.lost += len(self.deleted - tombstones) + len(self.rejected - rejections)
        good = set(self.rows.values()) | self.deleted
        fault.hurt = len(good & rejections)
        assert len(cities) == len(self.rows), "nothing else is there"


def verified(bench: Bench) -> bool:
    """Return whether `forebay verify` finds that archive and database agree."""
    operator = Operator(Path(os.devnull), bench.database.url)
    operator.environment = {
        "FOREBAY_DATABASE_URL": bench.database.url,
        "FOREBAY_ARCHIVE_BUCKET": f"s3://{bench.bucket}",
        **aws_environment(bench),
    }
    result = operator.run("verify", "--json")
    sys.stderr.write(result.out + result.err)
    return result.code == 0 and result.json["agrees"] and not result.json["not_applied"]


def deliver(bench: Bench, key: str) -> tuple[int, float]:
    """Deliver an object's message until it succeeds; return the deliveries and the seconds."""
    message = bench.message(key)
    began = time.monotonic()
    deliveries = 1
    while bench.handle(message):
        deliveries += 1
        assert deliveries <= 5, "it would be a dead letter"
    return deliveries, time.monotonic() - began


def mixed(number: int, expected: Expected) -> list[Command]:
    """Make commands of every kind, each with its own key; one of them must be rejected."""
    first = number * 10
    commands = [
        city(first, key=first),
        city(first + 1, "create", first + 1),
        city(first + 2, "delete", first + 2),
        city(first + 3, key=first + 3, name="x" * 300),
        city(first + 4, key=first + 4),
    ]
    expected.rows |= {
        first: commands[0].id,
        first + 1: commands[1].id,
        first + 4: commands[4].id,
    }
    expected.deleted.add(commands[2].id)
    expected.rejected.add(commands[3].id)
    return commands


@pytest.mark.quick
def test_the_connection_is_cut_between_any_two_statements(
    database: Database, emulator: Emulator, fault_results: Results
) -> None:
    port = database.connection.info.port
    with (
        postgres_proxy(port) as proxy,
        bench_of(database, emulator, proxy.url(database.url)) as bench,
        fault(
            fault_results,
            bench,
            "connection cut between any two statements",
            "a proxy counts statements and breaks the connection before the n-th, or after it "
            "without its answer, for each n from the first to the commit",
            part="consumer",
        ) as (fault_record, expected),
    ):
        slowest, cuts, redelivered = 0.0, 0, 0
        number = 1
        for where in ("before", "after"):
            statement = 1
            while True:
                bench.session.close()
                key = bench.put(f"{HOUR}/{where}{statement}.gz", *mixed(number, expected))
                proxy.cut_at(statement, where)
                deliveries, seconds = deliver(bench, key)
                number += 1
                if proxy.is_cut_due:  # the object has fewer statements
                    proxy.cut_at(_FAR_AHEAD, where)
                    break
                slowest, cuts = max(slowest, seconds), cuts + 1
                redelivered += deliveries - 1
                statement += 1
        fault_record.recovery_seconds = round(slowest, 1)
        fault_record.remark = f"{cuts} cuts; {redelivered} messages had to be delivered again"
    assert cuts > 30, "the statements of five commands of all kinds"


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["no JSON", "a value too long", "an unknown resource"])
def test_a_poisoned_command_in_each_position(
    bench: Bench, fault_results: Results, kind: str
) -> None:
    count = 12
    with fault(
        fault_results,
        bench,
        f"poison command in each position: {kind}",
        f"an object of {count} commands, one of them bad, for each place",
        part="consumer",
    ) as (fault_record, expected):
        slowest = 0.0
        for place in range(count):
            first = place * 100
            commands = [city(first + at, key=first + at) for at in range(count)]
            lines = [encode(command) for command in commands]
            bad = commands[place]
            lines[place] = poisoned(bad, kind)
            expected.rows |= {int(c.key): c.id for c in commands if c is not bad}
            before = set(bench.database.rejections())
            key = bench.put(f"{HOUR}/{place}.gz", raw=gzip.compress(b"".join(lines)))
            _, seconds = deliver(bench, key)
            expected.rejected |= set(bench.database.rejections()) - before
            slowest = max(slowest, seconds)
        fault_record.recovery_seconds = round(slowest, 1)
        fault_record.client = (
            "the bad command's status is `rejected`, with the reason; others are applied"
        )
    assert len(expected.rejected) == count


def poisoned(command: Command, kind: str) -> bytes:
    """A line that can't be applied."""
    if kind == "no JSON":
        return b'{"v":1,"id":"' + command.id.encode() + b'","op\n'
    line = orjson.loads(encode(command))
    if kind == "a value too long":
        line["body"]["name"] = "x" * 300
    else:
        line["resource"] = "planets"
    return orjson.dumps(line) + b"\n"


@pytest.mark.quick
def test_two_consumers_with_the_same_object(
    database: Database, emulator: Emulator, bench: Bench, fault_results: Results
) -> None:
    rounds = 20
    with (
        another_consumer(database, emulator, bench.bucket) as other,
        fault(
            fault_results,
            bench,
            "two consumers on one object",
            f"both get its message at the same moment, {rounds} objects",
            part="consumer",
        ) as (fault_record, expected),
    ):
        slowest = 0.0
        for number in range(1, rounds + 1):
            key = bench.put(f"{HOUR}/{number}.gz", *mixed(number, expected))
            slowest = max(slowest, both_at_once([bench, other], key))
        fault_record.recovery_seconds = round(slowest, 1)
    counted = [
        sum(row[name] for name in ("applied", "superseded", "duplicates", "rejected"))
        for row in database.ledger().values()
    ]
    assert counted == [5] * rounds, "each line is counted once"


def both_at_once(benches: Sequence[Bench], key: str) -> float:
    """Deliver the object to all consumers concurrently; return the seconds of the slowest."""
    gate = threading.Barrier(len(benches))
    seconds: list[float] = []

    def work(bench: Bench) -> None:
        gate.wait()
        seconds.append(deliver(bench, key)[1])

    threads = [threading.Thread(target=work, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == len(benches), "one of them failed"
    return max(seconds)
