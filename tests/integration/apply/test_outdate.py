"""Rows that a defect wrote wrongly are marked, stay readable, and are rewritten by a replay."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import resources
from forebay.apply.results import Counts
from forebay.command import Op
from forebay.ids import mark_orphaned, mark_outdated, original_version
from forebay.replay.selection import Selection
from forebay.status import Traces, find_status
from ops.replay.outdate import count_rows, outdate
from tests.fixtures.commands import city, command_id
from tests.fixtures.tables import Database

CITIES = resources.load()["cities"]
#: Acceptance time of the commands of tests.fixtures.commands.
ACCEPTED = dt.datetime.fromtimestamp(0x0199F0C20000 / 1000, dt.UTC)
SECOND = dt.timedelta(seconds=1)


def mark(database: Database, **options: Any) -> int:
    return outdate(database.connection, CITIES, ACCEPTED, ACCEPTED + SECOND, **options).rows


@pytest.mark.parametrize("op", ["put", "create"])
def test_a_replay_writes_only_marked_rows_again(database: Database, op: Op) -> None:
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


@pytest.mark.parametrize("op", ["put", "create"])
def test_the_mark_is_the_version_with_its_first_digit_elsewhere(database: Database, op: Op) -> None:
    late = city(2, op, 2)
    late = late._replace(id="d" + late.id[1:])  # from the last centuries that ids can hold
    database.apply([city(1, op, 1), late])
    versions = {key: version for key, (version, _, _) in database.cities().items()}
    end = dt.datetime(9700, 1, 1, tzinfo=dt.UTC)
    assert outdate(database.connection, CITIES, ACCEPTED, end).rows == 2
    for key, (version, by_create, _) in database.cities().items():
        assert (version, by_create) == (mark_outdated(versions[key]), op == "create")
        assert original_version(version) == versions[key]
    assert outdate(database.connection, CITIES, ACCEPTED, end).rows == 0, "it is marked once"
    assert outdate(database.connection, CITIES, ACCEPTED, end, orphaned=True).rows == 2
    for key, (version, by_create, _) in database.cities().items():
        assert (version, by_create) == (mark_orphaned(versions[key]), True)
    assert outdate(database.connection, CITIES, ACCEPTED, end, orphaned=True).rows == 0


def test_a_marked_row_counts_as_the_result_of_its_command(database: Database) -> None:
    database.apply([city(3, key=1)])
    mark(database)
    version, by_create, _ = database.cities()[1]
    traces = Traces.of_columns(version, by_create=by_create)
    assert traces == Traces(command_id(3), row_by_create=False)
    assert [find_status(command_id(number), traces) for number in (2, 3, 4)] == [
        "superseded",
        "applied",
        "pending",
    ]


@pytest.mark.parametrize("op", ["put", "create"])
@pytest.mark.parametrize("other", ["put", "create", "delete"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_marked_row_loses_to_the_commands_that_beat_its_own(
    database: Database, op: Op, other: Op, number: int
) -> None:
    """Any other command could take a place, and free a unique value, that are not its to give."""
    own, another = city(2, op, key=1), city(number, other, key=1)
    database.apply([own])
    mark(database)
    counts = database.apply([another], source="commands/b").counts
    assert counts == (Counts(applied=1) if another.beats(own) else Counts(superseded=1))
    versions = {
        key: original_version(version) for key, (version, _, _) in database.cities().items()
    }
    expected = another if another.beats(own) else own
    assert versions == ({} if expected.op == "delete" else {1: expected.id})


def test_an_orphaned_row_loses_to_every_command_of_its_key(database: Database) -> None:
    database.apply([city(2, key=1)])
    mark(database, orphaned=True)
    database.apply([city(3, "create", key=1)], source="commands/b")
    assert database.cities()[1][0] == command_id(3, create=True)


def test_times_are_cut_where_a_replay_cuts_them(database: Database) -> None:
    command = city(1, key=1)
    database.apply([command])
    within = ACCEPTED + dt.timedelta(microseconds=700)
    for until, count in ((within, 0), (within + dt.timedelta(milliseconds=1), 1)):
        selection = Selection(since=within, until=until)
        (selected,) = selection.chunks([[command]])
        assert len(selected) == count
        assert count_rows(database.connection, CITIES, within, until) == count
        assert outdate(database.connection, CITIES, within, until).rows == count


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
        assert outdate(database.connection, CITIES, since, until).rows == 0
    assert count_rows(database.connection, CITIES, ACCEPTED, ACCEPTED + SECOND) == 1
    assert database.cities()[1][0] == command_id(1)
