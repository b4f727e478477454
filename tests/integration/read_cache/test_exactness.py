"""A read through the cache is never older than one without it, nor than one that came before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay.db.connect import Connection
from forebay.metrics import CACHE_ANSWERS_REFUSED, CACHE_HITS, CACHE_MISSES, CACHE_SKIPPED
from forebay.read_cache.records import name_item, name_lists
from forebay.read_cache.writer import Announcer
from local.postgres.config import OWNER, SUPERUSER
from tests.fixtures.postgres import ReplicatedCluster, cloned_database
from tests.fixtures.stepping import SteppedReader
from tests.fixtures.tables import open_connection
from tests.fixtures.valkey import ValkeyServer

KEYS_EACH = 2
READERS = 3
WRITERS = 2
_INSERT = """
    INSERT INTO cities (geonameid, name, country_code, population, latitude, longitude, timezone,
                        _version, _by_create)
    VALUES (%s, 'a', 'DE', 0, 0, 0, 'UTC', gen_random_uuid(), false)
"""


@dataclass
class Writer:
    """A consumer: one transaction at a time, which it may leave at any step."""

    url: str
    valkey: ValkeyServer
    connection: Connection = field(init=False)
    announcer: Announcer = field(init=False)
    #: The key of the open transaction, and whether its change was announced.
    key: int | None = None
    is_announced: bool = False

    def __post_init__(self) -> None:
        self.announcer = Announcer(self.valkey.link(), on_missed=pytest.fail)
        self.connection = open_connection(self.url)

    def change(self, key: int) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute(
            "UPDATE cities SET population = population + 1, _version = gen_random_uuid()"
            " WHERE geonameid = %s",
            [key],
        )
        self.key = key

    def announce(self) -> None:
        assert self.key is not None
        self.announcer.announce(
            self.connection, [name_item("cities", self.key), name_lists("cities")]
        )
        self.is_announced = True

    def commit(self) -> None:
        self.connection.execute("COMMIT")
        self.key, self.is_announced = None, False

    def die(self) -> None:
        """Lose the connection and every memory."""
        self.close()
        self.key, self.is_announced = None, False
        self.__post_init__()

    def close(self) -> None:
        self.connection.close()
        self.announcer._link.close()


@dataclass
class World:
    """A primary and its replica, the cache, writers and readers."""

    primary: Connection
    replica: psycopg.Connection[Any]
    control: psycopg.Connection[Any]
    valkey: ValkeyServer
    writers: list[Writer]
    readers: list[SteppedReader]
    keys: list[int] = field(default_factory=list)
    #: The newest population that a finished read has seen, by key.
    seen: dict[int, int] = field(default_factory=dict)

    def reset(self, first_key: int) -> None:
        self.follow()
        self.valkey.call("FLUSHALL")
        self.keys = [first_key + number for number in range(KEYS_EACH)]
        self.seen = dict.fromkeys(self.keys, 0)
        for key in self.keys:
            self.primary.execute(_INSERT, [key])
        self.catch_up()
        # The first read opens the epoch; the others store their answers.
        targets: list[int | None] = [None, *self.keys, None]
        for target in targets:
            self.begin_read(self.readers[0], target)
            self.finish_read(self.readers[0])
            self.catch_up()

    def pause(self) -> None:
        """Stop the replica from replaying."""
        self.control.execute("SELECT pg_wal_replay_pause()")
        while self._fetch("SELECT pg_get_wal_replay_pause_state()") != "paused":
            continue

    def follow(self) -> None:
        """Let the replica replay."""
        self.control.execute("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Let the replica replay everything."""
        self.follow()
        # A transaction that has only been given an id is flushed to the log later; flush it now.
        self.primary.execute("INSERT INTO flushes DEFAULT VALUES")
        target = self.primary.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert target is not None
        while not self._fetch("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", target[0]):
            continue

    def _fetch(self, statement: str, *values: object) -> Any:
        row = self.control.execute(statement.encode(), values).fetchone()
        assert row is not None
        return row[0]

    def begin_read(self, reader: SteppedReader, key: int | None) -> None:
        keys = self.keys if key is None else [key]
        rows = self.replica.execute(
            "SELECT geonameid, population FROM cities WHERE geonameid = ANY(%s)", [keys]
        ).fetchall()
        floors = {key: max(population, self.seen[key]) for key, population in rows}
        reader.begin(key, floors)

    def advance(self, reader: SteppedReader) -> None:
        read = reader.advance()
        if read is None:
            return
        for key, floor in read.floors.items():
            assert read.seen[key] >= floor, f"{key}: {read.seen[key]} after {floor}"
            self.seen[key] = max(self.seen[key], read.seen[key])

    def finish_read(self, reader: SteppedReader) -> None:
        while reader.reading is not None:
            self.advance(reader)

    def finish(self) -> None:
        for reader in self.readers:
            self.finish_read(reader)
        for writer in self.writers:
            if writer.key is not None:
                writer.die()
        self.follow()

    def evict(self, part: str) -> None:
        keys = self.valkey.keys(part)
        if keys:
            self.valkey.call("UNLINK", *keys)


@contextmanager
def make_world(cluster: ReplicatedCluster, valkey: ValkeyServer) -> Iterator[World]:
    with cloned_database(cluster.primary) as name:
        cluster.wait_for_replica()
        primary_url = cluster.primary.url(OWNER, name)
        replica_url = cluster.replica.url(OWNER, name)
        with (
            open_connection(primary_url) as primary,
            psycopg.connect(replica_url, autocommit=True) as replica,
            psycopg.connect(cluster.replica.url(SUPERUSER, "postgres"), autocommit=True) as control,
        ):
            primary.execute("CREATE TABLE flushes ()")
            world = World(
                primary,
                replica,
                control,
                valkey,
                [Writer(primary_url, valkey) for _ in range(WRITERS)],
                [SteppedReader(replica_url, primary_url, valkey) for _ in range(READERS)],
            )
            try:
                yield world
            finally:
                world.finish()
                for writer in world.writers:
                    writer.close()
                for reader in world.readers:
                    reader.close()


@pytest.fixture
def world(replicated_cluster: ReplicatedCluster, valkey: ValkeyServer) -> Iterator[World]:
    with make_world(replicated_cluster, valkey) as new_world:
        yield new_world


@dataclass(frozen=True)
class Step:
    """A step of a history, and its reader, writer and key where it has any."""

    kind: str
    reader: int = 0
    writer: int = 0
    key: int | None = 0


def read(reader: int = 0) -> list[Step]:
    """Read the first item to its end."""
    return [Step("read", reader), Step("finish", reader)]


def advance(steps: int, reader: int = 0) -> list[Step]:
    """Let a read go on by some gates."""
    return [Step("advance", reader)] * steps


CHANGE, PAUSE, CATCH_UP, FLUSH = (Step(kind) for kind in ("write", "pause", "catch up", "flush"))
#: From the first call of the cache to the primary's answer, in an empty cache.
TO_THE_PRIMARY = 4

#: Orders of steps that few random histories have: each but the first finds a defect of its own.
A_HIT = read(1)
A_COMMIT_BEFORE_A_FLUSH = [
    PAUSE, CHANGE, CHANGE, CHANGE, FLUSH, *read(), CATCH_UP, *read(1)
]  # fmt: skip
OTHER_READ = [Step("read", 1, key=1), Step("finish", 1)]
OTHER_CHANGE = Step("write", writer=1, key=1)
TWO_TRANSACTIONS_DURING_A_FLUSH = [
    CHANGE, CHANGE, OTHER_CHANGE, OTHER_CHANGE, FLUSH, *read(), CHANGE, CATCH_UP, *OTHER_READ,
    OTHER_CHANGE, CATCH_UP, *OTHER_READ,
]  # fmt: skip
A_CHANGE_WHILE_THE_EPOCH_OPENS = [
    FLUSH, Step("read"), *advance(TO_THE_PRIMARY), CHANGE, CHANGE, Step("finish"),
    CATCH_UP, *read(1), CHANGE, CATCH_UP, *read(2),
]  # fmt: skip
A_FLUSH_WHILE_THE_EPOCH_OPENS = [
    FLUSH, Step("read"), *advance(TO_THE_PRIMARY), CHANGE, CHANGE, FLUSH,
    Step("read", 1), *advance(2, 1), Step("finish"), CATCH_UP, *read(2), CHANGE, CATCH_UP,
    *read(2),
]  # fmt: skip
A_SLOW_READ_OVER_A_CHANGE = [
    CHANGE, CHANGE, CHANGE, CATCH_UP, Step("read"), *advance(5), CHANGE, CHANGE, CHANGE,
    CATCH_UP, Step("finish"), *read(1),
]  # fmt: skip
A_REPLICA_THAT_CATCHES_UP_DURING_A_READ = [
    PAUSE, CHANGE, CHANGE, CHANGE, Step("read"), *advance(3), CATCH_UP, Step("finish"), *read(1)
]  # fmt: skip
A_GENERATION_FORGOTTEN_ON_A_LAGGING_REPLICA = [
    PAUSE, CHANGE, CHANGE, CHANGE, Step("evict generation"), *read(), CATCH_UP, *read(1)
]  # fmt: skip


STEPS = st.builds(
    Step,
    st.sampled_from(
        ["read"] * 12 + ["advance"] * 8 + ["finish"] * 12 + ["write"] * 12
        + ["pause", "catch up", "catch up", "die", "flush", "evict generation", "evict epoch"]
    ),
    st.integers(0, READERS - 1),
    st.integers(0, WRITERS - 1),
    st.sampled_from([None, *range(KEYS_EACH)]),
)  # fmt: skip


def step_writer(world: World, writer: Writer, key: int) -> None:
    """Take the writer's next step: change, announce, commit."""
    if writer.key is None:
        if all(other.key != key for other in world.writers):  # or it would wait for the other
            writer.change(key)
    elif not writer.is_announced:
        writer.announce()
    else:
        writer.commit()


def take_step(world: World, step: Step) -> None:
    reader, writer = world.readers[step.reader], world.writers[step.writer]
    if step.kind == "read" and reader.reading is None:
        world.begin_read(reader, None if step.key is None else world.keys[step.key])
    elif step.kind in {"read", "advance"}:
        world.advance(reader)
    elif step.kind == "finish":
        world.finish_read(reader)
    elif step.kind == "write":
        step_writer(world, writer, world.keys[step.key or 0])
    elif step.kind == "die":
        writer.die()
    elif step.kind == "flush":
        world.valkey.call("FLUSHALL")
    elif step.kind.startswith("evict"):
        world.evict(step.kind.removeprefix("evict "))
    elif step.kind == "pause":
        world.pause()
    else:
        world.catch_up()


def test_no_read_is_older_than_one_without_the_cache(world: World) -> None:
    """Nor than a read that finished before it began: whatever is slow, dies, or is forgotten."""
    first_keys = count(1, KEYS_EACH)

    @settings(max_examples=100)
    @example(steps=A_HIT)
    @example(steps=A_COMMIT_BEFORE_A_FLUSH)
    @example(steps=TWO_TRANSACTIONS_DURING_A_FLUSH)
    @example(steps=A_CHANGE_WHILE_THE_EPOCH_OPENS)
    @example(steps=A_FLUSH_WHILE_THE_EPOCH_OPENS)
    @example(steps=A_SLOW_READ_OVER_A_CHANGE)
    @example(steps=A_REPLICA_THAT_CATCHES_UP_DURING_A_READ)
    @example(steps=A_GENERATION_FORGOTTEN_ON_A_LAGGING_REPLICA)
    @given(steps=st.lists(STEPS, min_size=20, max_size=80))
    def run(steps: list[Step]) -> None:
        world.reset(next(first_keys))
        try:
            for step in steps:
                take_step(world, step)
        finally:
            world.finish()

    run()
    # The histories reach every case, the named examples alone too.
    for metric in (CACHE_HITS, CACHE_MISSES, CACHE_SKIPPED, CACHE_ANSWERS_REFUSED):
        assert sum(reader.log.counts[metric] for reader in world.readers) > 0, metric.name
