"""Two consumers with one object, of which the slower one has rejected a command (law 3)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics

import resources
from forebay.apply import Rejection
from forebay.aws.archive import Archive
from forebay.db.session import Session
from lambdas.firehose_consumer.app import Consumer
from tests.fixtures.commands import city, command_id
from tests.fixtures.consumer import Bench
from tests.fixtures.tables import open_connection

WAIT_SECONDS = 30


class SteppingArchive(Archive):
    """The archive of one consumer, which stops at two places until it may go on."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.s3, bench.bucket)
        self.is_reading, self.may_read = threading.Event(), threading.Event()
        self.has_rejected, self.may_commit = threading.Event(), threading.Event()

    def read(self, key: str) -> Iterator[bytes]:
        """See Archive; stops before it reads commands, when the archived rejections are known."""
        if key.startswith("commands/"):
            self.is_reading.set()
            assert self.may_read.wait(WAIT_SECONDS)
        yield from super().read(key)

    def write_rejections(self, source_key: str, rejections: Sequence[Rejection]) -> None:
        """See Archive; stops after it, before the transaction commits."""
        super().write_rejections(source_key, rejections)
        self.has_rejected.set()
        assert self.may_commit.wait(WAIT_SECONDS)


def consumer_of(bench: Bench, archive: Archive, session: Session) -> Consumer:
    return Consumer(
        resources=resources.load(),
        archive=archive,
        session=session,
        logger=Logger(service="test"),
        metrics=Metrics(namespace="Test", service="take-over"),
    )


@pytest.fixture
def sessions(bench: Bench) -> Iterator[list[Session]]:
    made = [Session(lambda: open_connection(bench.database.url)) for _ in range(2)]
    yield made
    for session in made:
        session.close()


def test_what_an_overtaken_consumer_has_archived_as_rejected_gets_into_the_table(
    bench: Bench, sessions: list[Session]
) -> None:
    """To the faster one the command was superseded; every rebuild finds it in the archive."""
    bad = city(4, key=9, name="x" * 300)
    message = bench.message(bench.put("commands/2026/01/01/00/a.gz", bad))
    newer = bench.message(bench.put("commands/2026/01/01/00/b.gz", city(5, key=9)))
    slow, fast = SteppingArchive(bench), SteppingArchive(bench)
    consumers = [
        consumer_of(bench, archive, session)
        for archive, session in zip((slow, fast), sessions, strict=True)
    ]
    with ThreadPoolExecutor(2) as pool:
        # The fast one looks for archived rejections first, when there are none.
        second = pool.submit(consumers[1].handle, {"Records": [message]})
        assert fast.is_reading.wait(WAIT_SECONDS)
        slow.may_read.set()
        first = pool.submit(consumers[0].handle, {"Records": [message]})
        assert slow.has_rejected.wait(WAIT_SECONDS)
        # Now something newer comes, so that nobody else will try the command.
        assert bench.handle(newer) == set()
        fast.may_read.set()
        assert second.result(WAIT_SECONDS) == {"batchItemFailures": []}
        assert bench.database.ledger()["commands/2026/01/01/00/a.gz"]["superseded"] == 1
        assert bench.database.rejections() == {}
        slow.may_commit.set()
        assert first.result(WAIT_SECONDS) == {"batchItemFailures": []}
    assert bench.database.rejections() == {command_id(4): "string_data_right_truncation"}
    assert bench.database.cities()[9][0] == command_id(5)
