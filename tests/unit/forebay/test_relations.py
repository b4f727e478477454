"""Relations between resources, in both directions of a reference."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from forebay.resource import Key, References, Resource, Unique
from forebay.resource.relations import Relation, find_relations, select_direct


class Person(Resource, path="people"):
    """A resource that refers to itself, once with a named reference."""

    number: Annotated[int, Key()]
    boss: Annotated[int | None, References("people")] = None
    buddy: Annotated[int | None, References("people", name="friend")] = None


class Desk(Resource, path="desks"):
    """A resource that refers to people, once by a unique reference."""

    label: Annotated[str, Field(max_length=5), Key()]
    owner: Annotated[int, References("people", name="owned_by"), Unique()]
    guest: Annotated[int | None, References("people", name="people")] = None


FOUND = find_relations({"people": Person.spec_, "desks": Desk.spec_})


def way(relation: Relation) -> tuple[tuple[str, ...], str, str]:
    kind = "many" if relation.many else "one"
    columns = f"{relation.column.name}={relation.target.path}.{relation.target_column.name}"
    return relation.names, columns, kind


def test_a_reference_leads_there_by_its_name_or_path_and_back_by_path() -> None:
    assert list(map(way, FOUND["desks"])) == [
        (("owned_by", "people"), "owner=people.number", "one"),
        (("people",), "guest=people.number", "one"),
    ]
    assert [way(relation) for relation in FOUND["people"] if relation.target.path == "desks"] == [
        (("desks",), "number=desks.owner", "one"),
        (("desks",), "number=desks.guest", "many"),
    ]


def test_a_relation_of_a_resource_to_itself_leads_down_only() -> None:
    starting = select_direct(FOUND["people"])
    assert [way(relation) for relation in starting if relation.target.path == "people"] == [
        (("boss",), "boss=people.number", "one"),
        (("people",), "number=people.boss", "many"),
        (("friend",), "buddy=people.number", "one"),
        (("people",), "number=people.buddy", "many"),
    ]
    assert {relation.hint for relation in starting if "people" in relation.names} == {
        "boss",
        "buddy",
    }
