"""Finds the commands of one key in the archive, and what became of each in the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson
from psycopg import sql

from forebay.apply import BadLine
from forebay.apply.lines import read_chunks
from forebay.apply.upcast import upcast
from forebay.command import Command, KeyValue
from forebay.db.connect import Connection
from forebay.errors import BodyError
from forebay.ids import accepted_ms
from forebay.resource.reading import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from forebay.status import Traces, fate
from ops.archive.invalid import OF_OBJECTS, InvalidLine
from ops.archive.store import ObjectStore, StoredObject

Outcome = Literal["applied", "superseded", "rejected", "pending", "missing", "unknown"]


@dataclass(slots=True)
class Found:
    """A command, and every object that holds it."""

    command: Command
    objects: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the key's history."""

    command: Command
    objects: Sequence[str]
    outcome: Outcome
    #: Why, where that is known: a rejection's code and detail.
    reason: str | None = None

    @property
    def accepted_at(self) -> dt.datetime:
        """When it was accepted, as its id says."""
        return moment_of(self.command)


@dataclass(frozen=True, slots=True)
class Asked:
    """The server that outcomes come from, and how old its state is."""

    server: Literal["primary", "replica"]
    #: The time of the newest transaction in the state; None where a replica does not know it.
    state_at: dt.datetime | None

    @property
    def text(self) -> str:
        """For the operator."""
        if self.server == "primary":
            return f"outcomes by the primary, at {self.state_at:%F %T}Z"
        known = f"is of {self.state_at:%F %T}Z" if self.state_at else "is not known"
        return f"outcomes by a replica, whose newest transaction {known}"


@dataclass(frozen=True, slots=True)
class AsOf:
    """What a key was at a time: a row, deleted, or nothing yet."""

    state: Literal["row", "deleted", "absent"]
    #: The command that made it so.
    version: str | None = None
    by: str | None = None
    row: Mapping[str, Any] | None = None
    #: Ids of commands that were left out, because their bodies are no valid items: where such a
    #: one lost to a later command of its batch, nobody tried it and so nobody rejected it.
    left_out: Sequence[str] = ()


def moment_of(command: Command) -> dt.datetime:
    """When the command was accepted, as its id says."""
    return dt.datetime.fromtimestamp(accepted_ms(command.id) / 1000, dt.UTC)


def commands_of(
    store: ObjectStore,
    objects: Iterable[StoredObject],
    resource: str,
    key: KeyValue,
    *,
    on_object: Callable[[StoredObject], None] = lambda _: None,
    on_damage: Callable[[InvalidLine], None] = lambda _: None,
) -> list[Found]:
    """Every command of a key in those objects, each once, in the order of their ids.

    Args:
        store: the archive.
        objects: that are read, whole, one chunk in memory at a time.
        resource: its path.
        key: as the archive has it.
        on_object: told of each object once it has been read.
        on_damage: told of each object that can't be read from a line on: commands may be in it.

    Raises:
        TransientError: the archive did not answer.
    """
    found: dict[str, Found] = {}
    for stored in objects:
        if store.is_copy and not stored.size_bytes:
            on_damage(InvalidLine.of_empty(stored.key))
        for chunk in read_chunks(store.read(stored.key)):
            for entry in chunk:
                if isinstance(entry, BadLine):
                    if entry.code.startswith(OF_OBJECTS):
                        on_damage(InvalidLine.of(stored.key, entry))
                elif entry.resource == resource and entry.key == key:
                    holder = found.setdefault(entry.id, Found(entry))
                    if stored.key not in holder.objects:
                        holder.objects.append(stored.key)
        on_object(stored)
    return [found[command_id] for command_id in sorted(found)]


def with_outcomes(
    connection: Connection, spec: ResourceSpec, key: KeyValue, found: Sequence[Found]
) -> tuple[list[Entry], Asked]:
    """What became of each command, as one look at a database tells, and which server it was.

    `missing` is a command whose object the ledger calls applied and of which the tables show
    nothing: drift, which `forebay verify` looks into.

    A replica may be behind what the primary has applied. So where a replica shows nothing of a
    command, its outcome is `unknown`: only the primary can call it pending.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        asked = _asked(connection)
        traces = _traces(connection, spec, key)
        rejected = dict(_rejected(connection, [one.command.id for one in found]))
        applied = _applied(connection, {name for one in found for name in one.objects})
    entries = [_entry(one, traces, rejected, applied) for one in found]
    if asked.server == "replica":
        entries = [_unless_pending(entry) for entry in entries]
    return entries, asked


def needs_primary(entries: Sequence[Entry]) -> bool:
    """Whether only the primary can tell what became of a command."""
    return any(entry.outcome in {"unknown", "missing"} for entry in entries)


def as_of(entries: Sequence[Entry], spec: ResourceSpec, moment: dt.datetime) -> AsOf:
    """What law 2 makes of the commands that had been accepted by then and could apply.

    What could apply is known of rejected commands and of the one that the row shows now; of the
    others the declaration decides, as it is today.
    """
    best: Command | None = None
    left_out: list[str] = []
    for entry in entries:
        command = entry.command
        if entry.accepted_at > moment or entry.outcome == "rejected":
            continue
        if entry.outcome != "applied" and not _is_valid(command, spec):
            left_out.append(command.id)
        elif best is None or command.beats(best):
            best = command
    if best is None:
        return AsOf("absent", left_out=left_out)
    if best.body is None:
        return AsOf("deleted", best.id, best.by, left_out=left_out)
    return AsOf("row", best.id, best.by, _row(best, spec), left_out)


def _is_valid(command: Command, spec: ResourceSpec) -> bool:
    try:
        body = upcast(command, spec).body
        if body is not None:
            spec.body.read(orjson.dumps(body))
    except (BodyError, BodyInvalidError):
        return False
    return True


def _row(command: Command, spec: ResourceSpec) -> dict[str, Any]:
    """The row in JSON terms, under the current schema version."""
    body = upcast(command, spec).body or {}
    values = {column.name: body.get(column.name, column.default) for column in spec.fields}
    return {spec.key.name: command.key, **values}


def _entry(
    found: Found,
    traces: Traces,
    rejected: Mapping[str, str],
    applied: set[str],
) -> Entry:
    command = found.command
    if command.id in rejected:
        return Entry(command, found.objects, "rejected", rejected[command.id])
    outcome: Outcome = fate(command.id, traces)
    if outcome == "pending" and applied.intersection(found.objects):
        outcome = "missing"
    return Entry(command, found.objects, outcome)


def _unless_pending(entry: Entry) -> Entry:
    if entry.outcome != "pending":
        return entry
    return replace(entry, outcome="unknown", reason="the replica does not show it")


def _asked(connection: Connection) -> Asked:
    row = connection.execute(_ASKED).fetchone()
    assert row is not None  # noqa: S101 - a query of no table gives one row
    return Asked("replica" if row[0] else "primary", row[1])


def _traces(connection: Connection, spec: ResourceSpec, key: KeyValue) -> Traces:
    row = connection.execute(
        _ROW.format(table=sql.Identifier("public", spec.table), key=sql.Identifier(spec.key.name)),
        [key],
    ).fetchone()
    if row is not None:
        return Traces.of_columns(row[0], by_create=row[1])
    grave = connection.execute(_GRAVE, [spec.path, str(key)]).fetchone()
    return Traces(tombstone=grave[0] if grave else None)


def _rejected(connection: Connection, ids: Sequence[str]) -> Iterable[tuple[str, str]]:
    rows = connection.execute(_REJECTED, [list(ids)]).fetchall()
    return ((row[0], f"{row[1]}: {row[2]}") for row in rows)


def _applied(connection: Connection, objects: set[str]) -> set[str]:
    rows = connection.execute(_APPLIED, [sorted(objects)]).fetchall()
    return {row[0] for row in rows}


_ASKED = """
    SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery()
           THEN pg_last_xact_replay_timestamp() ELSE clock_timestamp() END
"""
_ROW = sql.SQL("SELECT _version::text, _by_create FROM {table} WHERE {key} = %s")
_GRAVE = "SELECT version::text FROM forebay.tombstones WHERE resource = %s AND key = %s"
_REJECTED = "SELECT id::text, code, detail FROM forebay.rejections WHERE id = ANY(%s::uuid[])"
_APPLIED = "SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL"
