"""Patches, puts and decided commands that take and give up unique values."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.apply import Counts, Habits
from forebay.command import Command, Op
from tests.fixtures.commands import city, command_id
from tests.fixtures.tables import Database
from tests.integration.apply.test_edits import THERE, patch


@pytest.mark.parametrize("decides", [True, False])
def test_a_chain_of_patches_that_hand_on_a_unique_value_applies(
    database: Database, *, decides: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(1, 4)], source="a")
    condition = {"match": ["*"]} if decides else None
    names = {1: "n2", 2: "n3", 3: "n4"}
    chunk = [patch(10 + n, n, condition, name=name) for n, name in names.items()]
    database.apply(chunk, source="b")
    assert dict(database.rows("SELECT geonameid, name FROM cities")) == names


@pytest.mark.parametrize("needed", [0, 3])
@pytest.mark.parametrize(
    ("op", "existing"),
    [
        ("put", []),
        ("put", ["first"]),
        ("put", ["second"]),
        ("put", ["first", "second"]),
        ("patch", ["second"]),
        ("patch", ["first", "second"]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_first_sent_of_two_claims_of_a_unique_value_in_a_chunk_wins(
    database: Database, op: Op, existing: list[str], needed: int, *, swapped: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    keys = {"first": 2, "second": 1} if swapped else {"first": 1, "second": 2}
    ops: dict[str, Op] = {name: op if name in existing else "put" for name in keys}
    for number, name in enumerate(existing):
        database.apply([city(number, key=keys[name])], source=f"a{number}")
    chunk = [
        city(10 + number, ops[name], keys[name], name="wanted") for number, name in enumerate(keys)
    ]
    chunk = [c._replace(body={"name": "wanted"}) if c.op == "patch" else c for c in chunk]
    database.apply(chunk, source="b", habits=Habits(needed=needed))
    assert database.rejections() == {command_id(11): "unique_violation"}
    rows = dict(database.rows("SELECT geonameid, name FROM cities"))
    assert rows[keys["first"]] == "wanted"
    kept = {keys["second"]: "version 1" if "first" in existing else "version 0"}
    assert {k: v for k, v in rows.items() if k != keys["first"]} == (
        kept if "second" in existing else {}
    )


CLAIMS: dict[str, Any] = {
    "put": {"op": "put", "name": "wanted"},
    "new": {"op": "put", "name": "wanted"},
    "patch": {"op": "patch", "body": {"name": "wanted"}},
    "patch of two fields": {"op": "patch", "body": {"name": "wanted", "population": 7}},
    "decided": {"op": "patch", "body": {"name": "wanted"}, "condition": THERE},
}


def claim(number: int, key: int, kind: str) -> Command:
    """A command that sets the name of a city; only a new city is not there before."""
    members = dict(CLAIMS[kind])
    command = city(number, "put", key, name="wanted")
    return command._replace(**{n: v for n, v in members.items() if n != "name"})


@pytest.mark.parametrize("first", CLAIMS)
@pytest.mark.parametrize("second", CLAIMS)
@pytest.mark.parametrize("swapped", [False, True])
def test_claims_of_a_unique_value_by_any_operations_are_in_the_order_of_ids(
    database: Database, first: str, second: str, *, swapped: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    keys = (2, 1) if swapped else (1, 2)
    there = [city(n, key=k) for n, k in enumerate(keys) if (first, second)[n] != "new"]
    database.apply(there, source="a") if there else None
    chunk = [claim(10, keys[0], first), claim(11, keys[1], second)]
    # A patch of another key makes the chunk merge, whatever the claims are.
    database.apply([city(2, key=3)], source="b")
    database.apply([*chunk, patch(12, 3, population=1)], source="c")
    assert database.rejections() == {command_id(11): "unique_violation"}
    rows = dict(database.rows("SELECT geonameid, name FROM cities"))
    assert rows[keys[0]] == "wanted"
    assert rows.get(keys[1]) == (None if second == "new" else "version 1")


@pytest.mark.parametrize("condition", [None, THERE])
def test_a_key_gives_up_its_value_although_its_last_command_is_refused(
    database: Database, condition: Any
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(1, 5)], source="a")
    chunk = [
        patch(11, 1, condition, name="n2"),
        patch(12, 2, condition, name="y"),
        patch(13, 2, condition, name="n4"),
        patch(14, 3, condition, name="n1"),
    ]
    database.apply(chunk, source="b")
    rows = dict(database.rows("SELECT geonameid, name FROM cities"))
    assert rows == {1: "n2", 2: "y", 3: "n1", 4: "n4"}
    assert database.rejections() == {command_id(13): "unique_violation"}


@pytest.mark.parametrize("condition", [None, THERE])
def test_a_put_takes_the_value_that_an_older_patch_of_its_chunk_gives_up(
    database: Database, condition: Any
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(1, name="n1")], source="a")
    database.apply([patch(2, 1, condition, name="n2"), city(3, key=2, name="n1")], source="b")
    assert dict(database.rows("SELECT geonameid, name FROM cities")) == {1: "n2", 2: "n1"}


def test_a_waiting_patch_that_is_tried_again_after_another_key_is_not_counted(
    database: Database,
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(1, key=1, name="taken"), patch(5, 2, name="taken")], source="a")
    chunk = [city(3, key=2, name="free"), patch(11, name="x"), patch(12, population=None)]
    outcome = database.apply(chunk, source="b")
    assert dict(database.rows("SELECT geonameid, name FROM cities")) == {1: "x", 2: "taken"}
    assert database.rejections() == {command_id(12): "not_null_violation"}
    assert outcome.counts[:4] == (2, 0, 0, 1)


def test_a_waiting_patch_that_is_refused_takes_no_other_waiting_patch_with_it(
    database: Database,
) -> None:
    """The item applies only with one of the patches, and not with the other."""
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(1, key=1, name="taken")], source="a")
    database.apply([patch(5, 2, timezone="x" * 100), patch(6, 2, name="free")], source="b")
    outcome = database.apply([city(3, key=2, name="taken")], source="c")
    assert outcome.counts == Counts(applied=1)
    assert dict(database.rows("SELECT geonameid, name FROM cities")) == {1: "taken", 2: "free"}
    assert database.rejections() == {command_id(5): "string_data_right_truncation"}


@pytest.mark.parametrize("decides", [True, False])
@pytest.mark.parametrize("edited", [1, 2])
def test_a_put_and_a_put_of_a_patched_key_can_swap_a_unique_value(
    database: Database, edited: int, *, decides: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    database.apply([city(1, key=1, name="one"), city(2, key=2, name="two")], source="a")
    database.apply([patch(9, edited, population=9)], source="b")
    swap = [city(3, key=1, name="two"), city(4, key=2, name="one"), city(5, key=3, name="three")]
    outcome = database.apply([*swap, city(0, key=2)], source="c", decides=decides)
    assert outcome.counts == Counts(applied=3, superseded=1)
    rows = dict(database.rows("SELECT geonameid, name FROM cities"))
    assert rows == {1: "two", 2: "one", 3: "three"}
    assert not outcome.undecided
