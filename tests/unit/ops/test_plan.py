"""The plan of a replay counts the bodies that fit no row of this release."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from forebay.archive.lines import Entry
from forebay.command import Command, Op
from forebay.resource import Key, Resource
from ops.replay.plan import Plan
from tests.fixtures.commands import command_id


def second(body: dict[str, Any]) -> dict[str, Any]:
    return {"title": body["name"], "size": int(body["size"])}


class Lake(Resource, path="lakes", schema_version=2, upcasters={1: second}):
    """A resource with limits in its second schema version."""

    number: Annotated[int, Key()]
    title: Annotated[str, Field(max_length=5)]
    size: Annotated[int, Field(ge=0, le=100)]
    note: str | None


def command(number: int, schema: int, body: dict[str, Any] | None) -> Command:
    op: Op = "delete" if body is None else "put"
    return Command(command_id(number), op, "lakes", number, schema, "test", None, body)


def test_bodies_are_counted_by_version_and_reason() -> None:
    chunk: list[Entry] = [
        command(1, 1, {"name": "Como", "size": "4"}),
        command(2, 1, {"name": "Constance", "size": "4"}),
        command(3, 1, {"name": "Garda", "size": "many"}),
        command(4, 1, {"name": "Garda", "size": "few"}),
        command(5, 1, {"title": "Garda", "size": "3"}),
        command(6, 2, {"title": "Como", "size": 4}),
        command(7, 2, {"title": "Como"}),
        command(8, 2, {"title": "Como", "size": "4", "note": None}),
        command(9, 2, {"title": "Como", "size": 4, "depth": 3}),
        command(10, 2, None),
    ]
    plan = Plan()
    plan.add(chunk, {"lakes": Lake.spec_})

    assert plan.facts(workers=1, rate_per_second=None)["bodies_that_do_not_fit"] == {
        "lakes version 1: title is longer than 5 characters": 1,
        "lakes version 1: the upcaster from version 1 raised ValueError": 2,
        "lakes version 1: the upcaster from version 1 raised KeyError": 1,
        "lakes version 2: the body lacks size": 1,
        "lakes version 2: size is not an integer": 1,
        "lakes version 2: the resource has no field depth": 1,
    }
