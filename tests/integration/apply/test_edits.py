"""Laws 2 and 7: patches and decided commands converge, and each decision is made once."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.apply import Counts
from forebay.codec import decode
from forebay.command import Command, Op
from forebay.decided_commands import is_decided_command
from resources import load as load_resources
from tests.fixtures.commands import city, command_id, country
from tests.fixtures.edits import Decisions, Item, fold
from tests.fixtures.tables import CountingCursor, Database
from tests.integration.apply.test_convergence import Delivery, deliver, deliveries, examples

EXAMPLES = int(os.environ.get("FOREBAY_DELIVERIES", "100"))
MANY_EXAMPLES = 5000
OPS: tuple[Op, ...] = ("create", "put", "delete", "patch", "patch", "patch")
CITY = load_resources()["cities"]
THERE = {"match": ["*"]}


def patch(number: int, key: int = 1, condition: Any = None, **body: Any) -> Command:
    """A patch of a city."""
    return city(number, "put", key)._replace(op="patch", body=body, condition=condition)


def increment(number: int, by: int, key: int = 1, condition: Any = None) -> Command:
    return patch(number, key, condition, population={"$increment": by})


@st.composite
def conditions(draw: st.DrawFn, count: int) -> Any:
    """Nothing, tags of commands that may come or may never come, or comparisons of fields."""
    kind = draw(st.sampled_from(["none", "none", "tag", "exists", "field", "both"]))
    condition: dict[str, Any] = {}
    if kind in {"tag", "both"}:
        number = draw(st.integers(0, count + 1))
        condition["match"] = [command_id(number, create=draw(st.booleans()))]
    if kind == "exists":
        condition["match"] = ["*"]
    if kind in {"field", "both"}:
        value = draw(st.integers(0, 12))
        condition["where"] = [["population", draw(st.sampled_from(["gte", "lt", "neq"])), value]]
    return condition or None


@st.composite
def sets_of_edits(draw: st.DrawFn) -> list[Command]:
    drawn = draw(st.lists(st.tuples(st.sampled_from(OPS), st.integers(1, 2)), max_size=12))
    numbers = draw(st.permutations(range(len(drawn))))
    commands: list[Command] = []
    for number, (op, key) in zip(numbers, drawn, strict=True):
        condition = None if op == "create" else draw(conditions(len(drawn)))
        if op != "patch":
            command = city(number, op, key, population=number)
            commands.append(command._replace(condition=condition))
            continue
        body: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {"name": f"patch {number}"},
                    {"population": number},
                    {"name": f"patch {number}", "timezone": f"zone {number}"},
                    {"population": {"$increment": draw(st.integers(-8, 8))}},
                    {"name": f"sum {number}", "population": {"$increment": -1}},
                ]
            )
        )
        commands.append(patch(number, key, condition, **body))
    return commands


def read_decisions(database: Database) -> Decisions:
    """The decisions in the archive; no command has two."""
    decisions, counts = Decisions(), Counter[str]()
    for entry in database.entries():
        counts.update(members["id"] for members in (*entry.rejections, *entry.effects))
        decisions.rejected.update(members["id"] for members in entry.rejections)
        for members in entry.effects:
            decisions.passed[members["id"]] = (members["effective_id"], members["body"])
    assert not {command for command, count in counts.items() if count > 1}
    return decisions


def read_items(database: Database) -> dict[int, Item]:
    """The state of each key in the tables."""
    names = [field.name for field in CITY.fields]
    items: dict[int, Item] = {}
    rows = database.rows(
        f"SELECT geonameid, _version::text, _by_create, {', '.join(names)} FROM cities"
    )
    for key, version, by_create, *values in rows:
        items[key] = Item(dict(zip(names, values, strict=True)), version, by_create)
    for (_, key), version in database.tombstones().items():
        items.setdefault(int(key), Item()).tombstone = version
    for key, fields, kept, tag, waiting, oldest in database.rows(
        "SELECT key, fields, kept, tag, waiting, oldest::text FROM forebay.edits"
    ):
        item = items.setdefault(int(key), Item())
        item.fields = fields
        for command in map(decode, map(str.encode, kept)):
            item.kept[command.id] = set(command.body or {})
        assert tag == item.tag
        assert waiting == (len(kept) if item.values is None else 0)
        assert oldest == (min(item.kept) if waiting else None)
    return items


def check_state(database: Database, commands: list[Command]) -> Decisions:
    decisions = read_decisions(database)
    decided = {
        command.id
        for command in commands
        if is_decided_command(command.op, command.body, command.condition, CITY)
    }
    assert decided == decisions.passed.keys() | decisions.rejected
    expected = fold(commands, decisions)
    assert read_items(database) == {k: item for k, item in expected.items() if item != Item()}
    return decisions


def check(database: Database, data: st.DataObject) -> None:
    commands = data.draw(sets_of_edits())
    delivery: Delivery = data.draw(deliveries(commands))
    database.empty()
    deliver(database, delivery)
    decisions = check_state(database, commands)
    for index in delivery.replayed:
        database.apply(*delivery.objects[index], source=f"commands/{index}", replay=True)
    assert check_state(database, commands) == decisions
    for row in database.ledger().values():
        counted = sum(row[name] for name in ("applied", "superseded", "duplicates", "rejected"))
        assert counted == row["lines"]
        assert row["completed_at"] is not None
    # A database that has lost everything gets the same state from the archive, in another order.
    database.forget()
    order = list(range(len(delivery.objects)))
    random.Random(len(commands)).shuffle(order)
    for index in order:
        database.apply(*delivery.objects[index], source=f"commands/{index}", replay=True)
    assert check_state(database, commands) == decisions


@examples(EXAMPLES)
@given(data=st.data())
def test_any_delivery_of_edits_gives_the_state_of_the_model(
    database: Database, data: st.DataObject
) -> None:
    """Any permutation, duplicates, chunk borders, two consumers, cuts between any statements."""
    check(database, data)


@pytest.mark.long
@pytest.mark.timeout(7200)
@examples(MANY_EXAMPLES)
@given(data=st.data())
def test_many_more_deliveries_of_edits_give_the_state_of_the_model(
    database: Database, data: st.DataObject
) -> None:
    """The same with more examples; takes about an hour."""
    check(database, data)


def statuses(database: Database) -> tuple[int, ...]:
    """The ledger's counts: applied, superseded, duplicates, rejected."""
    names = ("applied", "superseded", "duplicates", "rejected")
    rows = database.ledger().values()
    return tuple(sum(row[name] for row in rows) for name in names)


def test_a_patch_sets_its_fields_and_leaves_the_others(database: Database) -> None:
    database.apply([city(1)], source="a")
    database.apply([patch(2, name="Aix")], source="b")
    [(name, population, version)] = database.rows(
        "SELECT name, population, _version::text FROM cities"
    )
    assert (name, population, version) == ("Aix", 265208, command_id(1))


def test_an_older_patch_of_another_field_keeps_the_newer_one(database: Database) -> None:
    database.apply([city(1)], source="a")
    database.apply([patch(5, name="newer")], source="b")
    database.apply([patch(3, name="older", timezone="UTC")], source="c")
    assert database.rows("SELECT name, timezone FROM cities") == [("newer", "UTC")]


def test_a_patch_waits_for_its_item_and_takes_effect_when_it_comes(database: Database) -> None:
    database.apply([patch(5, name="patched")], source="a")
    assert database.rows("SELECT waiting FROM forebay.edits") == [(1,)]
    assert statuses(database) == (1, 0, 0, 0)
    database.apply([city(1, "create")], source="b")
    assert database.rows("SELECT name FROM cities") == [("patched",)]
    assert database.rows("SELECT waiting, oldest FROM forebay.edits") == [(0, None)]


def test_a_delete_sends_newer_patches_back_to_waiting(database: Database) -> None:
    database.apply([city(1), patch(9, name="patched", population=7)], source="a")
    database.apply([city(4, "delete")], source="b")
    assert database.rows("SELECT count(*) FROM cities") == [(0,)]
    database.apply([city(6)], source="c")
    rows = database.rows("SELECT name, population, timezone FROM cities")
    assert rows == [("patched", 7, "Europe/Berlin")]


def test_a_put_newer_than_all_patches_leaves_nothing_of_them(database: Database) -> None:
    database.apply([city(1), patch(2, name="patched")], source="a")
    database.apply([city(3)], source="b")
    assert database.rows("SELECT name FROM cities") == [("version 3",)]
    assert database.rows("SELECT * FROM forebay.edits") == []


@pytest.mark.parametrize("together", [True, False])
def test_exactly_one_of_the_commands_conditional_on_one_state_passes(
    database: Database, *, together: bool
) -> None:
    database.apply([city(1)], source="a")
    tag = {"match": [command_id(1)]}
    rivals = [patch(number, 1, tag, name=f"rival {number}") for number in range(2, 12)]
    for number, chunk in enumerate([rivals] if together else [[rival] for rival in rivals]):
        database.apply(chunk, source=f"b{number}")
    decisions = read_decisions(database)
    assert len(decisions.passed) == 1
    assert len(decisions.rejected) == 9
    assert set(database.rejections().values()) == {"precondition_failed"}
    assert database.rows("SELECT name FROM cities") == [("rival 2",)]


def test_increments_add_up_and_end_at_the_fields_bound(database: Database) -> None:
    database.apply([city(1, population=10)], source="a")
    database.apply([increment(number, -3) for number in range(2, 7)], source="b")
    assert database.rows("SELECT population FROM cities") == [(1,)]
    assert sorted(database.rejections().values()) == ["increment_failed"] * 2
    assert statuses(database)[3] == 2


def test_a_decided_command_takes_its_place_after_all_that_was_applied(
    database: Database,
) -> None:
    database.apply([city(20, population=5)], source="a")
    database.apply([increment(3, 2)], source="b")
    assert database.rows("SELECT population FROM cities") == [(7,)]
    [(effective,)] = database.rows("SELECT effective_id::text FROM forebay.effects")
    assert effective > command_id(20)
    # Newer than the increment was when it was sent, but older than its place: it keeps the sum.
    database.apply([patch(15, population=1)], source="c")
    assert database.rows("SELECT population FROM cities") == [(7,)]


def test_conditions_see_the_states_between_the_commands_of_a_chunk(database: Database) -> None:
    database.apply([city(1, timezone="draft")], source="a")
    steps = [("draft", "paid"), ("paid", "shipped"), ("paid", "lost")]
    chunk = [
        patch(number, 1, {"where": [["timezone", "eq", old]]}, timezone=new)
        for number, (old, new) in enumerate(steps, 2)
    ]
    database.apply(chunk, source="b")
    assert database.rows("SELECT timezone FROM cities") == [("shipped",)]
    assert database.rejections() == {command_id(4): "precondition_failed"}


def test_a_decided_command_that_postgres_refuses_affects_no_neighbour(database: Database) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(1, 4)], source="a")
    there = {"match": ["*"]}
    chunk = [
        patch(11, 1, there, name="n3"),
        patch(12, 2, there, name="two"),
        patch(13, 1, name="one"),
        patch(14, 2, name="n3"),
    ]
    database.apply(chunk, source="b")
    rows = database.rows("SELECT geonameid, name FROM cities ORDER BY 1")
    assert rows == [(1, "one"), (2, "two"), (3, "n3")]
    # Command 11 is superseded by 13 before its value is written.
    assert database.rejections() == {command_id(14): "unique_violation"}
    assert statuses(database) == (5, 1, 0, 1)


def test_a_waiting_patch_that_postgres_refuses_does_not_keep_its_item_out(
    database: Database,
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(1, key=1, name="taken"), patch(5, 2, name="taken")], source="a")
    database.apply([patch(6, 2, population=6), patch(7, 2, timezone="UTC")], source="b")
    outcome = database.apply([city(3, key=2, name="free")], source="c")
    assert outcome.counts == Counts(applied=1)
    rows = database.rows("SELECT name, population, timezone FROM cities ORDER BY 1")
    assert rows[0] == ("free", 6, "UTC")
    assert database.rejections() == {command_id(5): "unique_violation"}


@pytest.mark.parametrize("key", ['"\\', "{,", "\t\n", "Ää", "''", "%s", "NU"])
def test_a_key_of_any_characters_can_be_patched_and_wait(database: Database, key: str) -> None:
    there = country(1, key)
    renamed = there._replace(id=command_id(2), op="patch", body={"name": f"\\N\t{key}\u2028"})
    database.apply([renamed], source="a")
    assert database.rows("SELECT key, waiting FROM forebay.edits") == [(key, 1)]
    database.apply([there], source="b")
    later = there._replace(id=command_id(3), op="patch", body={"capital": None, "currency": key})
    database.apply([later], source="c")
    rows = database.rows("SELECT name, capital, currency FROM countries")
    assert rows == [(f"\\N\t{key}\u2028", None, key)]
    fields = {"name": renamed.id, "capital": later.id, "currency": later.id}
    assert database.rows("SELECT fields FROM forebay.edits") == [(fields,)]


@pytest.mark.parametrize("condition", [None, THERE])
def test_a_long_chain_of_patches_takes_a_few_statements_for_each(
    database: Database, condition: Any
) -> None:
    """As when the positions of a list are shifted: each takes the next key's value."""
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(1, 101)], source="a")
    database.connection.cursor_factory = CountingCursor
    CountingCursor.statements = 0
    chunk = [patch(100 + n, n, condition, name=f"n{n + 1}") for n in range(1, 101)]
    database.apply(chunk, source="b")
    assert CountingCursor.statements < 3_000
    assert database.rejections() == {}


@pytest.mark.parametrize("condition", [None, THERE])
def test_the_statements_do_not_grow_with_the_number_of_patches_in_conflict(
    database: Database, condition: Any
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(101)], source="a")
    database.connection.cursor_factory = CountingCursor
    CountingCursor.statements = 0
    database.apply([patch(200 + n, n, condition, name="n0") for n in range(1, 101)], source="b")
    assert CountingCursor.statements < 100
    assert statuses(database) == (101, 0, 0, 100)


def test_increments_beyond_the_bound_of_a_key_in_demand_are_refused_without_a_write_each(
    database: Database,
) -> None:
    database.apply([city(1, population=100)], source="a")
    database.connection.cursor_factory = CountingCursor
    CountingCursor.statements = 0
    database.apply([increment(n, -1) for n in range(2, 202)], source="b")
    assert CountingCursor.statements < 100
    assert statuses(database) == (2, 99, 0, 100)
