"""Law 7 over several databases, releases and consumers, with patches and decided commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import resources
from forebay.apply import Counts, Source, apply
from forebay.apply.edits.state import Base
from forebay.apply.edits.storage import read_states
from forebay.apply.rows.table import Table
from forebay.command import Command
from forebay.decisions.decision_log import DecisionLog
from forebay.ids import mark_orphaned, mark_outdated
from tests.fixtures.commands import city, command_id
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.tables import Database, open_connection
from tests.integration.apply.test_edits import increment, patch, read_decisions, read_items

THERE = {"match": ["*"]}
CITY = resources.load()["cities"]


@pytest.fixture
def other_database(postgres_cluster: PostgresServer) -> Iterator[Database]:
    """A second database."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(database=name)
        with open_connection(url) as connection:
            yield Database(url, connection)


def apply_privately(database: Database, other: Database, *chunk: Command, source: str) -> Counts:
    """Apply a chunk to a database that does not own the archive; it follows the log first."""
    decision_log = DecisionLog(other.connection, database.store, resources.load())
    decision_log.follow()
    return apply(
        other.connection,
        [chunk],
        Source(source),
        resources=resources.load(),
        decision_log=decision_log,
    ).counts


@pytest.mark.parametrize("swapped", [False, True])
def test_a_database_that_decided_otherwise_gets_the_archives_state_by_a_replay(
    database: Database, other_database: Database, *, swapped: bool
) -> None:
    """Each database has seen the rivals in another order."""
    first = patch(5, 1, {"match": [command_id(1)]}, name="first")
    second = patch(6, 1, {"match": [command_id(1)]}, population=7)
    deliveries = {"b": first, "c": second}
    names = list(deliveries)
    for source in names:
        database.apply([city(1)], source="a")
        database.apply([deliveries[source]], source=source)
    # The owner's decisions are not in the archive yet for the database that runs ahead.
    objects = dict(database.store.objects)
    database.store.objects = {k: v for k, v in objects.items() if k < "decisions/" + "0" * 19 + "2"}
    apply_privately(database, other_database, city(1), source="a")
    for source in reversed(names) if swapped else names:
        apply_privately(database, other_database, deliveries[source], source=source)
    database.store.objects = objects
    assert len(other_database.rows("SELECT FROM forebay.effects WHERE slot IS NULL")) == 1
    for source, command in (("a", city(1)), *deliveries.items()):
        decision_log = DecisionLog(other_database.connection, database.store, resources.load())
        decision_log.follow()
        apply(
            other_database.connection,
            [[command]],
            Source(source, replay=True),
            resources=resources.load(),
            decision_log=decision_log,
        )
    assert read_items(other_database) == read_items(database)
    passed = other_database.rows("SELECT id::text, slot IS NULL FROM forebay.effects")
    assert passed == [(first.id, False)]
    assert set(other_database.rejections()) == {second.id}


def test_a_new_owner_publishes_the_effects_that_it_has_decided_for_itself(
    database: Database, other_database: Database
) -> None:
    database.decision_log()
    apply_privately(database, other_database, city(1), increment(2, 3), source="a")
    assert read_decisions(database).passed == {}
    DecisionLog(
        other_database.connection, database.store, resources.load(), ownership="adopt"
    ).follow()
    assert read_decisions(database).passed.keys() == {command_id(2)}
    assert other_database.rows("SELECT slot IS NULL FROM forebay.effects") == [(False,)]


@pytest.mark.parametrize("kept", [False, True])
def test_a_patch_that_turns_out_to_be_rejected_is_undone_by_a_replay(
    database: Database, other_database: Database, *, kept: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    rejected = patch(5, 2, name="taken")
    objects = {
        "0": [city(1, key=1, name="taken")],
        "a": [city(2, key=2, name="free"), patch(3, 2, population=4)],
        "b": [rejected],
    }
    for source, chunk in objects.items():
        if source != "0" and not (kept and source == "a"):
            apply_privately(database, other_database, *chunk, source=source)
    for source, chunk in objects.items():
        database.apply(chunk, source=source)
    assert set(database.rejections()) == {rejected.id}
    decision_log = DecisionLog(other_database.connection, database.store, resources.load())
    decision_log.follow()
    for source, chunk in objects.items():
        apply(
            other_database.connection,
            [chunk],
            Source(source, replay=True),
            resources=resources.load(),
            decision_log=decision_log,
        )
    assert read_items(other_database) == read_items(database)


def test_a_replay_that_may_not_decide_gives_back_the_commands_of_the_key(
    database: Database,
) -> None:
    chunk = [city(1), patch(2, 1, THERE, name="b"), city(3, key=2)]
    outcome = database.apply(chunk, decides=False)
    assert outcome.counts == Counts(applied=1)
    assert {(r.command.id, r.code) for r in outcome.undecided} == {
        (command_id(1), "undecided"),
        (command_id(2), "undecided"),
    }
    assert read_decisions(database).passed == {}


def test_many_consumers_decide_rival_commands_once(database: Database) -> None:
    database.apply([city(1, population=5)], source="a")
    rivals = [increment(number, -1) for number in range(2, 14)]

    def deliver(number: int) -> None:
        with open_connection(database.url) as connection:
            for index, rival in enumerate(rivals):
                if index % 4 != number:
                    database.apply([rival], source=f"{index}", connection=connection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(4)))
    decisions = read_decisions(database)
    assert (len(decisions.passed), len(decisions.rejected)) == (5, 7)
    assert database.rows("SELECT population FROM cities") == [(0,)]


def rename(body: dict[str, Any]) -> dict[str, Any]:
    return {("name" if key == "title" else key): value for key, value in body.items()}


@pytest.mark.parametrize("is_able", [False, True])
def test_a_patch_of_an_old_version_needs_an_upcaster_for_patches(
    database: Database, *, is_able: bool
) -> None:
    newer = dataclasses.replace(
        CITY,
        schema_version=2,
        upcasters={1: rename},
        patch_upcasters={1: rename} if is_able else {},
    )
    known = {**resources.load(), "cities": newer}
    database.apply([city(1)._replace(schema=2)], source="a", resources=known)
    database.apply([patch(2, title="renamed")], source="b", resources=known)
    if is_able:
        assert database.rows("SELECT name FROM cities") == [("renamed",)]
    else:
        assert database.rejections() == {command_id(2): "upcast_failed"}


@pytest.mark.parametrize("is_able", [False, True])
def test_a_waiting_patch_of_an_old_version_takes_effect_or_is_rejected_with_its_reason(
    database: Database, *, is_able: bool
) -> None:
    database.apply([patch(5, name="patched")], source="a")
    newer = dataclasses.replace(
        CITY,
        schema_version=2,
        upcasters={1: rename},
        patch_upcasters={1: lambda body: {"timezone": body["name"]}} if is_able else {},
        fields=tuple(f for f in CITY.fields if is_able or f.name != "name"),
    )
    if not is_able:
        database.connection.execute("ALTER TABLE cities DROP name CASCADE")
    known = {**resources.load(), "cities": newer}
    body = {f.name: (city(1).body or {})[f.name] for f in newer.fields}
    database.apply([city(1)._replace(schema=2, body=body)], source="b", resources=known)
    rows = database.rows("SELECT timezone FROM cities")
    assert rows == [("patched",)] if is_able else [("Europe/Berlin",)]
    assert database.rejections() == ({} if is_able else {command_id(5): "unknown_field"})


def test_a_patch_that_was_applied_is_not_rejected_because_a_release_cant_upcast_it(
    database: Database,
) -> None:
    database.apply([city(1), patch(2, name="patched")], source="a")
    newer = dataclasses.replace(CITY, schema_version=2, upcasters={1: rename})
    known = {**resources.load(), "cities": newer}
    outcome = database.apply([patch(2, name="patched")], source="b", replay=True, resources=known)
    assert outcome.counts == Counts(duplicates=1)
    assert database.rejections() == {}


def test_an_increment_keeps_its_sum_over_a_change_of_the_schema(
    database: Database, other_database: Database
) -> None:
    def double(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "population": body["population"] * 2} if "population" in body else body

    database.apply([city(1, population=5), increment(2, 3)], source="a")
    newer = dataclasses.replace(
        CITY, schema_version=2, upcasters={1: double}, patch_upcasters={1: double}
    )
    known = {**resources.load(), "cities": newer}
    decision_log = DecisionLog(other_database.connection, database.store, known)
    decision_log.follow()
    apply(
        other_database.connection,
        [[city(1, population=5), increment(2, 3)]],
        Source("a", replay=True),
        resources=known,
        decision_log=decision_log,
    )
    # The sum is a value of the version at the decision, so it is upcast like any other value.
    assert other_database.rows("SELECT population FROM cities") == [(16,)]


def test_an_outdated_row_with_patches_is_written_again_by_a_replay(database: Database) -> None:
    chunk = [city(1), patch(2, name="patched"), patch(3, population=9)]
    database.apply(chunk, source="a")
    expected = read_items(database)
    database.connection.execute(
        "UPDATE cities SET _version = %s, timezone = 'wrong', name = 'wrong'",
        [mark_outdated(command_id(1))],
    )
    database.connection.execute("DELETE FROM forebay.edits")
    database.apply(chunk, source="a", replay=True)
    assert read_items(database) == expected


def test_an_unknown_field_of_a_patch_is_rejected_and_its_neighbours_apply(
    database: Database,
) -> None:
    chunk = [city(1), patch(2, nmae="typo"), patch(3, name="good"), patch(4, 2, nmae="waits")]
    database.apply(chunk, source="a")
    assert database.rows("SELECT name FROM cities") == [("good",)]
    assert database.rejections() == {
        command_id(2): "unknown_field",
        command_id(4): "unknown_field",
    }


def test_a_condition_about_an_unknown_field_is_rejected(database: Database) -> None:
    condition = {"where": [["nmae", "eq", "x"]]}
    database.apply([city(1), patch(2, 1, condition, name="b")], source="a")
    assert database.rejections() == {command_id(2): "condition_invalid"}


def test_the_rejection_of_a_condition_names_the_current_tag(database: Database) -> None:
    condition = {"where": [["population", "lt", 5]]}
    database.apply([city(1), patch(2, 1, condition, name="b")], source="a")
    [archived] = database.archived
    assert "population lt 5" in archived.detail
    assert "265208" in archived.detail


def test_a_decided_command_is_a_duplicate_when_it_comes_again(database: Database) -> None:
    database.apply([city(1, population=1), increment(2, 3)], source="a")
    outcome = database.apply([increment(2, 3)], source="b")
    assert outcome.counts == Counts(duplicates=1)
    assert database.rows("SELECT population FROM cities") == [(4,)]


def test_bodies_that_no_column_can_hold_are_refused_with_the_reason(database: Database) -> None:
    chunk = [city(1), patch(2, name="x" * 300), patch(3, population=None)]
    database.apply(chunk, source="a")
    assert database.rejections() == {
        command_id(2): "string_data_right_truncation",
        command_id(3): "not_null_violation",
    }


@pytest.mark.parametrize("tag", ["*", "no such tag"])
def test_a_second_command_with_the_id_of_a_decided_command_is_a_duplicate(
    database: Database, tag: str
) -> None:
    """An archived line may hold any id; the object must not fail for ever."""
    database.apply([city(1, key=1), city(2, key=2)], source="a")
    chunk = [patch(5, key, {"match": [tag]}, name=f"of {key}") for key in (1, 2)]
    outcome = database.apply([*chunk, city(5, key=3, nmae="x")], source="b")
    assert sum(outcome.counts) == outcome.lines == 3
    assert outcome.counts.duplicates == 2


@pytest.mark.parametrize(
    "number", ["1E+999999", "Infinity", "NaN", "1E+2100", "-1E-999999", True, {}]
)
def test_an_archived_increment_of_any_size_affects_no_neighbour(
    database: Database, number: Any
) -> None:
    database.apply([city(1, population=5)], source="a")
    chunk = [patch(2, population={"$increment": number}), patch(3, name="good")]
    database.apply(chunk, source="b")
    assert database.rows("SELECT name, population FROM cities") == [("good", 5)]
    assert database.rejections() == {command_id(2): "increment_failed"}


def test_unknown_fields_of_patches_that_are_older_than_a_create_are_not_kept(
    database: Database,
) -> None:
    database.apply([city(9, "create")], source="a")
    database.apply([patch(2, nmae="typo"), patch(3, name="older")], source="b")
    assert database.rejections() == {command_id(2): "unknown_field"}
    assert database.rows("SELECT cardinality(kept) FROM forebay.edits") == [(1,)]


@pytest.mark.parametrize("change", ["orphaned", "deleted"])
def test_a_put_replaces_a_patched_row_that_was_orphaned_or_deleted(
    database: Database, change: str
) -> None:
    database.apply([city(1), patch(2, name="patched")], source="a")
    if change == "orphaned":
        database.connection.execute(
            "UPDATE cities SET _by_create = true, _version = %s", [mark_orphaned(command_id(1))]
        )
    else:
        database.connection.execute("DELETE FROM cities")
    database.apply([city(3)], source="b")
    assert database.rows("SELECT name FROM cities") == [("version 3",)]


def test_a_decided_patch_that_was_refused_when_it_waited_again_stays_refused(
    database: Database,
) -> None:
    """It passed under one id, and is rejected under the id of its place."""
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    before_place = command_id(5)[:-12]
    commands = {
        "a": city(5, name="n"),
        "b": patch(2, 1, THERE, name="wanted"),
        "c": city(0, "delete")._replace(id=f"{before_place}000000000f00"),
        "d": city(30, key=2, name="wanted"),
        "e": city(0, "put", name="late")._replace(id=f"{before_place}000000000f10"),
    }
    for source, command in commands.items():
        database.apply([command], source=source)
    [(place,)] = database.rows("SELECT effective_id::text FROM forebay.effects")
    assert set(database.rejections()) == {place}
    state, decisions = read_items(database), read_decisions(database)
    database.forget()
    for source in "abced":
        database.apply([commands[source]], source=source, replay=True)
    assert read_items(database) == state
    assert read_decisions(database) == decisions


def test_an_object_without_commands_reserves_no_place_in_the_decision_log(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a database that has lost the archive's ownership could not complete such an object."""
    reservations = []
    reserve_slot = DecisionLog.reserve_slot

    def record(decision_log: DecisionLog) -> Any:
        reservations.append(decision_log)
        return reserve_slot(decision_log)

    monkeypatch.setattr(DecisionLog, "reserve_slot", record)
    database.apply((), source="commands/empty.gz")
    assert reservations == []
    database.apply([city(1)], [patch(2, 1, THERE, name="new")])
    assert len(reservations) == 1


def test_a_mark_of_an_earlier_release_leaves_the_row_a_create(database: Database) -> None:
    """Those releases gave all outdated rows the same version, which names no command."""
    mark = "e0000000-0000-0000-0000-000000000000"
    database.apply([city(1, "create")])
    database.connection.execute("UPDATE cities SET _version = %s", [mark])

    states = read_states(Table(database.connection, CITY), [1])

    assert states[1].base == Base(mark, is_create=True)
