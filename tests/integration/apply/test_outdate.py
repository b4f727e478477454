"""Rows that a defect wrote wrongly are marked, stay readable, and are written anew by a replay."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import resources
from forebay.apply.outdate import count_rows, outdate
from forebay.command import Op
from tests.fixtures.commands import city, command_id
from tests.fixtures.tables import Database

CITIES = resources.load()["cities"]
#: When the commands of tests.fixtures.commands were accepted.
ACCEPTED = dt.datetime.fromtimestamp(0x0199F0C20000 / 1000, dt.UTC)
SECOND = dt.timedelta(seconds=1)


def mark(database: Database, **options: Any) -> int:
    return outdate(database.connection, CITIES, ACCEPTED, ACCEPTED + SECOND, **options)


@pytest.mark.parametrize("op", ["put", "create"])
def test_a_replay_writes_a_marked_row_anew_and_no_other(database: Database, op: Op) -> None:
    commands = [city(number, op, number) for number in (1, 2)]
    database.apply(commands)
    database.connection.execute("UPDATE cities SET name = 'wrong'")
    database.apply(commands, replay=True)
    assert {name for _, _, name in database.cities().values()} == {"wrong"}

    assert mark(database, key=1) == 1
    assert database.cities()[1][2] == "wrong", "it stays readable until then"
    database.apply(commands, replay=True)
    names = {key: name for key, (_, _, name) in database.cities().items()}
    assert names == {1: "version 1", 2: "wrong"}
    assert database.cities()[1][:2] == (command_id(1, create=op == "create"), op == "create")


def test_a_marked_row_loses_to_the_delete_that_came_after_it(database: Database) -> None:
    database.apply([city(1, key=1)])
    mark(database)
    database.apply([city(2, "delete", 1)], source="commands/b")
    assert database.cities() == {}


def test_rows_of_another_time_are_not_marked(database: Database) -> None:
    database.apply([city(1, key=1)])
    for since, until in (
        (ACCEPTED + SECOND, ACCEPTED + 2 * SECOND),
        (ACCEPTED - SECOND, ACCEPTED),
    ):
        assert count_rows(database.connection, CITIES, since, until) == 0
        assert outdate(database.connection, CITIES, since, until) == 0
    assert count_rows(database.connection, CITIES, ACCEPTED, ACCEPTED + SECOND) == 1
    assert database.cities()[1][0] == command_id(1)
