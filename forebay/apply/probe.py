"""Asks a table what it has of some commands' keys, before any body travels to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.apply.statements import Statements
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.resource.spec import Kind, ResourceSpec


@dataclass(frozen=True, slots=True)
class Probed:
    """Puts and creates by what the table holds at their keys."""

    #: Neither a row nor a tombstone.
    fresh: list[Command]
    #: A row or a tombstone that they beat.
    contested: list[Command]
    #: How many are there already, by their own id.
    here: int
    #: How many others have lost.
    beaten: int


def probe(
    connection: Connection, spec: ResourceSpec, sql: Statements, puts: Sequence[Command]
) -> Probed:
    """What the table holds at the keys of these commands, which are no deletes.

    Another consumer may add or change rows after the answer, but neither delete nor bury any while
    the resource's lock is held.
    """
    row = connection.execute(
        sql.probe,
        {
            "count": len(puts),
            "keys": key_array(spec, puts),
            "versions": "{" + ",".join([command.id for command in puts]) + "}",
            "creates": "{" + ",".join([_IS_CREATE[command.op] for command in puts]) + "}",
        },
    ).fetchone()
    here, beaten, won, lost = row or (0, 0, None, None)
    contested = [puts[place] for place in won or ()]
    fresh = list(puts)
    if beaten + len(contested) == len(puts):
        fresh = []
    elif beaten or contested:
        met = {*(lost or ()), *(won or ())}
        fresh = [command for place, command in enumerate(puts) if place not in met]
    return Probed(fresh, contested, here, beaten - here)


def are_buried(
    connection: Connection, spec: ResourceSpec, sql: Statements, puts: Sequence[Command]
) -> bool:
    """Whether there is a tombstone for any of these keys; true as long as `probe`'s answer is."""
    row = connection.execute(sql.are_buried, {"keys": key_array(spec, puts)}).fetchone()
    return row is None or bool(row[0])


def key_array(spec: ResourceSpec, commands: Sequence[Command]) -> str | list[object]:
    """The commands' keys as an array parameter."""
    keys = [command.key for command in commands]
    if spec.key.kind is Kind.TEXT:  # which alone may need quotes
        return list(keys)
    return "{" + ",".join(map(str, keys)) + "}"


_IS_CREATE = {"create": "t", "put": "f"}
