"""Whatever faults happen, in any order: every acknowledged record is delivered."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.fixtures.emulator import Emulator
from tests.fixtures.firehose import FirehoseServer, Line, Stream, deploy_stream, run_server

probabilities = st.sampled_from([0.0, 0.0, 0.3, 0.9])
faults = st.fixed_dictionaries(
    {
        "throttle": probabilities,
        "partial_failure": probabilities,
        "duplicate": probabilities,
        "reorder": probabilities,
        "lost_ack": probabilities,
        "down": st.sampled_from(["no", "no", "no", "error", "reset"]),
        "seed": st.integers(0, 1_000),
    }
)
# The name of a method of Run, and its arguments. Drawn from one flat list, so equally likely.
sizes = st.lists(st.sampled_from([10, 5_000, 400_000]), min_size=1, max_size=9)
arguments: dict[str, list[st.SearchStrategy[Any]]] = {
    "put": [st.integers(1, 3)],
    "batch": [sizes],
    "faults": [faults],
    "redeploy": [st.sampled_from(["a/!{timestamp:yyyy}/", "b/!{timestamp:HH}/"])],
}
names = st.sampled_from(
    [
        *["put", "batch", "batch"],
        *["faults", "redeploy", "kill", "stop", "flush"],
        *["cut_the_line_to_s3", "lose_answers_of_s3", "mend_the_line_to_s3"],
    ]
)
steps: st.SearchStrategy[tuple[Any, ...]] = names.flatmap(
    lambda name: st.tuples(st.just(name), *arguments.get(name, []))
)
plans = st.lists(steps, min_size=8, max_size=20)
intervals = st.sampled_from([0, 1, 900])


class Run:
    """A run of steps, and the records that were acknowledged to its client."""

    def __init__(self, server: FirehoseServer, stream: Stream, line: Line) -> None:
        self.server = server
        self.stream = stream
        self.line = line
        self.sent = 0
        self.acknowledged: set[str] = set()

    def put(self, count: int) -> None:
        for _ in range(count):
            name = self._name()
            with contextlib.suppress(ClientError, BotoCoreError):
                self.server.client().put_record(
                    DeliveryStreamName=self.stream.name, Record={"Data": f"{name}\n".encode()}
                )
                self.acknowledged.add(name)

    def batch(self, sizes: list[int]) -> None:
        names = [self._name() for _ in sizes]
        records: Any = [
            {"Data": name.ljust(size, ".").encode() + b"\n"}
            for name, size in zip(names, sizes, strict=True)
        ]
        with contextlib.suppress(ClientError, BotoCoreError):
            answer = self.server.client().put_record_batch(
                DeliveryStreamName=self.stream.name, Records=records
            )
            outcomes = answer["RequestResponses"]
            taken = [n for n, o in zip(names, outcomes, strict=True) if "RecordId" in o]
            assert len(names) - len(taken) == answer["FailedPutCount"]
            self.acknowledged.update(taken)

    def faults(self, settings: dict[str, Any]) -> None:
        self.server.set_faults(**settings)

    def kill(self) -> None:
        self.server.kill()
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        self.server.start()

    def cut_the_line_to_s3(self) -> None:
        self.line.cut()

    def mend_the_line_to_s3(self) -> None:
        self.line.mend()

    def lose_answers_of_s3(self) -> None:
        self.line.lose_answers_to("PUT")

    def redeploy(self, prefix: str) -> None:
        self.stream.change(Prefix=prefix)

    def flush(self) -> None:
        self.server.request("POST", "/_flush?timeout=0.2")

    def _name(self) -> str:
        self.sent += 1
        return f"record-{self.sent}"


@pytest.fixture
def server(tmp_path: Path, line: Line) -> Iterator[FirehoseServer]:
    """A server that reaches the emulator over a line that the test can cut."""
    options = ("--stop-seconds", "0.3")
    yield from run_server(FirehoseServer(tmp_path / "spool", line.url, options))


# One server and one line serve all examples; each example restores both.
no_health_checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(plan=plans, interval=intervals)
@settings(max_examples=10, suppress_health_check=no_health_checks)
def test_every_acknowledged_record_is_delivered(
    emulator: Emulator,
    server: FirehoseServer,
    line: Line,
    plan: list[tuple[Any, ...]],
    interval: int,
) -> None:
    check(emulator, server, line, plan, interval)


@pytest.mark.long
@given(plan=plans, interval=intervals)
@settings(max_examples=120, suppress_health_check=no_health_checks)
def test_every_acknowledged_record_is_delivered_in_many_more_runs(
    emulator: Emulator,
    server: FirehoseServer,
    line: Line,
    plan: list[tuple[Any, ...]],
    interval: int,
) -> None:
    check(emulator, server, line, plan, interval)


def check(
    emulator: Emulator,
    server: FirehoseServer,
    line: Line,
    plan: list[tuple[Any, ...]],
    interval: int,
) -> None:
    """Run the steps of `plan` with a new stream, then compare with the objects in S3."""
    hints = {"SizeInMBs": 1, "IntervalInSeconds": interval}
    run = Run(server, deploy_stream(emulator, BufferingHints=hints), line)
    try:
        for step, *values in [("put", 1), *plan]:
            event(step)
            getattr(run, step)(*values)
    finally:
        line.mend()
        server.set_faults()
    server.flush()

    delivered = {text.rstrip(".") for text in run.stream.lines()}
    assert run.acknowledged <= delivered
    assert delivered <= {f"record-{number + 1}" for number in range(run.sent)}
