"""Whoever must wait for a chunk waits before its transaction, never within another's."""

from __future__ import annotations

from threading import Event, Thread

import resources
from forebay.apply import Source, apply
from ops.replay.gate import Gate
from tests.fixtures.commands import city
from tests.fixtures.emulator import wait_until
from tests.fixtures.tables import Database, open_connection


def test_a_chunk_is_committed_while_the_next_one_waits_to_be_admitted(database: Database) -> None:
    """As a replay that somebody pauses: its locks would stop live traffic."""
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
                "archive_rejections": lambda _: None,
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
