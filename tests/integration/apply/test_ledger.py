"""The ledger: counts are exact, and an interrupted object resumes where it stopped."""

from __future__ import annotations

import threading

import psycopg
import pytest

from forebay.command import Command
from forebay.ids import IdSource
from forebay.lag import RATIO, quantile
from tests.fixtures.commands import city, command_id
from tests.fixtures.tables import Database, cut_after, end_session, open_connection

CHUNKS = [[city(number, key=number) for number in range(start, start + 5)] for start in (0, 5, 10)]


def test_an_object_that_was_applied_is_left_alone(database: Database) -> None:
    database.apply(*CHUNKS)
    again = database.apply(*CHUNKS)
    assert again.already_applied
    assert again.lines == 0
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["applied"], row["duplicates"], row["replays"]) == (15, 15, 0, 0)
    assert (str(row["first_id"]), str(row["last_id"])) == (command_id(0), command_id(14))


def test_the_same_commands_in_another_object_are_duplicates(database: Database) -> None:
    database.apply(*CHUNKS)
    database.apply(*CHUNKS, source="commands/b.gz")
    row = database.ledger()["commands/b.gz"]
    assert (row["applied"], row["duplicates"]) == (0, 15)


@pytest.mark.parametrize("statements", range(0, 20, 2))
def test_a_cut_object_goes_on_where_it_was_and_counts_nothing_twice(
    database: Database, statements: int
) -> None:
    with psycopg.connect(database.url, autocommit=True) as killer:
        connection = open_connection(database.url)
        database.decision_log(connection)  # a new connection reads the decision log
        cut_after(
            connection,
            statements,
            lambda pid: end_session(killer, pid),
        )
        with pytest.raises(psycopg.OperationalError):
            database.apply(*CHUNKS, connection=connection)
        connection.close()
    database.apply(*CHUNKS)
    assert len(database.cities()) == 15
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["applied"], row["duplicates"]) == (15, 15, 0)


def test_an_empty_object_has_its_ledger_row(database: Database) -> None:
    database.apply()
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["first_id"]) == (0, None)
    assert row["completed_at"] is not None


def test_a_replay_leaves_the_counts_of_the_live_run(database: Database) -> None:
    database.apply(*CHUNKS)
    outcome = database.apply(*CHUNKS, replay=True)
    assert outcome.counts.duplicates == 15
    row = database.ledger()["commands/a.gz"]
    assert (row["applied"], row["duplicates"], row["replays"]) == (15, 0, 1)


def test_a_replay_into_a_new_database_counts_itself(database: Database) -> None:
    database.apply(*CHUNKS, replay=True)
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["applied"], row["replays"]) == (15, 15, 1)


def test_two_consumers_with_the_same_object_count_each_line_once(database: Database) -> None:
    chunks = [[city(n, key=n) for n in range(start, start + 50)] for start in range(0, 1000, 50)]
    barrier = threading.Barrier(2)
    failures: list[Exception] = []

    def consume() -> None:
        with open_connection(database.url) as connection:
            barrier.wait()
            try:
                database.apply(*chunks, connection=connection)
            except Exception as exc:  # noqa: BLE001 - re-raised in the test's own thread
                failures.append(exc)

    threads = [threading.Thread(target=consume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["applied"], row["duplicates"]) == (1000, 1000, 0)


def test_the_lag_of_each_command_is_counted_once_however_often_the_object_is_interrupted(
    database: Database,
) -> None:
    with psycopg.connect(database.url, autocommit=True) as killer:
        connection = open_connection(database.url)
        database.decision_log(connection)  # a new connection reads the decision log
        cut_after(
            connection,
            10,  # within the second chunk
            lambda pid: end_session(killer, pid),
        )
        with pytest.raises(psycopg.OperationalError):
            database.apply(*CHUNKS, connection=connection)
        connection.close()
    before = sum(database.ledger()["commands/a.gz"]["lags"] or [])
    assert 0 < before < 15
    database.apply(*CHUNKS)
    assert sum(database.ledger()["commands/a.gz"]["lags"]) == 15


def test_lags_of_chunks_of_different_ages_add_up(database: Database) -> None:
    now = IdSource()
    an_hour_ago = IdSource(now_ms=lambda: now.now_ms() - 3_600_000)
    fresh = [city(1, key=key)._replace(id=now.make(create=False)) for key in (1, 2)]
    old = [city(1, key=key)._replace(id=an_hour_ago.make(create=False)) for key in (3, 4, 5)]
    database.apply(fresh, old)
    lags = database.ledger()["commands/a.gz"]["lags"]
    assert sum(lags) == 5
    assert lags[-1] == 3
    assert (quantile(lags, 0.2) or 0) < 600
    assert quantile(lags, 0.99) == pytest.approx(3600, rel=RATIO - 1)


def test_a_replay_reports_no_lags(database: Database) -> None:
    database.apply(*CHUNKS)
    before = database.ledger()["commands/a.gz"]["lags"]
    database.apply(*CHUNKS, replay=True)
    database.apply(*CHUNKS, replay=True, source="commands/b.gz")
    assert database.ledger()["commands/a.gz"]["lags"] == before
    assert database.ledger()["commands/b.gz"]["lags"] is None


def test_each_command_is_counted_by_its_status(database: Database) -> None:
    chunk: list[Command] = [
        city(1, key=1),
        city(2, key=1),
        city(2, key=1),
        city(3, "delete", key=2),
        city(4, "create", key=3),
        city(5, "create", key=3),
    ]
    counts = database.apply(chunk).counts
    assert (counts.applied, counts.superseded, counts.duplicates) == (3, 2, 1)


def test_the_connection_must_be_autocommit_so_that_chunks_really_commit(
    database: Database,
) -> None:
    with psycopg.connect(database.url) as connection, pytest.raises(ValueError, match="autocommit"):
        database.apply(*CHUNKS, connection=connection)
