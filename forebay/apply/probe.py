"""Compares commands with a table by keys and ids, before their bodies are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.apply.statements import Statements
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.resource.spec import Kind, ResourceSpec


@dataclass(frozen=True, slots=True)
class Probed:
    """Puts and creates, classified by the contents of the table at their keys."""

    #: The key has neither a row nor a tombstone.
    fresh: list[Command]
    #: The key has a row or a tombstone that the command beats.
    contested: list[Command]
    #: The number of commands that the table has already, by their ids.
    here: int
    #: The number of other commands that lose to a row or a tombstone.
    beaten: int


def probe(
    connection: Connection, spec: ResourceSpec, sql: Statements, puts: Sequence[Command]
) -> Probed:
    """Compare puts and creates with the table's rows and tombstones at their keys.

    While the resource's lock is held, other consumers may add or change rows after the query, but
    neither delete nor bury any.
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
    duplicates, beaten, winning_places, losing_places = row or (0, 0, None, None)
    contested = [puts[place] for place in winning_places or ()]
    fresh = list(puts)
    if beaten + len(contested) == len(puts):
        fresh = []
    elif beaten or contested:
        met_places = {*(losing_places or ()), *(winning_places or ())}
        fresh = [command for place, command in enumerate(puts) if place not in met_places]
    return Probed(fresh, contested, duplicates, beaten - duplicates)


def are_buried(
    connection: Connection, spec: ResourceSpec, sql: Statements, puts: Sequence[Command]
) -> bool:
    """Return whether any key has a tombstone; valid while the resource's lock is held."""
    row = connection.execute(sql.are_buried, {"keys": key_array(spec, puts)}).fetchone()
    return row is None or bool(row[0])


def key_array(spec: ResourceSpec, commands: Sequence[Command]) -> str | list[object]:
    """The commands' keys as an array parameter."""
    keys = [command.key for command in commands]
    if spec.key.kind is Kind.TEXT:  # may need quotes, which the driver adds to a list's values
        return list(keys)
    return "{" + ",".join(map(str, keys)) + "}"


_IS_CREATE = {"create": "t", "put": "f"}
