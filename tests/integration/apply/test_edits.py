"""Laws 2 and 7: patches and decided commands converge, and each decision is made once."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.apply.decided import is_decided
from forebay.codec import decode
from forebay.command import Command, Op
from resources import load as load_resources
from tests.fixtures.commands import city, command_id
from tests.fixtures.edits import Decisions, Item, fold
from tests.fixtures.tables import Database
from tests.integration.apply.test_convergence import Delivery, deliver, deliveries, examples

EXAMPLES = int(os.environ.get("FOREBAY_DELIVERIES", "300"))
MANY_EXAMPLES = 5000
OPS: tuple[Op, ...] = ("create", "put", "delete", "patch", "patch", "patch")
CITY = load_resources()["cities"]


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
        body = draw(
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
    rows = database.rows(f"SELECT geonameid, _version::text, _by_create, {', '.join(names)} FROM cities")
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
    decided = {command.id for command in commands if is_decided(command, CITY)}
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
