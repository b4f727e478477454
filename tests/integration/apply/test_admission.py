"""Waiting for admission to the next chunk happens between transactions, never within one."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest

import resources
from forebay.apply import Source, apply
from forebay.command import Command
from ops.replay.gate import Gate
from tests.fixtures.commands import city
from tests.fixtures.emulator import wait_until
from tests.fixtures.tables import Database, followed_log, open_connection


def test_a_chunk_is_committed_while_the_next_one_waits_to_be_admitted(database: Database) -> None:
    """A paused replay waits like this; if it held locks, they would stop live traffic."""
    gate = Gate()
    waits = Event()

    def admit(lines: int) -> None:
        if set(database_now.cities()) == {1}:
            gate.pause()
            waits.set()
        gate.pass_through(lines)

    with open_connection(database.url) as connection, open_connection(database.url) as other:
        database_now = Database(database.url, other)
        replay = Thread(
            target=apply,
            args=(connection, [[city(1, key=1)], [city(2, key=2)]], Source("a", replay=True)),
            kwargs={
                "resources": resources.load(),
                "decision_log": followed_log(connection, database.store),
                "admit": admit,
            },
        )
        replay.start()
        assert waits.wait(10)
        assert set(database.cities()) == {1}
        assert database.rows(
            "SELECT state FROM pg_stat_activity WHERE pid = %s", connection.info.backend_pid
        ) == [("idle",)]
        gate.go()
        replay.join(10)
        wait_until(lambda: set(database.cities()) == {1, 2}, "the second chunk")


def test_a_source_that_stalls_holds_no_lock_and_is_complete_when_it_has_ended(
    database: Database,
) -> None:
    """S3 may stall between the last line of an object and the end of its stream."""
    go_on = Event()

    def chunks() -> Iterator[list[Command]]:
        yield [city(1, key=1)]
        go_on.wait(30)

    with open_connection(database.url) as connection:
        live = Thread(
            target=apply,
            args=(connection, chunks(), Source("a")),
            kwargs={
                "resources": resources.load(),
                "decision_log": followed_log(connection, database.store),
            },
        )
        live.start()
        wait_until(lambda: set(database.cities()) == {1}, "the chunk is committed")
        assert database.rows(
            "SELECT state FROM pg_stat_activity WHERE pid = %s", connection.info.backend_pid
        ) == [("idle",)]
        assert database.ledger()["a"]["completed_at"] is None
        go_on.set()
        live.join(10)
    row = database.ledger()["a"]
    assert (row["lines"], row["applied"], row["completed_at"] is not None) == (1, 1, True)


def test_a_source_that_fails_undoes_nothing_that_was_applied(database: Database) -> None:
    def chunks() -> Iterator[list[Command]]:
        yield [city(1, key=1)]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        apply(
            database.connection,
            chunks(),
            Source("commands/a.gz"),
            resources=resources.load(),
            decision_log=database.decision_log(),
        )
    assert set(database.cities()) == {1}
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["completed_at"]) == (1, None)
    database.apply([city(1, key=1)], [city(2, key=2)])
    assert set(database.cities()) == {1, 2}
