"""Accepted commands survive a stop of the whole stack, orderly or not."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from threading import Event
from typing import Any

import psycopg
import pytest

from forebay.codec import encode
from forebay.conditional import parse_version
from local.postgres.config import locate_primary
from tests.fixtures.emulator import wait_until
from tests.fixtures.hand import hand_made
from tests.fixtures.operating import Operator
from tests.fixtures.stack import RunningStack, gzipped, new_city

WRITERS = 4
ACCEPTED_BEFORE_THE_END = 200


class Writers:
    """Writes continuously from several threads, and records the accepted cities."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._enough = Event()
        #: The city of each accepted command, by the path of the command's status.
        self.accepted: dict[str, dict[str, Any]] = {}

    def write(self) -> None:
        """Write until stopped, or until the API doesn't answer any more."""
        while not self._enough.is_set():
            city = new_city()
            try:
                reply = self._stack.send("PUT", f"/cities/{city['geonameid']}", city)
            except (OSError, HTTPException):
                return
            if reply.status == 202:
                self.accepted[reply.json()["links"]["status"]] = city

    def during(self, end: Callable[[], None]) -> None:
        """Stop the stack with `end` while the threads write."""
        with ThreadPoolExecutor(WRITERS) as pool:
            work = [pool.submit(self.write) for _ in range(WRITERS)]
            try:
                wait_until(lambda: len(self.accepted) >= ACCEPTED_BEFORE_THE_END, "some writes")
                end()
            finally:
                self._enough.set()
        for done in work:
            done.result()


@contextmanager
def nothing_is_applied(stack: RunningStack) -> Iterator[str]:
    """Block the consumers by a lock until the primary stops; yield the status path of a command.

    The command is archived, but the event of its object is lost with the queue. Later commands are
    still in the Firehose server.
    """
    before = len(stack.keys("commands/"))
    with psycopg.connect(locate_primary(stack.settings).url()) as connection:
        connection.execute("LOCK TABLE cities IN EXCLUSIVE MODE")
        city = new_city()
        status = stack.accepted("PUT", f"/cities/{city['geonameid']}", city)
        wait_until(lambda: len(stack.keys("commands/")) > before, "the command is in the archive")
        yield status
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_commands_accepted_before_a_crash_are_applied_after_the_next_start(
    stack: RunningStack, how: str
) -> None:
    early = new_city()
    first = stack.wait_for_status(stack.accepted("PUT", f"/cities/{early['geonameid']}", early))
    writers = Writers(stack)
    with nothing_is_applied(stack) as archived:
        assert stack.client.get(archived).status == 202
        writers.during(stack.stop if how == "stopped" else stack.process.kill_everything)
    assert not stack.is_running

    stack.start()

    assert "cdk deploy" not in stack.process.said(), "the deployment is kept"
    assert stack.wait_for_status(archived)["status"] == "applied"
    assert len(writers.accepted) >= ACCEPTED_BEFORE_THE_END
    for status, city in writers.accepted.items():
        answer = stack.wait_for_status(status)
        assert answer["status"] == "applied"
        reply = stack.send("GET", f"/cities/{city['geonameid']}", Read_After=answer["command_id"])
        assert (reply.status, reply.json()) == (200, city)
    again = stack.send("GET", f"/cities/{early['geonameid']}")
    assert (again.status, parse_version(again["ETag"] or "")) == (200, first["command_id"])
    assert stack.wait_for_status(first["links"]["status"])["status"] == "applied"


@pytest.fixture
def operator(stack: RunningStack) -> Operator:
    """An operator's shell that names the stack and has no other settings."""
    settings = stack.settings
    return Operator(
        settings.state, "", {"FOREBAY_STATE": str(settings.state), "FOREBAY_OPS_ENV": "local"}
    )


def test_a_deleted_database_is_rebuilt_with_its_decisions(
    stack: RunningStack, operator: Operator
) -> None:
    stack.empty()
    city = new_city()
    stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    bad = [hand_made(new_city(), name="x" * 300) for _ in range(3)]
    stack.wait_until_applied(stack.archive(f"bad-{bad[0].id}", gzipped(list(map(encode, bad)))))
    operator.done(
        "rejections", "discard", "--id", bad[0].id, "--id", bad[1].id, "--reason", "a test", "--yes"
    )
    stack.settle()
    queries = {
        "states": "SELECT r.id, d.decision, d.reason, d.by, d.run, d.decided_at"
        " FROM forebay.rejections AS r LEFT JOIN forebay.decisions AS d ON d.rejection = r.id"
        " ORDER BY 1",
        "rows": "SELECT * FROM cities ORDER BY 1",
    }
    before = {name: stack.rows(query) for name, query in queries.items()}
    rejected_at = "SELECT id, rejected_at FROM forebay.rejections ORDER BY 1"
    times = dict(stack.rows(rejected_at))
    stack.stop()
    shutil.rmtree(stack.settings.postgres)

    stack.start()

    assert {name: stack.rows(query) for name, query in queries.items()} == before
    assert "rebuild from the archive" in stack.process.said()
    for rejection, moment in stack.rows(rejected_at):
        # S3 has times in whole seconds, and the archive has the rejection before the database.
        assert abs((moment - times[rejection]).total_seconds()) < 2


def test_a_new_database_whose_archive_has_undecided_commands_gets_them_from_the_queue(
    stack: RunningStack,
) -> None:
    stack.empty()
    good, bad = hand_made(new_city()), hand_made(new_city(), name="x" * 300)
    key = stack.archive(f"bad-{bad.id}", gzipped([encode(good), encode(bad)]))
    stack.wait_until_applied(key)
    for rejected in stack.keys("rejections/"):
        stack.s3.delete_object(Bucket=stack.deployed.archive_bucket, Key=rejected)
    stack.stop()
    shutil.rmtree(stack.settings.postgres)

    stack.start()

    stack.wait_until_applied(key)
    assert stack.rows("SELECT id::text FROM forebay.rejections") == [(bad.id,)]
    assert stack.rows("SELECT geonameid::text FROM cities") == [(str(good.key),)]
