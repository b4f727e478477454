"""Find the commands of one key in the archive, and their statuses in the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson
from psycopg import sql

from forebay.apply.edits.state import KeyState
from forebay.apply.prepare import upcast
from forebay.archive.layout import StoredObject
from forebay.archive.lines import InvalidLine, read_chunks
from forebay.codec import decode
from forebay.command import Command, KeyValue
from forebay.db.connect import Connection
from forebay.decided_commands import is_decided_command
from forebay.decisions.effects import Effect, find_effects
from forebay.errors import BodyError, InvalidLineError
from forebay.ids import accepted_ms
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from forebay.status import Patches, Traces, find_status
from ops.archive.invalid import OF_OBJECTS, LineFault
from ops.archive.store import ObjectStore

Status = Literal["applied", "superseded", "rejected", "pending", "missing", "unknown"]


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
    status: Status
    #: The reason for the status, if known: a rejection's code and detail.
    reason: str | None = None
    #: The effect of a decided command that has passed.
    effect: Effect | None = None
    #: The fields with values from a patch; of the item's put or create, the other
    #: fields. None if the item has no patches, or no value of this command.
    fields: Sequence[str] | None = None
    #: True of a patch that takes effect as soon as there is an item.
    waits: bool = False
    #: True of a command with a condition or an increment that has no decision.
    is_undecided: bool = False

    @property
    def accepted_at(self) -> dt.datetime:
        """The time of acceptance, from its id."""
        return get_acceptance_time(self.command)

    @property
    def plain(self) -> Command:
        """The command, or the plain command that a decided command became."""
        return self.command if self.effect is None else self.effect.apply_to(self.command)


@dataclass(frozen=True, slots=True)
class StatusSource:
    """The server that reported the statuses, and the age of its state."""

    server: Literal["primary", "replica"]
    #: The time of the newest transaction in the state; None if a replica does not know it.
    state_at: dt.datetime | None

    @property
    def text(self) -> str:
        """The same as text for the operator."""
        if self.server == "primary":
            return f"statuses from the primary, at {self.state_at:%F %T}Z"
        time = f"at {self.state_at:%F %T}Z" if self.state_at else "at an unknown time"
        return f"statuses from a replica, whose newest transaction was {time}"


@dataclass(frozen=True, slots=True)
class AsOf:
    """The state of a key at a time: a row, deleted, or absent."""

    state: Literal["row", "deleted", "absent"]
    #: The id of the command that made this state.
    version: str | None = None
    by: str | None = None
    row: Mapping[str, Any] | None = None
    #: By field, the ids of the patches that set the row's values.
    fields: Mapping[str, str] = field(default_factory=dict)
    #: Ids of the patches that waited for an item.
    waiting: Sequence[str] = ()
    #: Ids of commands that were ignored because their bodies are not valid items. Such a command is
    #: not rejected if it lost to a later command of its chunk, as it was never tried.
    left_out: Sequence[str] = ()


def get_acceptance_time(command: Command) -> dt.datetime:
    """Return the command's time of acceptance, from its id."""
    return dt.datetime.fromtimestamp(accepted_ms(command.id) / 1000, dt.UTC)


def find_commands(
    store: ObjectStore,
    objects: Iterable[StoredObject],
    resource: str,
    key: KeyValue,
    *,
    on_object: Callable[[StoredObject], None] = lambda _: None,
    on_damage: Callable[[LineFault], None] = lambda _: None,
) -> list[Found]:
    """Return every command of a key in those objects, once, in the order of ids.

    Args:
        store: the archive.
        objects: the objects to read, in full, with one chunk in memory at a time.
        resource: the resource's path.
        key: the key, as in the archive.
        on_object: called with each object after it was read.
        on_damage: called with each object that is unreadable from a line on: it may hold commands.

    Raises:
        TransientError: the archive did not answer.
    """
    by_id: dict[str, Found] = {}
    for archive_object in objects:
        if store.is_copy and not archive_object.size_bytes:
            on_damage(LineFault.of_empty(archive_object.key))
        for chunk in read_chunks(store.read(archive_object.key)):
            for entry in chunk:
                if isinstance(entry, InvalidLine):
                    if entry.code.startswith(OF_OBJECTS):
                        on_damage(LineFault.of(archive_object.key, entry))
                elif entry.resource == resource and entry.key == key:
                    holder = by_id.setdefault(entry.id, Found(entry))
                    if archive_object.key not in holder.objects:
                        holder.objects.append(archive_object.key)
        on_object(archive_object)
    return [by_id[command_id] for command_id in sorted(by_id)]


def read_statuses(
    connection: Connection, spec: ResourceSpec, key: KeyValue, found: Sequence[Found]
) -> tuple[list[Entry], StatusSource]:
    """Return the status of each command in one snapshot of a database, and the server.

    The status is `missing` if the ledger calls a command's object applied, but the tables have no
    trace of the command: this is drift, which `forebay verify` examines.

    A replica may lag. So if a replica has no trace of a command, the status is `unknown`: only the
    primary can report it as pending.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        source = _identify_server(connection)
        fields, kept, recent = _read_edits(connection, spec, key)
        patches = Patches(fields.values(), [patch.id for patch in kept], recent)
        traces = _read_traces(connection, spec, key, patches)
        ids = [occurrence.command.id for occurrence in found]
        rejected = dict(_read_rejections(connection, ids))
        effects = find_effects(connection, ids)
        applied = _find_applied(
            connection, {name for occurrence in found for name in occurrence.objects}
        )
    patched = _Patched(spec, traces, fields, kept, effects)
    entries = [_build_entry(occurrence, patched, rejected, applied) for occurrence in found]
    if source.server == "replica":
        entries = [_hide_pending(entry) for entry in entries]
    return entries, source


def needs_primary(entries: Sequence[Entry]) -> bool:
    """Return whether only the primary can report the status of a command."""
    return any(entry.status in {"unknown", "missing"} for entry in entries)


def find_state(entries: Sequence[Entry], spec: ResourceSpec, moment: dt.datetime) -> AsOf:
    """Return the state of a key by law 2, from the valid commands that were accepted until then.

    Rejected commands are known to be invalid, and the command of the current row to be valid; the
    others are validated against the current declaration. A decided command counts if it had passed,
    and from the time of its place on.
    """
    winner: Command | None = None
    patches: list[Command] = []
    invalid_ids: list[str] = []
    for entry in entries:
        command = entry.plain
        is_later = entry.accepted_at > moment or get_acceptance_time(command) > moment
        if is_later or entry.is_undecided or entry.status == "rejected":
            continue
        if entry.status != "applied" and not _is_valid(command, spec):
            invalid_ids.append(entry.command.id)
        elif command.op == "patch":
            patches.append(upcast(command, spec))
        elif winner is None or command.beats(winner):
            winner = command
    base = None if winner is None else _complete(winner, spec)
    state = KeyState.of_commands(base, patches)
    waiting = state.list_waiting()
    if base is None:
        return AsOf("absent", waiting=waiting, left_out=invalid_ids)
    if base.body is None:
        return AsOf("deleted", base.id, base.by, waiting=waiting, left_out=invalid_ids)
    row = {spec.key.name: base.key, **state.values}
    return AsOf("row", base.id, base.by, row, state.fields, waiting, invalid_ids)


def _is_valid(command: Command, spec: ResourceSpec) -> bool:
    try:
        body = upcast(command, spec).body
        if command.op == "patch":
            return not spec.body.check_fields(body or {})
        if body is not None:
            spec.body.validate(orjson.dumps(body))
    except (BodyError, BodyInvalidError):
        return False
    return True


def _complete(command: Command, spec: ResourceSpec) -> Command:
    """Return the command with the body of its row, in the current schema version."""
    body = upcast(command, spec).body
    if body is None:
        return command
    values = {column.name: body.get(column.name, column.default) for column in spec.fields}
    return command._replace(body=values)


@dataclass(frozen=True, slots=True)
class _Patched:
    """The state of a key in the tables."""

    spec: ResourceSpec
    traces: Traces
    #: By field, the id of the patch that set the item's value.
    fields: Mapping[str, str]
    #: Patches that are kept, each with the fields that it may still set.
    kept: Sequence[Command]
    effects: Mapping[str, Effect]

    def find_status(self, command: Command, place: str) -> Status:
        """Return the status of a command that has no rejection and takes this place."""
        if self.is_undecided(command):
            return "pending"
        status: Status = find_status(place, self.traces)
        if status == "pending" and command.op == "patch" and self._is_covered(command, place):
            return "superseded"
        return status

    def is_undecided(self, command: Command) -> bool:
        """Return whether a command needs a decision and has none."""
        if command.id in self.effects:
            return False
        try:
            current = upcast(command, self.spec)
            return is_decided_command(current.op, current.body, current.condition, self.spec)
        except BodyError:
            return command.condition is not None

    def list_fields(self, command: Command, place: str) -> list[str] | None:
        """Return the fields of a patched item that are from a command; None if there are none."""
        if not self.fields:
            return None
        if command.op == "patch":
            return sorted(name for name, id_ in self.fields.items() if id_ == place) or None
        if place != self.traces.base:
            return None
        return sorted({field.name for field in self.spec.fields} - self.fields.keys())

    def _is_covered(self, patch: Command, place: str) -> bool:
        """Return whether newer patches set all fields of a patch that is not kept itself."""
        if place in self.traces.patches.kept:
            return False
        try:
            names = (upcast(patch, self.spec).body or {}).keys()
        except BodyError:
            return False
        newer = {name for name, id_ in self.fields.items() if id_ > place}
        newer |= {name for kept in self.kept if kept.id > place for name in kept.body or {}}
        return names <= newer


def _build_entry(
    occurrence: Found, patched: _Patched, rejected: Mapping[str, str], applied: set[str]
) -> Entry:
    command = occurrence.command
    if command.id in rejected:
        return Entry(command, occurrence.objects, "rejected", rejected[command.id])
    effect = patched.effects.get(command.id)
    place = command.id if effect is None else effect.effective_id
    status = patched.find_status(command, place)
    waits = status == "pending" and place in patched.traces.patches.kept
    if status == "pending" and not waits and applied.intersection(occurrence.objects):
        status = "missing"
    return Entry(
        command,
        occurrence.objects,
        status,
        "it waits for an item" if waits else None,
        effect,
        patched.list_fields(command, place),
        waits,
        patched.is_undecided(command),
    )


def _hide_pending(entry: Entry) -> Entry:
    if entry.status != "pending" or entry.waits:
        return entry
    return replace(entry, status="unknown", reason="the replica has no trace of it")


def _identify_server(connection: Connection) -> StatusSource:
    row = connection.execute(_ASKED).fetchone()
    assert row is not None  # noqa: S101 - a query without a table returns one row
    return StatusSource("replica" if row[0] else "primary", row[1])


def _read_edits(
    connection: Connection, spec: ResourceSpec, key: KeyValue
) -> tuple[Mapping[str, str], Sequence[Command], Sequence[str]]:
    """Return the patches of a key: by field, those that are kept, and the ids without effect."""
    edits = connection.execute(_EDITS, [spec.path, str(key)]).fetchone()
    fields, lines, recent = edits if edits is not None else ({}, [], [])
    return fields, list(_decode_kept(lines, spec)), recent


def _read_traces(
    connection: Connection, spec: ResourceSpec, key: KeyValue, patches: Patches
) -> Traces:
    row = connection.execute(
        _ROW.format(table=sql.Identifier("public", spec.table), key=sql.Identifier(spec.key.name)),
        [key],
    ).fetchone()
    if row is not None:
        return Traces.of_columns(row[0], by_create=row[1], patches=patches)
    tombstone = connection.execute(_GRAVE, [spec.path, str(key)]).fetchone()
    return Traces(tombstone=tombstone[0] if tombstone else None, patches=patches)


def _decode_kept(lines: Sequence[str], spec: ResourceSpec) -> Iterator[Command]:
    for line in lines:
        with suppress(InvalidLineError, BodyError):  # `forebay verify` reports such a line
            yield upcast(decode(line.encode()), spec)


def _read_rejections(connection: Connection, ids: Sequence[str]) -> Iterable[tuple[str, str]]:
    rows = connection.execute(_REJECTED, [list(ids)]).fetchall()
    return ((row[0], f"{row[1]}: {row[2]}") for row in rows)


def _find_applied(connection: Connection, objects: set[str]) -> set[str]:
    rows = connection.execute(_APPLIED, [sorted(objects)]).fetchall()
    return {row[0] for row in rows}


_ASKED = """
    SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery()
           THEN pg_last_xact_replay_timestamp() ELSE clock_timestamp() END
"""
_ROW = sql.SQL("SELECT _version::text, _by_create FROM {table} WHERE {key} = %s")
_EDITS = """
    SELECT fields, kept, recent::text[] FROM forebay.edits WHERE resource = %s AND key = %s
"""
_GRAVE = "SELECT version::text FROM forebay.tombstones WHERE resource = %s AND key = %s"
_REJECTED = "SELECT id::text, code, detail FROM forebay.rejections WHERE id = ANY(%s::uuid[])"
_APPLIED = "SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL"
