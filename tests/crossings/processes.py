"""The processes of a history: the queue, consumers, imports and the operator's command line."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import quote_plus

import psycopg

from forebay.archive.lines import read_chunks
from forebay.aws.archive import Archive
from forebay.db.session import Session
from forebay.replay import runs
from forebay.replay.messages import ReplayMessage
from forebay.replay.selection import Selection
from forebay.resource import ResourceSpec
from lambdas.consumer import app as consumer_app
from lambdas.consumer.app import Consumer
from lambdas.imports.app import Importer
from ops import cli
from ops.context import DATABASE, Context
from tests.crossings.databases import Database
from tests.crossings.links import connect
from tests.crossings.s3 import BUCKET, FakeS3, ScheduledS3
from tests.crossings.scheduler import Actor, CrashedError, Fault, Scheduler

#: Deliveries of a message before it becomes a dead letter.
_RECEIVES = 3
#: Lines of a chunk; few, so that a small object takes several transactions.
_CHUNK_LINES = 4
#: The actor of an operator that works on the scratch database.
SCRATCH_OPERATOR = "scratch operator"


class _Log:
    """Records warnings and errors, in the place of the functions' log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, name: str, **fields: Any) -> None:
        if fields.get("level") in {"WARNING", "ERROR"}:
            self.lines.append(f"{name} {fields}")


@dataclass
class Message:
    """A message of the queue."""

    body: str
    receives: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Queue:
    """An SQS queue and its dead letters; the seed determines which messages are received."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._waiting: list[Message] = []
        self.dead: list[Message] = []

    def send(self, body: str) -> None:
        self._waiting.append(Message(body))

    def send_object(self, key: str) -> None:
        """Send S3's event of a new object."""
        record = {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}},
        }
        self.send(json.dumps({"Records": [record]}))

    def receive(self, scheduler: Scheduler, actor: Actor) -> list[Message]:
        """Receive random messages, or none if the queue is empty."""
        scheduler.enter(actor, "sqs receive")
        count = min(len(self._waiting), self._random.choice([1, 1, 2, 3]))
        return [self._take() for _ in range(count)]

    def settle(self, batch: Sequence[Message], failed: set[str]) -> None:
        """Delete the successful messages; failed messages return or become dead letters."""
        for message in batch:
            if message.id in failed and message.receives >= _RECEIVES:
                self.dead.append(message)
            elif message.id in failed:
                self._waiting.append(message)

    def redrive(self) -> None:
        """Send the dead letters again."""
        self._waiting += [Message(dead.body) for dead in self.dead]
        self.dead.clear()

    def _take(self) -> Message:
        message = self._waiting.pop(self._random.randrange(len(self._waiting)))
        message.receives += 1
        return message


@dataclass
class World:
    """The state that all processes of a history share."""

    scheduler: Scheduler
    s3: FakeS3
    live: Database
    scratch: Database
    queue: Queue
    #: Every started process.
    actors: list[Actor] = field(default_factory=list)
    log: _Log = field(default_factory=_Log)

    def actor(self, name: str, faults: tuple[Fault, ...] = ()) -> Actor:
        """Start a process."""
        number = sum(one.name.startswith(name) for one in self.actors)
        new_actor = Actor(name + "'" * number, faults)
        self.actors.append(new_actor)
        return new_actor

    def close(self) -> None:
        """Close every connection."""
        for actor in self.actors:
            for link in actor.links:
                link.close()


class ConsumerProcess:
    """A consumer function: a sequence of instances, each replaced when it crashes."""

    def __init__(self, world: World, number: int, release: Mapping[str, ResourceSpec]) -> None:
        self._world = world
        self._name = f"consumer-{number}"
        self._resources = release
        self._actor: Actor | None = None
        self._consumer: Consumer | None = None

    def consume(self, faults: tuple[Fault, ...]) -> None:
        """Handle messages until the queue is empty; replace an instance that crashes."""
        while True:
            try:
                self._consume(faults)
            except CrashedError:
                self._consumer = None
            else:
                return

    def _consume(self, faults: tuple[Fault, ...]) -> None:
        world = self._world
        actor, consumer = self._instance()
        actor.faults = faults
        while True:
            batch: list[Message] = []
            failed: set[str] = set()
            try:
                batch = world.queue.receive(world.scheduler, actor)
                if not batch:
                    return
                failed = {message.id for message in batch}
                answer = consumer.handle({"Records": list(map(_event_record, batch))})
                failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
            finally:
                world.queue.settle(batch, failed)

    def _instance(self) -> tuple[Actor, Consumer]:
        if self._consumer is None or self._actor is None:
            world, actor = self._world, self._world.actor(self._name)
            client = ScheduledS3(world.s3, world.scheduler, actor)
            self._actor = actor
            self._consumer = Consumer(
                resources=self._resources,
                archive=Archive(cast("Any", client), BUCKET),
                session=Session(lambda: connect(world.live.url, world.scheduler, actor)),
                log=cast("Any", world.log),
            )
        return self._actor, self._consumer


def _event_record(message: Message) -> dict[str, Any]:
    return {"messageId": message.id, "body": message.body, "attributes": {}}


def run_import(world: World, key: str, release: Mapping[str, ResourceSpec], actor: Actor) -> None:
    """Import a file once; a crash leaves it partly imported."""
    client = ScheduledS3(world.s3, world.scheduler, actor)
    importer = Importer(
        resources=release, archive=Archive(cast("Any", client), BUCKET), log=cast("Any", world.log)
    )
    importer.import_object(key)


@dataclass(frozen=True)
class Ended:
    """The exit code and output of an operator's command."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object on standard output, or an empty dict."""
        document: dict[str, Any] = json.loads(self.out) if self.out.startswith("{") else {}
        return document


class Operator:
    """A shell that calls `forebay`; usable in the main thread only."""

    def __init__(self, world: World, release: Mapping[str, ResourceSpec]) -> None:
        self._world = world
        self._release = release

    def run(
        self,
        *arguments: str,
        database: Database | None = None,
        release: Mapping[str, ResourceSpec] | None = None,
        faults: tuple[Fault, ...] = (),
    ) -> Ended:
        """Run a command as a process of its own, until it ends or crashes."""
        elsewhere = database is self._world.scratch
        actor = self._world.actor(SCRATCH_OPERATOR if elsewhere else "operator", faults)
        out, err = io.StringIO(), io.StringIO()
        before = set(self._world.s3.versions)
        with (
            self._context(actor, database or self._world.live, release or self._release),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                code = cli.run([*arguments, "--json"])
            except CrashedError:
                code = -9
        # S3 sends an event for each stored object, even if the command crashed afterwards.
        for written in sorted(set(self._world.s3.versions) - before):
            if written.startswith("commands/"):
                self._world.queue.send_object(written)
        return Ended(code, out.getvalue(), err.getvalue())

    def sql(self, *statements: str) -> None:
        """Execute statements on the live database, each in its own transaction."""
        actor = self._world.actor("operator")
        with connect(self._world.live.url, self._world.scheduler, actor) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def enqueue_replay(self, keys: Sequence[str], selection: Selection) -> None:
        """Start a replay by the consumers: send a message for each object."""
        actor = self._world.actor("operator")
        with connect(self._world.live.url, self._world.scheduler, actor) as connection:
            run = runs.start_run(
                connection,
                source=f"s3://{BUCKET}",
                selection=selection.to_json(),
                via_queue=True,
            )
        for key in keys:
            message = ReplayMessage(run=run.id, bucket=BUCKET, key=key, selection=selection)
            self._world.queue.send(message.to_body())

    @contextmanager
    def _context(
        self, actor: Actor, database: Database, release: Mapping[str, ResourceSpec]
    ) -> Iterator[None]:
        """Replace the adapters and environment of the command line by those of the history."""
        world = self._world

        def to_primary(context: Context, **_: Any) -> psycopg.Connection[Any]:
            return connect(context.get(DATABASE), world.scheduler, actor)

        def for_reading(context: Context, **_: Any) -> psycopg.Connection[Any]:
            return connect(context.get(DATABASE), world.scheduler, actor, read_only=True)

        environment = {
            "FOREBAY_DATABASE_URL": database.url,
            "FOREBAY_ARCHIVE_BUCKET": BUCKET,
            "FOREBAY_QUEUE_URL": "http://127.0.0.1:1/queue",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY")}
        adapters = {
            "connect": to_primary,
            "connect_for_reading": for_reading,
            "resources": property(lambda _: release),
            "s3": property(lambda _: ScheduledS3(world.s3, world.scheduler, actor)),
        }
        with ExitStack() as opened:
            opened.enter_context(patch.dict(os.environ, kept | environment, clear=True))
            for name, adapter in adapters.items():
                opened.enter_context(patch.object(Context, name, adapter))
            yield


@contextmanager
def small_and_impatient() -> Iterator[None]:
    """Make chunks small, and every sleep of the code under test short."""
    sleep = sys.modules["time"].sleep
    small = partial(read_chunks, max_commands=_CHUNK_LINES)
    with ExitStack() as opened:
        opened.enter_context(patch("time.sleep", lambda seconds: sleep(min(seconds, 0.001))))
        opened.enter_context(patch.object(consumer_app, "read_chunks", small))
        # The interval at which the signal thread checks whether the replay has ended.
        opened.enter_context(patch("ops.replay.signals._LOOK_SECONDS", 0.002))
        # The databases of the histories already have their tables.
        opened.enter_context(patch("lambdas.migrate.app.migrate", lambda *_, **__: None))
        yield
