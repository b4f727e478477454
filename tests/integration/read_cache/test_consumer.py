"""The consumer announces what it applies, rejects and undoes, and reports what it could not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from forebay.log import Log
from forebay.read_cache.address import Address
from forebay.read_cache.link import Link
from lambdas.consumer.bootstrap import _build_announcer
from tests.fixtures.commands import city, patch
from tests.fixtures.consumer import Bench
from tests.fixtures.reading import Reader, close, reader_of
from tests.fixtures.valkey import PATIENT, ValkeyServer

LIST = {"select": "name,population", "order": "geonameid"}


@contextmanager
def reading(bench: Bench, valkey: ValkeyServer) -> Iterator[Reader]:
    reader = reader_of(bench.database.url, bench.database.url, FOREBAY_READ_CACHE=valkey.url)
    cache = reader.app._cache
    assert cache is not None
    cache._reader._link._budget = PATIENT
    try:
        yield reader
    finally:
        close(reader)
        cache._reader._link.close()


def use(bench: Bench, address: Address) -> None:
    """Make the consumer announce to the cache at an address, as its bootstrap does."""
    bench.consumer._announcer = _build_announcer(address, bench.log)


@pytest.fixture
def announcing(bench: Bench, own_valkey: ValkeyServer) -> Iterator[Bench]:
    use(bench, own_valkey.address)
    announcer = bench.consumer._announcer
    assert announcer is not None
    announcer._link = Link(own_valkey.address, PATIENT)
    yield bench
    announcer.close()


def cache_everything(reader: Reader, valkey: ValkeyServer, bench: Bench) -> list[bytes]:
    """Read until item and list are cached, and return the keys of the generations."""
    while len(valkey.keys("answer")) < 2:
        reader.get("cities", key="1")
        reader.get("cities", query=LIST)
        bench.database.connection.execute("SELECT pg_current_xact_id()")
    return valkey.keys("generation")


def test_an_applied_object_shows_at_once(announcing: Bench, own_valkey: ValkeyServer) -> None:
    with reading(announcing, own_valkey) as reader:
        announcing.handle(announcing.message(announcing.put("commands/a.gz", city(1))))
        cache_everything(reader, own_valkey, announcing)

        announcing.handle(announcing.message(announcing.put("commands/b.gz", city(2))))

        assert json.loads(reader.get("cities", key="1").body)["name"] == "version 2"
        assert "version 2" in reader.get("cities", query=LIST).body
        assert announcing.counted().get("CacheChangesMissed", 0) == 0


def test_a_decided_command_shows_at_once(announcing: Bench, own_valkey: ValkeyServer) -> None:
    """Its object is applied in two transactions."""
    with reading(announcing, own_valkey) as reader:
        announcing.handle(announcing.message(announcing.put("commands/a.gz", city(1))))
        cache_everything(reader, own_valkey, announcing)
        increment = patch(2, population={"$increment": 5})

        announcing.handle(announcing.message(announcing.put("commands/b.gz", increment)))

        assert json.loads(reader.get("cities", key="1").body)["population"] == 265213
        assert "265213" in reader.get("cities", query=LIST).body


def test_an_object_that_changes_nothing_keeps_the_answers(
    announcing: Bench, own_valkey: ValkeyServer
) -> None:
    with reading(announcing, own_valkey) as reader:
        message = announcing.message(announcing.put("commands/a.gz", city(1)))
        announcing.handle(message)
        generations = cache_everything(reader, own_valkey, announcing)

        announcing.handle(message)
        announcing.handle(announcing.message(announcing.put("commands/b.gz", city(1))))

        assert own_valkey.keys("generation") == generations


def test_without_the_cache_objects_are_applied_and_the_missed_change_is_counted(
    bench: Bench,
) -> None:
    use(bench, Address("127.0.0.1", 1))

    failed = bench.handle(bench.message(bench.put("commands/a.gz", city(1))))

    assert failed == set()
    assert bench.database.cities()[1][2] == "version 1"
    assert bench.counted()["CacheChangesMissed"] >= 1


def test_the_address_decides_whether_changes_are_announced() -> None:
    assert _build_announcer(None, Log("test")) is None
