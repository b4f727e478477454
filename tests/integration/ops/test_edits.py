"""Patches and decided commands in the operators' tool: rebuild, verify, outdate, plan, history."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.command import Command
from tests.fixtures.archives import id_at
from tests.fixtures.commands import CITY
from tests.fixtures.edited import edit, edit_id, make_edits, read_edited, scatter, write_objects
from tests.fixtures.operating import Operator, apply_live

NOW = ("--at", "now")
STATE = ("cities", "tombstones", "edits")


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    """An operator with an empty archive and an empty database."""
    return Operator(tmp_path / "archive", database_url)


def apply_all(operator: Operator, *objects: Sequence[Command]) -> None:
    """Write the objects into the archive, and apply them in this order."""
    first = len(list(operator.archive.glob("commands/**/*.gz")))
    for number, commands in enumerate(objects, first):
        apply_live(operator, objects=write_objects(operator.archive, [commands], number))


def decided(number: int, key: int = 5, **condition: Any) -> Command:
    """A patch of the name with a condition; by default that the item exists."""
    patch = edit(number, key=key, name=f"decided {number}")
    return patch._replace(condition=condition or {"match": ["*"]})


def added(number: int, summand: int, key: int = 5) -> Command:
    return edit(number, key=key, population={"$increment": summand})


def rebuilt(operator: Operator, url: str, *arguments: str, code: int = 0) -> Operator:
    other = replace(operator, database_url=url)
    other.done("rebuild", "--yes", "--processes", "1", *arguments, code=code)
    return other


@pytest.mark.parametrize(("processes", "seed"), [("1", 0), ("1", 1), ("3", 2)])
def test_a_rebuild_gives_the_patches_and_decisions_of_the_live_run(
    operator: Operator, another_database: Callable[[], str], processes: str, seed: int
) -> None:
    chance = random.Random(seed)
    apply_all(operator, *scatter(chance, make_edits(chance, 300), 9))
    live = read_edited(operator)
    assert all(live.values()), "every kind occurs"

    other = replace(operator, database_url=another_database())
    told = other.done("rebuild", "--yes", "--processes", processes)

    assert read_edited(other) == live
    assert told["undecided"] == 0
    assert (told["edits"], told["effects"]) == (len(live["edits"]), len(live["effects"]))
    assert other.rows(
        "SELECT count(*) FROM forebay.ledger"
        " WHERE lines <> applied + superseded + duplicates + rejected"
    ) == [(0,)]
    for each in (operator, other):
        assert each.done("verify", *NOW)["agrees"]


def test_a_rebuild_counts_waiting_patches_as_applied_and_lost_ones_as_superseded(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    commands = [
        *(edit(1, "put"), edit(2, name="a"), edit(3, name="b", population=3)),
        *(edit(4, name="waits", key=6), edit(5, name="old", key=7), edit(6, "create", key=7)),
    ]
    write_objects(operator.archive, [commands])
    query = "SELECT applied, superseded, duplicates FROM forebay.ledger"
    assert rebuilt(operator, another_database()).rows(query) == [(4, 2, 0)]


def test_a_rebuild_remembers_patches_without_effect(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """Otherwise their status would be `pending` for ever."""
    names = [edit(number, name=str(number)) for number in range(2, 22)]
    waiting = [edit(number, key=6, name=str(number)) for number in range(30, 33)]
    apply_all(operator, [edit(1, "put")], names, waiting)
    query = "SELECT key, recent FROM forebay.edits ORDER BY key"
    recent = operator.rows(query)
    assert [len(ids) for _, ids in recent] == [16, 2]
    assert rebuilt(operator, another_database()).rows(query) == recent


def test_a_rebuild_to_a_command_gives_the_state_at_that_command(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    commands = make_edits(random.Random(11), 120)
    apply_all(operator, commands[:60])
    then = read_edited(operator)
    apply_all(operator, commands[60:])

    other = rebuilt(operator, another_database(), "--until", edit_id(60, create=True))

    now = read_edited(other)
    assert {name: now[name] for name in STATE} == {name: then[name] for name in STATE}
    told = other.done("verify", "--at", edit_id(60, create=True), "--without-ledger")
    assert told["agrees"]


def test_a_decided_command_counts_from_its_place_on(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """Its sum may contain values of commands after the cut."""
    apply_all(operator, [edit(1, "put", population=10)], [edit(8, "put", population=20)])
    apply_all(operator, [added(5, 2)])
    assert operator.rows("SELECT population FROM cities") == [(22,)]

    other = rebuilt(operator, another_database(), "--until", edit_id(6))

    assert other.rows("SELECT population FROM cities") == [(10,)]
    assert (other.rows("TABLE forebay.effects"), other.rows("TABLE forebay.edits")) == ([], [])
    assert other.rows("SELECT object FROM forebay.ledger") == [("commands/2026/01/01/00/0000.gz",)]
    assert operator.done("verify", "--at", edit_id(6))["agrees"], "the live row is newer"
    other.done("replay", "--yes")
    assert read_edited(other)["cities"] == read_edited(operator)["cities"]


def test_commands_without_a_decision_are_left_to_the_next_run(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    apply_all(operator, [edit(1, "put", population=10)])
    (key,) = write_objects(operator.archive, [[added(2, 5), edit(3, timezone="UTC")]], 1)

    other = replace(operator, database_url=another_database())
    told = other.run("rebuild", "--yes", "--processes", "1")

    assert told.code == 5
    assert "1 commands with a condition or an increment have no decision yet" in told.err
    assert other.rows("SELECT population, timezone FROM cities") == [(10, "UTC")]
    assert other.rows("SELECT count(*) FROM forebay.ledger WHERE object = %s", key) == [(0,)]
    other.done("replay", "--yes")
    assert other.rows("SELECT population, timezone FROM cities") == [(15, "UTC")]
    assert other.rows("SELECT slot FROM forebay.effects") == [(None,)], "this database's own"
    assert other.done("verify", *NOW)["agrees"]
    other.done("replay", "--yes")
    assert other.rows("SELECT population, timezone FROM cities") == [(15, "UTC")]
    apply_live(operator, objects=[key])
    other.done("replay", "--yes")
    assert read_edited(other) == read_edited(operator)


def test_a_replay_leaves_a_command_that_may_still_wait_to_the_consumer(
    operator: Operator,
) -> None:
    """It would fail now; the command that it depends on may be in an object that is not there."""
    just_now = round(time.time() * 1000)
    item = edit(1, "put", population=10)._replace(id=id_at(just_now, 1, create=False))
    dependent = added(2, 5)._replace(
        id=id_at(just_now, 2, create=False)[:-6] + "dec1de", condition={"after": [item.id]}
    )
    last = dependent._replace(
        id=id_at(just_now + 1, 3, create=False)[:-6] + "dec1de", condition={"after": [dependent.id]}
    )
    write_objects(operator.archive, [[last], [dependent, edit(3, timezone="UTC", key=6)]])

    told = operator.done("replay", "--yes", code=5)

    assert told["objects_failed"] == 2
    assert operator.rows("SELECT count(*) FROM forebay.rejections") == [(0,)]
    assert operator.rows("SELECT count(*) FROM forebay.edits") == [(1,)], "the other applies"
    write_objects(operator.archive, [[item]], 2)
    operator.done("replay", "--yes")
    assert operator.rows("SELECT population FROM cities") == [(20,)]
    assert operator.done("verify", *NOW)["agrees"]


def test_a_replay_decides_a_command_that_has_waited_long_enough(operator: Operator) -> None:
    dependent = added(2, 5)._replace(condition={"after": [edit_id(1)]})
    write_objects(operator.archive, [[dependent]])
    operator.done("replay", "--yes")
    assert operator.rows("SELECT code FROM forebay.rejections") == [("precondition_failed",)]


def test_an_undecided_command_in_an_applied_object_is_drift(operator: Operator) -> None:
    apply_all(operator, [edit(1, "put", population=10)], [added(2, 5)])
    for entry in operator.archive.glob("decisions/*"):
        if b'"passed"' in entry.read_bytes():
            entry.write_bytes(b"")
    result = operator.done("verify", *NOW, code=1)
    assert result["undecided"] == 1
    assert ("forebay.effects", edit_id(2), "no decision") in [
        (named["table"], named["key"], named["archive"]) for named in result["named"]
    ]


def drift(operator: Operator) -> list[tuple[str, str, str, str]]:
    """Run verify, which must find differences; return them."""
    result = operator.done("verify", *NOW, code=1)
    assert result["differences"] == len(result["named"])
    return [(n["table"], n["key"], n["archive"], n["database"]) for n in result["named"]]


@pytest.fixture
def patched(operator: Operator) -> Operator:
    """A database with an item with patches, and a waiting patch."""
    apply_all(
        operator,
        [edit(1, "put", population=10), edit(3, name="three"), edit(4, key=6, name="waits")],
        [added(2, 5), decided(5, where=[["population", "eq", 15]])],
    )
    assert operator.done("verify", *NOW)["agrees"]
    return operator


EDITS = "UPDATE forebay.edits SET {} WHERE key = '{}'"


@pytest.mark.parametrize(
    ("damage", "key"),
    [
        (EDITS.format("fields = jsonb_set(fields, '{{name}}', to_jsonb('{id}'::text))", 5), 5),
        (EDITS.format("fields = '{{}}', tag = NULL", 5), 5),
        (EDITS.format("fields = '[]'", 5), 5),
        (EDITS.format("tag = tag || '0'", 5), 5),
        (EDITS.format("kept = '{{}}', waiting = 0, oldest = NULL", 6), 6),
        (EDITS.format("kept = kept || '{{half a line}}'", 6), 6),
        (EDITS.format("waiting = 0", 6), 6),
        (EDITS.format("oldest = NULL", 6), 6),
        ("DELETE FROM forebay.edits WHERE key = '5'", 5),
        ("UPDATE forebay.edits SET key = '9' WHERE key = '6'", 9),
        ("UPDATE forebay.edits SET resource = 'none' WHERE key = '6'", 6),
    ],
)
def test_damaged_edits_are_found(patched: Operator, damage: str, key: int) -> None:
    patched.rows(damage.replace("{{", "{").replace("}}", "}").replace("{id}", edit_id(2)))
    named = drift(patched)
    assert {table for table, *_ in named} == {"forebay.edits"}
    assert {name.split()[1] for _, name, *_ in named} >= {str(key)}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE forebay.effects SET body = '{}' WHERE id = %s", "passed with other body"),
        ("UPDATE forebay.effects SET key = '6' WHERE id = %s", "passed with other key"),
        (
            "UPDATE forebay.effects SET effective_id = id WHERE id = %s",
            "passed with other effective_id",
        ),
        ("UPDATE forebay.effects SET slot = NULL WHERE id = %s", "passed with other slot"),
        ("DELETE FROM forebay.effects WHERE id = %s", "absent"),
    ],
)
def test_damaged_effects_are_found(patched: Operator, damage: str, expected: str) -> None:
    patched.rows(damage, edit_id(2))
    assert drift(patched) == [("forebay.effects", edit_id(2), "passed", expected)]


def test_an_invented_effect_is_found(patched: Operator) -> None:
    patched.rows(
        "INSERT INTO forebay.effects SELECT %s::uuid, resource, key, effective_id, body, schema,"
        " decided_at, slot FROM forebay.effects WHERE id = %s",
        *(edit_id(9), edit_id(2)),
    )
    assert drift(patched) == [("forebay.effects", edit_id(9), "absent", "passed")]


def test_a_wrong_value_of_a_patched_field_is_found(patched: Operator) -> None:
    patched.rows("UPDATE cities SET population = 16")
    ((table, key, archive, database),) = drift(patched)
    assert (table, key) == ("public.cities", "5")
    assert database == f"{archive} with other values"


def test_patches_after_the_cut_are_not_drift_but_invented_ones_are(patched: Operator) -> None:
    cut = ("--at", edit_id(5))
    apply_all(patched, [edit(7, timezone="UTC"), edit(8, key=6, timezone="UTC"), added(9, 1)])
    assert patched.done("verify", *cut)["agrees"]

    patched.rows(
        "UPDATE forebay.edits SET fields = jsonb_set(fields, '{timezone}', to_jsonb(%s::text))"
        " WHERE key = '5'",
        edit_id(600),
    )

    result = patched.done("verify", *cut, code=1)
    assert [(named["key"], named["database"]) for named in result["named"]] == [
        ("cities 5", edit_id(600))
    ]


def test_a_newer_row_with_patches_is_compared_with_their_values(patched: Operator) -> None:
    cut = ("--at", edit_id(5))
    apply_all(patched, [edit(7, "put"), edit(8, population=8)])
    assert patched.done("verify", *cut)["agrees"]
    patched.rows("UPDATE cities SET population = 9")
    assert [n["key"] for n in patched.done("verify", *cut, code=1)["named"]] == ["5"]


def test_patches_that_only_the_ledger_lacks_are_named_as_its_difference(
    patched: Operator,
) -> None:
    key = "commands/2026/01/01/00/0002.gz"
    apply_all(patched, [edit(7, timezone="UTC"), edit(8, key=6, timezone="UTC")])
    patched.rows("DELETE FROM forebay.ledger WHERE object = %s", key)
    assert drift(patched) == [("forebay.ledger", key, "its commands are in the tables", "no row")]


def test_a_replay_writes_outdated_rows_with_their_patches_again(patched: Operator) -> None:
    before = read_edited(patched)
    patched.rows("UPDATE cities SET name = 'wrong', population = -1")
    patched.rows(
        "UPDATE forebay.edits SET kept = '{half a line}', fields = fields || '{\"x\": \"y\"}'"
        " WHERE key = '5'"
    )
    told = patched.done(
        "outdate", "cities", "--from", "2026-01-01", "--to", "2026-01-01T00:00:02", "--yes"
    )
    assert told["rows"] == 1
    assert patched.rows("SELECT key FROM forebay.edits") == [("6",)]
    assert told["replay_to"].startswith("2026-01-01T00:00:06"), "after its last patch"
    patched.done("replay", "--yes", "--from", told["replay_from"], "--to", told["replay_to"])
    after = read_edited(patched)
    assert {name: after[name] for name in STATE} == {name: before[name] for name in STATE}
    assert patched.done("verify", *NOW)["agrees"]


def test_the_plan_of_a_replay_names_patches_that_fit_no_row(operator: Operator) -> None:
    write_objects(
        operator.archive,
        [[edit(1, "put"), edit(2, name="fits"), added(3, 1), edit(4, name=7), edit(5, none=1)]],
    )
    told = operator.done("replay", "--plan")
    assert told["bodies_that_do_not_fit"] == {
        "cities version 1: name is not a string": 1,
        "cities version 1: the resource has no field none": 1,
    }


def test_history_shows_the_origin_of_each_field_and_the_decisions(
    operator: Operator,
) -> None:
    apply_all(operator, [edit(1, "put", population=10)], [edit(6, name="six", timezone="UTC")])
    apply_all(operator, [added(3, 2), decided(7, where=[["population", "gt", 100]])])
    apply_all(operator, [edit(8, name="eight")])
    write_objects(operator.archive, [[decided(9)]], 9)

    told = operator.done("history", "cities", "5")["commands"]

    put, total, six, failed, eight, last = told
    ((place,),) = operator.rows("SELECT effective_id::text FROM forebay.effects")
    assert place > edit_id(6) > edit_id(3)
    assert [entry["outcome"] for entry in told] == [
        *("applied", "applied", "applied", "rejected", "applied", "pending")
    ]
    assert put["fields"] == sorted(CITY.keys() - {"name", "timezone", "population"})
    assert (total["fields"], six["fields"]) == (["population"], ["timezone"])
    assert eight["fields"] == ["name"]
    assert total["decision"]["effective_id"] == place
    assert total["decision"]["body"] == {"population": 12}
    assert failed["reason"].startswith("precondition_failed: population gt 100")
    assert (last["decision"], last["if"]) == (None, {"match": ["*"]})
    text = operator.run("history", "cities", "5").out
    for word in ("undecided", f"passed as {place}"[:12], "timezone"):
        assert word in text


def test_history_shows_that_a_patch_waits(patched: Operator) -> None:
    (entry,) = patched.done("history", "cities", "6")["commands"]
    assert (entry["outcome"], entry["waits"]) == ("pending", True)
    apply_all(patched, [edit(2, "create", key=6)])
    create, patch = patched.done("history", "cities", "6")["commands"]
    assert (patch["outcome"], patch["waits"], patch["fields"]) == ("applied", False, ["name"])
    assert create["outcome"] == "applied"


def test_history_finds_a_superseded_patch_in_a_rebuilt_database(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    apply_all(operator, [edit(1, "put"), edit(2, name="two"), edit(3, name="three")])
    other = rebuilt(operator, another_database())
    for each in (operator, other):
        told = each.done("history", "cities", "5")["commands"]
        assert [entry["outcome"] for entry in told] == ["applied", "superseded", "applied"]


def test_the_row_as_of_a_time_has_the_patches_of_that_time(operator: Operator) -> None:
    apply_all(operator, [edit(2, name="early"), edit(3, "put", population=1)])
    apply_all(operator, [edit(4, name="four"), added(5, 2), decided(6, match=[edit_id(1)])])
    apply_all(operator, [edit(7, "delete"), edit(8, name="waits")])

    def was(second: int) -> tuple[str, Any, Any]:
        told = operator.done("history", "cities", "5", "--as-of", f"2026-01-01T00:00:0{second}.5")
        row = told["row"]
        return told["state"], row and (row["name"], row["population"]), told["waiting"]

    assert was(2) == ("absent", None, [edit_id(2)])
    assert was(3) == ("row", (CITY["name"], 1), [])
    assert was(4) == ("row", ("four", 1), [])
    assert was(6) == ("row", ("four", 3), [])
    assert was(8) == ("deleted", None, [edit_id(8)])
