"""A replay through the queue: its progress is followed, and it also ends without a follower."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forebay.aws.queue import Message, Queue
from forebay.replay.runs import record_failure
from local.settings import ROOT
from ops.replay import via_queue
from tests.fixtures.commands import city
from tests.fixtures.consumer import Bench, another_consumer, aws_environment
from tests.fixtures.emulator import Emulator, wait_until
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site


@dataclass
class Replays:
    """A site with a replay queue, a consumer that the test calls, and an operator."""

    site: Site
    bench: Bench
    queue: Queue
    dead_letters: Queue
    operator: Operator

    def begin(self, *arguments: str) -> str:
        """Enqueue a replay without following it; return its run."""
        return str(self.operator.done("replay", "--via-queue", "--yes", *arguments)["run"])

    def watch(self, run: str, code: int = 0) -> dict[str, Any]:
        return self.operator.done("replay", "--resume", run, "--watch", code=code)

    def consume(self, messages: int = 1_000) -> None:
        """Let the consumer take at most so many messages; failed messages stay available."""
        for batch in self.queue.drain(hidden_seconds=0):
            chosen = batch[:messages]
            messages -= len(chosen)
            failed = self.bench.handle(*map(_as_lambda_has_it, chosen))
            self.queue.delete([message for message in chosen if message.id not in failed])
            if not messages:
                return

    def bury(self) -> None:
        """Move all messages to the dead-letter queue, as SQS does after too many failures."""
        for batch in self.queue.drain():
            self.dead_letters.send([message.body for message in batch])
            self.queue.delete(batch)

    def state(self, run: str) -> str:
        ((state,),) = self.operator.rows("SELECT state FROM forebay.runs WHERE id = %s::uuid", run)
        return str(state)


def _as_lambda_has_it(message: Message) -> dict[str, Any]:
    return {"messageId": message.id, "body": message.body, "attributes": {}}


@pytest.fixture
def replays(site: Site, emulator: Emulator) -> Iterator[Replays]:
    sqs = emulator.client("sqs")
    queue, dead = (
        Queue(sqs, sqs.create_queue(QueueName=f"{part}-{uuid.uuid4().hex}")["QueueUrl"])
        for part in ("replay", "replay-dead")
    )
    with another_consumer(site.database, emulator, site.bucket) as bench:
        environment = {
            **aws_environment(bench),
            "FOREBAY_DATABASE_URL": site.database.url,
            "FOREBAY_ARCHIVE_BUCKET": site.bucket,
            "FOREBAY_REPLAY_QUEUE_URL": queue.url,
            "FOREBAY_REPLAY_DEAD_LETTER_QUEUE_URL": dead.url,
        }
        operator = Operator(ROOT, site.database.url, environment)
        yield Replays(site, bench, queue, dead, operator)


def put_later(replays: Replays, run: str, number: int) -> str:
    """Store an object after the run has started; S3 reports times in whole seconds."""
    query = "SELECT started_at FROM forebay.runs WHERE id = %s::uuid"
    ((started,),) = replays.operator.rows(query, run)
    next_second = started.replace(microsecond=0) + dt.timedelta(seconds=1)
    wait_until(lambda: dt.datetime.now(dt.UTC) >= next_second, "a second has begun")
    return replays.site.put(city(number, key=number))


def test_a_run_without_a_follower_ends_with_its_last_object(replays: Replays) -> None:
    for number in range(3):
        replays.site.put(city(number, key=number))
    run = replays.begin()
    replays.consume(2)
    assert replays.state(run) == "running"
    replays.consume()
    assert replays.state(run) == "done"
    result = replays.watch(run)
    assert (result["objects"], result["objects_missing"], result["applied"]) == (3, 0, 3)
    run_result = replays.operator.run("replay", "--resume", run)
    assert (run_result.code, "is done" in run_result.err) == (3, True)


def test_a_run_is_followed_by_its_sent_objects_and_not_by_the_archive(
    replays: Replays,
) -> None:
    for number in range(3):
        replays.site.put(city(number, key=number))
    run = replays.begin()
    put_later(replays, run, 9)
    replays.consume()
    result = replays.watch(run)
    assert (result["objects"], result["objects_missing"]) == (3, 0)
    assert replays.state(run) == "done"


def test_a_resumed_run_sends_nothing_that_was_stored_after_its_start(replays: Replays) -> None:
    replays.site.put(city(1, key=1))
    run = replays.begin()
    put_later(replays, run, 9)
    result = replays.operator.done("replay", "--resume", run)
    assert (result["objects"], result["sent"]) == (1, 1)
    replays.consume()
    assert replays.state(run) == "done"
    assert replays.watch(run)["objects_missing"] == 0


def test_the_watch_of_a_run_by_ids_reports_that_the_archive_lacks_some(
    replays: Replays, tmp_path: Path
) -> None:
    hour = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)  # of the objects' names
    time = f"{int(hour.timestamp() * 1000):012x}"
    known, unknown = (f"{time[:8]}-{time[8:]}{city(number).id[13:]}" for number in (1, 2))
    replays.site.put(city(1, key=1)._replace(id=known))
    ids = tmp_path / "ids"
    ids.write_text(f"{known}\n{unknown}\n")
    run = replays.begin("--id-file", str(ids))
    replays.consume()
    followed = replays.operator.run("replay", "--resume", run, "--watch")
    assert (followed.code, "only 1 of the 2 ids" in followed.err) == (5, True), followed.err
    assert replays.state(run) == "done"


def test_objects_of_a_run_that_is_being_sent_do_not_finish_it(replays: Replays) -> None:
    """If the tool is killed while it sends, the consumer may have applied all sent objects."""
    replays.site.put(city(1, key=1))
    run = replays.begin()
    replays.operator.rows("UPDATE forebay.runs SET objects = NULL WHERE id = %s::uuid", run)
    replays.consume()
    assert replays.state(run) == "running"
    result = replays.operator.run("replay", "--resume", run, "--watch")
    assert (result.code, f"forebay replay --resume {run}" in result.err) == (3, True)
    assert replays.operator.done("replay", "--resume", run)["sent"] == 0
    assert replays.state(run) == "done"


def test_dead_letters_of_the_run_end_the_watch_and_are_named(replays: Replays) -> None:
    good = replays.site.put(city(1, key=1))
    lost = replays.site.put(city(2, key=2))
    replays.site.s3.delete_object(Bucket=replays.site.bucket, Key=good)
    replays.dead_letters.send(["a message of somebody else", "{}"])
    replays.site.put(city(1, key=1), name="good")
    run = replays.begin()
    replays.site.s3.delete_object(Bucket=replays.site.bucket, Key=lost)
    replays.consume()
    replays.bury()
    record_failure(replays.site.database.connection, run, lost, "it is not there")
    result = replays.operator.run("replay", "--resume", run, "--watch", "--json")
    assert result.code == 5
    assert (result.json["objects"], result.json["objects_missing"]) == (1, 1)
    assert result.json["dead_letters"] == 1
    assert f"{lost}: a dead letter of the replay queue; it is not there" in result.err
    assert replays.state(run) == "stopped"


def test_a_run_that_was_stopped_by_a_dead_letter_is_done_when_that_is_applied(
    replays: Replays,
) -> None:
    key = replays.site.put(city(1, key=1))
    replays.site.put(city(2, key=2), name="other")
    content = replays.site.s3.get_object(Bucket=replays.site.bucket, Key=key)["Body"].read()
    run = replays.begin()
    replays.site.s3.delete_object(Bucket=replays.site.bucket, Key=key)
    replays.consume()
    replays.bury()
    replays.watch(run, code=5)
    replays.site.s3.put_object(Bucket=replays.site.bucket, Key=key, Body=content)
    for batch in replays.dead_letters.drain():
        replays.queue.send([message.body for message in batch])
        replays.dead_letters.delete(batch)
    replays.consume()
    assert replays.state(run) == "done"


def test_messages_that_are_gone_end_the_watch_after_a_while(
    replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(via_queue, "QUIET_SECONDS", 0.5)
    replays.site.put(city(1, key=1))
    run = replays.begin()
    for batch in replays.queue.drain():
        replays.queue.delete(batch)
    result = replays.operator.run("replay", "--resume", run, "--watch")
    assert (result.code, "1 others are unfinished" in result.err) == (5, True)
