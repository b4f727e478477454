"""Law 4: the primary's work for a chunk does not grow with its number of commands."""

from __future__ import annotations

import pytest

from forebay.command import Op
from tests.fixtures.commands import city
from tests.fixtures.tables import CountingCursor, Database, open_connection


def statements(database: Database, commands: int, op: Op, source: str) -> int:
    with open_connection(database.url) as connection:
        connection.cursor_factory = CountingCursor
        database.decision_log(connection)  # a new connection reads the decision log
        CountingCursor.statements = 0
        chunk = [city(n, op if n % 2 else "put", n) for n in range(commands)]
        outcome = database.apply(chunk, source=source, connection=connection)
        assert outcome.counts.applied == commands
        return CountingCursor.statements


@pytest.mark.parametrize("op", ["put", "create", "delete"])
def test_ten_thousand_commands_take_as_many_statements_as_ten(database: Database, op: Op) -> None:
    few = statements(database, 10, op, "few")
    database.empty()
    many = statements(database, 10_000, op, "many")
    assert few == many <= 15


def test_an_object_of_one_chunk_is_one_transaction(database: Database) -> None:
    def commits() -> int:
        database.connection.execute("SELECT pg_stat_force_next_flush()")
        database.connection.execute("SELECT pg_stat_clear_snapshot()")
        return int(
            database.rows(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )[0][0]
        )

    database.decision_log()  # a new connection reads the decision log
    commits()
    before = commits()
    of_looking = commits() - before
    chunk = [city(n, key=n) for n in range(5000)]
    for replay, changes in ((False, "applied"), (False, "nothing"), (True, "duplicates")):
        before = commits()
        database.apply(chunk, source="one object", replay=replay)
        assert commits() - before == of_looking + 1, changes
