"""Effects: the decisions that decided commands have passed.

The decision about a decided command is made once, when it is first applied. If the command passes,
its effect is recorded: the id under which it takes its place, and the sums of its increments. From
then on it is a plain command with that id and these sums (law 7).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import orjson
import psycopg

from forebay.command import Body, Command
from forebay.db.arrays import write_plain_array
from forebay.db.connect import Connection
from forebay.db.copy_text import PIECE, copy_text


class Effect(NamedTuple):
    """The effect of a decided command that passed."""

    id: str
    resource: str
    #: As text.
    key: str
    #: The command's own id, or a greater id if the item already had one.
    effective_id: str
    #: The body with the sums of its increments; None if the archived body has no increments.
    body: Body | None
    #: The schema version of that body.
    schema: int | None
    decided_at: dt.datetime

    @classmethod
    def from_archive(cls, members: Mapping[str, Any]) -> Self:
        """The effect in a line of the decision log."""
        return cls(
            members["id"],
            members["resource"],
            members["key"],
            members["effective_id"],
            members.get("body"),
            members.get("schema"),
            dt.datetime.fromisoformat(members["decided_at"]),
        )

    def to_archive(self) -> dict[str, Any]:
        """The effect's members in the decision log."""
        return {
            "id": self.id,
            "resource": self.resource,
            "key": self.key,
            "effective_id": self.effective_id,
            "body": self.body,
            "schema": self.schema,
            "decided_at": self.decided_at,
        }

    def apply_to(self, command: Command) -> Command:
        """The plain command that a decided command has become.

        A body with sums is of the schema version at the time of the decision, so the caller brings
        it up to date.
        """
        plain = command._replace(id=self.effective_id, condition=None)
        if self.body is None or self.schema is None:
            return plain
        return plain._replace(body=self.body, schema=self.schema)


def find_effects(connection: Connection, ids: Sequence[str]) -> dict[str, Effect]:
    """The effects of those commands that have passed, by id."""
    if not ids:
        return {}
    values = {"ids": write_plain_array(ids), "first": min(ids), "last": max(ids)}
    rows = connection.execute(_FIND, values).fetchall()
    return {effect.id: effect for effect in _read(rows)}


def find_effective_ids(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The effective ids of those commands that have passed, by id; bodies may be large."""
    rows = connection.execute(_FIND_IDS, [write_plain_array(ids)]).fetchall()
    return dict(rows)


def find_private_effects(connection: Connection, limit: int) -> list[Effect]:
    """Private effects: they are not in the decision log."""
    return _read(connection.execute(_FIND_PRIVATE, [limit]).fetchall())


def insert_effects(connection: Connection, effects: Sequence[Effect], slot: int | None) -> None:
    """Insert effects; an existing private effect is replaced.

    Args:
        connection: in a transaction.
        effects: each id once.
        slot: the number of their entry in the decision log; None for private decisions.
    """
    if not effects:
        return
    try:
        with connection.transaction():
            _copy(connection, effects, slot)
    except psycopg.errors.UniqueViolation:  # the database has some of them
        ids = [effect.id for effect in effects]
        connection.execute(_DELETE_PRIVATE, [write_plain_array(ids)])
        known_ids = find_effective_ids(connection, ids)
        _copy(connection, [effect for effect in effects if effect.id not in known_ids], slot)


def _copy(connection: Connection, effects: Sequence[Effect], slot: int | None) -> None:
    """Insert effects by COPY, which takes half as long as an INSERT of arrays."""
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        # Postgres processes each piece while the next piece is made.
        for start in range(0, len(effects), PIECE):
            piece = effects[start : start + PIECE]
            ids, resources, keys, effective_ids, bodies, schemas, times = zip(*piece, strict=True)
            texts = [None if body is None else orjson.dumps(body).decode() for body in bodies]
            isos = {time: time.isoformat() for time in set(times)}  # nearly always a single one
            decided_at = [isos[time] for time in times]
            slots = [slot] * len(piece)
            copy.write(
                copy_text([slots, ids, resources, keys, effective_ids, texts, schemas, decided_at])
            )


def _read(rows: Sequence[tuple[Any, ...]]) -> list[Effect]:
    return [
        Effect(id_, resource, key, effective_id, body and orjson.loads(body), schema, decided_at)
        for id_, resource, key, effective_id, body, schema, decided_at in rows
    ]


_SELECT = """
    SELECT id::text, resource, key, effective_id::text, body::text, schema, decided_at
    FROM forebay.effects
"""
# The common case: none in this range of ids. Then no id is looked up.
_FIND = f"""
    {_SELECT} WHERE id = ANY(%(ids)s::uuid[])
      AND EXISTS (SELECT FROM forebay.effects WHERE id BETWEEN %(first)s AND %(last)s)
"""
_FIND_IDS = "SELECT id::text, effective_id::text FROM forebay.effects WHERE id = ANY(%s::uuid[])"
_FIND_PRIVATE = f"{_SELECT} WHERE slot IS NULL ORDER BY id LIMIT %s"
_DELETE_PRIVATE = "DELETE FROM forebay.effects WHERE slot IS NULL AND id = ANY(%s::uuid[])"
_COPY = """
    COPY forebay.effects (slot, id, resource, key, effective_id, body, schema, decided_at)
    FROM STDIN
"""
