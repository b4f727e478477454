"""Commands of old schema versions, applied to a real table."""

from __future__ import annotations

import enum
import itertools
from typing import Any

import pytest

import resources
from forebay.apply import Source, apply
from forebay.codec import decode
from forebay.command import Command
from forebay.resource.spec import ResourceSpec
from resources.cities import City
from tests.fixtures.commands import CITY, city, command_id
from tests.fixtures.tables import Database


def rename(body: dict[str, Any]) -> dict[str, Any]:
    return {"name": body.pop("title"), **body}


class NewCity(City, path="cities", schema_version=2, upcasters={1: rename}):
    """The city of a release in which its `title` became its `name`."""


@pytest.fixture
def upgraded() -> dict[str, ResourceSpec]:
    return {**resources.load(), "cities": NewCity.spec_}


def old(number: int, key: int, **changes: Any) -> Command:
    body = {**CITY, **changes}
    body["title"] = body.pop("name")
    return Command(command_id(number), "put", "cities", key, 1, "test", None, body)


def test_old_and_new_bodies_of_one_key_meet_in_the_current_table(
    database: Database, upgraded: dict[str, ResourceSpec]
) -> None:
    new = Command(command_id(2), "put", "cities", 5, 2, "test", None, {**CITY, "name": "new"})
    apply(
        database.connection,
        [[new, old(1, 5), old(3, 6, name="old"), old(4, 7, name="x" * 300)]],
        Source("commands/a.gz"),
        resources=upgraded,
        decision_log=database.decision_log(resources=upgraded),
    )
    assert {key: row[2] for key, row in database.cities().items()} == {5: "new", 6: "old"}
    # The rejection holds the archived command, not the upcast command.
    rejected = [decode(rejection.line) for rejection in database.archived]
    assert rejected == [old(4, 7, name="x" * 300)]


class Mood(enum.StrEnum):
    GOOD = "good"


class Size(enum.IntEnum):
    LARGE = 7


def test_members_of_enumerations_that_an_upcaster_makes_are_their_values(
    database: Database,
) -> None:
    class EnumCity(
        City,
        path="cities",
        schema_version=2,
        upcasters={1: lambda body: {**body, "name": Mood.GOOD, "population": Size.LARGE}},
    ):
        """A city with an upcaster that returns members of enumerations."""

    declared = {**resources.load(), "cities": EnumCity.spec_}
    outcome = database.apply([city(1, key=1), city(2, key=2)], resources=declared)
    assert outcome.counts.applied == 2
    assert database.rows("SELECT name, population FROM cities") == [("good", 7)] * 2


def test_an_integer_that_python_does_not_print_affects_no_neighbour(database: Database) -> None:
    class LongCity(
        City,
        path="cities",
        schema_version=2,
        upcasters={
            1: lambda body: {**body, "population": 10**5000} if body["name"] == "odd" else body
        },
    ):
        """A city with an upcaster that has a defect."""

    declared = {**resources.load(), "cities": LongCity.spec_}
    database.apply(
        [city(n, key=n, name="odd" if n == 2 else "x") for n in range(4)], resources=declared
    )
    assert set(database.cities()) == {0, 1, 3}
    assert database.rejections() == {command_id(2): "wrong_type"}


UNFIT = ["half a pair: \ud800", "a\x00b", {1}, b"bytes", 10**400]


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ["list"]), *itertools.product(["name", "more"], UNFIT)],
    ids=ascii,
)
def test_no_result_of_an_upcaster_affects_a_neighbour(
    database: Database, field: str, value: object
) -> None:
    class OddCity(
        City,
        path="cities",
        schema_version=2,
        upcasters={1: lambda body: {**body, field: value}},
    ):
        """A city with an upcaster that has a defect."""

        more: list[str]

    database.connection.execute("ALTER TABLE cities ADD more jsonb NOT NULL")
    body = {**CITY, "more": ["åäö\t\n\\N"]}
    good = Command(command_id(2), "put", "cities", 2, 2, "test", None, body)
    bad = Command(command_id(1), "put", "cities", 1, 1, "test", None, body)
    outcome = apply(
        database.connection,
        [[bad, good]],
        Source("commands/a.gz"),
        resources={"cities": OddCity.spec_},
        decision_log=database.decision_log(),
    )
    assert (outcome.counts.applied, outcome.counts.rejected) == (1, 1)
    assert database.rows("SELECT geonameid, more FROM cities") == [(2, body["more"])]
    assert [rejection.id for rejection in database.archived] == [command_id(1)]


def test_an_upcaster_that_changes_nested_values_gets_each_body_as_archived(
    database: Database,
) -> None:
    """A chunk that is partly applied is upcast again when it resumes."""

    def flatten(body: dict[str, Any]) -> dict[str, Any]:
        body["name"] = body["nested"].pop("title")  # KeyError the second time
        del body["nested"]
        return body

    class Flat(City, path="cities", schema_version=2, upcasters={1: flatten}):
        """The city of a release in which its name is no longer nested."""

    bodies = [{**CITY, "nested": {"title": f"city {key}"}} for key in range(3)]
    for body in bodies:
        del body["name"]
    chunk = [
        Command(command_id(key), "put", "cities", key, 1, "test", None, body)
        for key, body in enumerate(bodies)
    ]
    newer = {**resources.load(), "cities": Flat.spec_}
    database.connection.execute(
        "INSERT INTO forebay.ledger"
        " (object, lines, applied, superseded, duplicates, rejected, lags)"
        " VALUES ('commands/a.gz', 1, 1, 0, 0, 0, '{}')"
    )
    database.apply(chunk, resources=newer)
    assert database.rejections() == {}
    assert {key: name for key, (_, _, name) in database.cities().items()} == {
        1: "city 1",
        2: "city 2",
    }
    assert bodies[0]["nested"] == {"title": "city 0"}
