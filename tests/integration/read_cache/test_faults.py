"""The cache fails in every way that it can; reads go on and stay right."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from forebay.command import Command
from forebay.db.connect import Connection
from forebay.read_cache.address import Address
from forebay.read_cache.link import Budget, CacheUnavailableError, Link
from forebay.read_cache.records import MAX_ANSWER_BYTES
from forebay.read_cache.writer import Announcer, name_changes
from lambdas.migrate.app import announce_migration
from local.postgres.config import OWNER, SUPERUSER
from ops.context import DATABASE, Context
from tests.fixtures.commands import city, command_id, country, patch
from tests.fixtures.postgres import ReplicatedCluster, cloned_database
from tests.fixtures.reading import Reader, close, reader_of
from tests.fixtures.tables import Database, open_connection
from tests.fixtures.valkey import PATIENT, ValkeyServer

ITEM = {"key": "1"}


@dataclass
class Consumer:
    """Applies commands, and announces them as the consumer does."""

    database: Database
    announcer: Announcer
    missed: list[str] = field(default_factory=list)
    objects: int = 0

    def apply(self, *commands: Command) -> None:
        self.objects += 1
        self.database.apply(commands, source=f"commands/{self.objects}.gz", watch=self._watch)

    def _watch(self, connection: Connection, commands: Sequence[Command]) -> None:
        self.announcer.announce(connection, name_changes(commands))


@dataclass
class Setting:
    """A cache, a reader and a consumer."""

    reader: Reader
    consumer: Consumer

    def name(self) -> str:
        """The name of the city, as a read shows it."""
        response = self.reader.get("cities", key="1")
        assert response.status == 200
        return str(json.loads(response.body)["name"])

    def counted(self, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
        """The metrics of the cache in the lines since the last call."""
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        names = {name for line in lines for name in line if name.startswith("Cache")}
        return {name: sum(line.get(name, 0) for line in lines) for name in names}


@contextmanager
def set_up(database: Database, url: str, address: Address) -> Iterator[Setting]:
    reader = reader_of(database.url, database.url, FOREBAY_READ_CACHE=url)
    link = Link(address, PATIENT)
    missed: list[str] = []
    consumer = Consumer(database, Announcer(link, on_missed=missed.append), missed)
    cache = reader.app._cache
    assert cache is not None
    # A busy machine would exceed the deployed budget now and then.
    cache._reader._link._budget = PATIENT
    try:
        yield Setting(reader, consumer)
    finally:
        close(reader)
        link.close()
        cache._reader._link.close()


@pytest.fixture
def setting(database: Database, own_valkey: ValkeyServer) -> Iterator[Setting]:
    with set_up(database, own_valkey.url, own_valkey.address) as new_setting:
        new_setting.consumer.apply(country(101, "DE"), city(1))
        yield new_setting


def read_until_cached(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """Read until a read is answered by the cache; the test's time-out bounds it."""
    while setting.counted(capsys).get("CacheHits", 0) < 2:
        setting.name()
        time.sleep(0.01)
        setting.name()


def test_an_item_is_read_from_the_database_once(
    setting: Setting, capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    read_until_cached(setting, capsys)
    # Not announced: only the database knows.
    database.connection.execute("UPDATE cities SET name = 'secret'")

    assert setting.name() == "version 1"
    assert setting.counted(capsys) == {"CacheHits": 1}


@pytest.mark.parametrize(
    "change",
    [city(2), city(2, "delete"), patch(2, population=5)],
    ids=["put", "delete", "patch"],
)
def test_every_change_of_an_item_shows_in_the_item_and_in_lists(
    setting: Setting, capsys: pytest.CaptureFixture[str], change: Command
) -> None:
    query = {"select": "name,population,country(name)"}
    read_until_cached(setting, capsys)
    before = [setting.reader.get("cities", query=query).body for _ in range(3)]
    tag = setting.reader.get("cities", key="1").headers["ETag"]

    setting.consumer.apply(change)

    after = setting.reader.get("cities", key="1")
    assert after.status == (404 if change.op == "delete" else 200)
    assert after.headers.get("ETag") != tag
    assert setting.reader.get("cities", query=query).body not in before


def test_a_list_shows_changes_of_embedded_resources(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    query = {"select": "name,country(name)"}
    read_until_cached(setting, capsys)
    assert "Andorra" in setting.reader.get("cities", query=query).body

    setting.consumer.apply(country(102, "DE", name="Germany"))

    for _ in range(2):
        assert "Germany" in setting.reader.get("cities", query=query).body


def test_a_change_of_one_item_keeps_the_answers_of_others(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)

    setting.consumer.apply(city(3, key=2))

    capsys.readouterr()
    setting.name()
    assert setting.counted(capsys) == {"CacheHits": 1}


def test_a_known_tag_is_answered_304_from_the_cache(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)
    tag = setting.reader.get("cities", key="1").headers["ETag"]
    capsys.readouterr()

    response = setting.reader.get("cities", key="1", if_none_match=tag)

    assert (response.status, response.body, response.headers["ETag"]) == (304, "", tag)
    assert setting.counted(capsys) == {"CacheHits": 1}


def test_read_after_is_answered_by_the_cache_only_with_the_command_itself(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)

    written = setting.reader.get("cities", key="1", read_after=command_id(1))
    assert (written.status, setting.counted(capsys)) == (200, {"CacheHits": 1})

    setting.consumer.apply(city(2))
    setting.consumer.apply(city(3))
    read_until_cached(setting, capsys)
    superseded = setting.reader.get("cities", key="1", read_after=command_id(2))
    assert (superseded.status, setting.counted(capsys)) == (200, {"CacheMisses": 1})


def test_without_the_server_reads_go_on_and_each_pause_costs_one_attempt(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)
    own_valkey.stop()
    try:
        setting.consumer.apply(city(2))

        names = {setting.name() for _ in range(20)}
        lines = capsys.readouterr().out

        assert names == {"version 2"}
        assert lines.count('"read_cache_skipped"') == 1
        assert len(setting.consumer.missed) == 1
    finally:
        own_valkey.start()


def test_a_server_that_comes_back_has_no_old_answers(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)
    own_valkey.stop()
    setting.consumer.apply(city(2))
    own_valkey.start()

    assert setting.name() == "version 2"
    read_until_cached(setting, capsys)
    assert setting.name() == "version 2"


def test_a_replica_that_takes_over_is_used_as_if_it_were_empty(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may lack the last announcements of the node that has failed."""
    read_until_cached(setting, capsys)
    keys = own_valkey.keys("answer")
    assert keys
    run = keys[0].split(b":")[0]
    own_valkey.call("CONFIG", "SET", "save", "3600 1")
    own_valkey.call("SAVE")
    own_valkey.stop()
    setting.consumer.apply(city(2))
    own_valkey.start()  # with the records of the other, from its file

    assert own_valkey.keys("answer") == keys
    assert setting.name() == "version 2"
    read_until_cached(setting, capsys)
    assert any(not key.startswith(run) for key in own_valkey.keys("answer"))


def test_after_a_failover_of_the_database_only_its_new_history_is_cached(
    own_replicated_cluster: ReplicatedCluster,
    own_valkey: ValkeyServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Transactions may be lost, and their ids are assigned again."""
    cluster = own_replicated_cluster
    with cloned_database(cluster.primary) as name:
        urls = [server.url(OWNER, name) for server in (cluster.primary, cluster.replica)]
        with (
            open_connection(urls[0]) as connection,
            set_up(Database(urls[0], connection), own_valkey.url, own_valkey.address) as old,
        ):
            old.consumer.apply(country(101, "DE"), city(1))
            read_until_cached(old, capsys)
            cluster.wait_for_replica()
            with psycopg.connect(cluster.replica.url(SUPERUSER, name), autocommit=True) as admin:
                admin.execute("SELECT pg_promote()")
            with (
                open_connection(urls[1]) as promoted,
                set_up(Database(urls[1], promoted), own_valkey.url, own_valkey.address) as new,
            ):
                new.consumer.objects = old.consumer.objects
                new.consumer.apply(city(2))
                assert new.name() == "version 2"
                read_until_cached(new, capsys)

                # The server that was left behind is no proof, even with later transactions.
                connection.execute("UPDATE cities SET name = 'lost' WHERE geonameid = 1")
                own_valkey.call("UNLINK", *own_valkey.keys("answer"))
                assert old.name() == "lost"
                assert old.counted(capsys)["CacheAnswersRefused"] == 1
                assert new.name() == "version 2"


def test_changes_missed_by_the_cache_end_all_answers_when_it_answers_again(
    database: Database, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The consumer alone was cut off; readers were not."""
    nowhere = Address("127.0.0.1", 1)
    with set_up(database, own_valkey.url, nowhere) as setting:
        announcer = setting.consumer.announcer
        setting.consumer.apply(country(101, "DE"), city(1))
        read_until_cached(setting, capsys)
        setting.consumer.apply(city(2))
        assert setting.name() == "version 1"

        announcer._link = own_valkey.link()
        announcer.settle(lambda: _lend(database.connection))

        assert setting.name() == "version 2"
        announcer._link.close()


@contextmanager
def _lend(connection: Connection) -> Iterator[Connection]:
    yield connection


def test_a_full_cache_answers_from_its_records(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)
    own_valkey.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own_valkey.call("CONFIG", "SET", "maxmemory", "1")
    capsys.readouterr()

    assert setting.name() == "version 1"
    assert setting.counted(capsys) == {"CacheHits": 1}
    # The announcement needs no memory; a new answer would.
    setting.consumer.apply(city(2))
    assert [setting.name() for _ in range(3)] == ["version 2"] * 3
    assert setting.counted(capsys)["CacheSkipped"] == 3
    assert setting.consumer.missed == []


def test_memory_is_bounded_by_eviction(
    database: Database, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with set_up(database, own_valkey.url, own_valkey.address) as setting:
        setting.consumer.apply(country(1001, "DE"), *(city(key, key=key) for key in range(1, 201)))
        read_until_cached(setting, capsys)
        own_valkey.call("CONFIG", "SET", "maxmemory", "3mb")
        for number in range(400):
            query = {"select": f"n{number}:name,name,timezone,population", "limit": "100"}
            assert setting.reader.get("cities", query=query).status == 200

        info = own_valkey.call("INFO", "stats")
        assert isinstance(info, bytes)
        evicted = next(line for line in info.splitlines() if line.startswith(b"evicted_keys:"))
        assert int(evicted.split(b":")[1]) > 0
        assert own_valkey.keys("epoch")


def test_large_answers_are_not_stored(
    database: Database, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with set_up(database, own_valkey.url, own_valkey.address) as setting:
        many = [city(key, key=key, name="x" * 190) for key in range(1, 1001)]
        setting.consumer.apply(country(2001, "DE"), *many)
        read_until_cached(setting, capsys)
        stored = own_valkey.keys("answer")

        assert len(setting.reader.get("cities", query={"limit": "1000"}).body) > MAX_ANSWER_BYTES
        assert own_valkey.keys("answer") == stored


def test_the_permissions_of_the_deployed_user_are_enough(
    database: Database, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from infra.components.read_cache import _ACCESS  # noqa: PLC0415 - imports the CDK

    own_valkey.call("ACL", "SETUSER", "forebay-prod", ">secret", *_ACCESS.split())
    url = f"valkey://forebay-prod:secret@127.0.0.1:{own_valkey.port}"
    address = Address.parse(url)
    assert address is not None
    with set_up(database, url, address) as setting:
        setting.consumer.apply(country(101, "DE"), city(1))
        read_until_cached(setting, capsys)
        setting.consumer.apply(city(2))
        read_until_cached(setting, capsys)

        assert setting.name() == "version 2"
        assert setting.consumer.missed == []


def test_an_operators_tool_ends_all_answers_with_each_change(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "FOREBAY_DATABASE_URL": setting.consumer.database.url,
        "FOREBAY_READ_CACHE": own_valkey.url,
    }
    read_until_cached(setting, capsys)
    with Context(environment=environment).connect(purpose="test") as connection:
        with connection.transaction(), connection.transaction():
            connection.execute("UPDATE cities SET name = 'changed'")
            assert setting.name() == "version 1"
        assert setting.name() == "changed"
        read_until_cached(setting, capsys)

        with connection.transaction(force_rollback=True):
            connection.execute("UPDATE cities SET name = 'never'")
        with connection.transaction():
            connection.execute("SELECT 1")
    capsys.readouterr()
    assert setting.name() == "changed"
    assert setting.counted(capsys) == {"CacheHits": 1}


def test_a_tool_with_another_database_leaves_the_cache_of_the_environment_alone(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a rebuild for an inspection."""
    environment = {"FOREBAY_DATABASE_URL": "unused", "FOREBAY_READ_CACHE": own_valkey.url}
    read_until_cached(setting, capsys)
    context = Context({DATABASE: setting.consumer.database.url}, environment=environment)
    with context.connect(purpose="test") as connection, connection.transaction():
        connection.execute("UPDATE cities SET name = 'changed'")

    assert setting.name() == "version 1"


def test_a_migration_ends_all_answers(
    setting: Setting, own_valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    read_until_cached(setting, capsys)
    url = setting.consumer.database.url
    setting.consumer.database.connection.execute("UPDATE cities SET name = 'migrated'")

    assert announce_migration(url, own_valkey.address)

    assert setting.name() == "migrated"
    own_valkey.stop()
    assert not announce_migration(url, own_valkey.address)
    own_valkey.start()


class SlowServer:
    """Accepts connections, and sends no answer."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                self._open.append(self._listener.accept()[0])
            except OSError:
                return


def test_a_slow_server_is_skipped_for_a_growing_time() -> None:
    server, now = SlowServer(), 0.0
    reasons: list[str] = []
    budget = Budget(connect_seconds=0.05, call_seconds=0.05)
    link = Link(server.address, budget, on_failure=reasons.append, clock=lambda: now)

    def attempt() -> None:
        with pytest.raises(CacheUnavailableError):
            link.call(lambda _: ["PING"])

    for seconds, attempts in [(0.0, 1), (0.9, 1), (1.1, 2), (2.9, 2), (3.2, 3), (7.3, 4)]:
        now = seconds
        attempt()
        assert len(reasons) == attempts, seconds
    server.close()
