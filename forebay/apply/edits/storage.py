"""Reads the states of keys with patches from the database, and writes the changed states.

A state is stored in a row or a tombstone, and in a row of `forebay.edits`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import psycopg

from forebay.apply.edits.state import Base, KeyState
from forebay.apply.rows.conflicts import find_conflicts
from forebay.apply.rows.encoding import Rows
from forebay.apply.rows.table import Table
from forebay.apply.rows.winners import replace_rows
from forebay.codec import decode, encode
from forebay.command import Body, Command, KeyValue
from forebay.db.arrays import write_array, write_plain_array
from forebay.db.copy_text import PIECE, copy_text, copy_texts
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.ids import is_create_id, is_orphaned, is_outdated, original_version
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: From a column's text to the JSON value that a body has; other kinds have texts.
_VALUE_READERS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: "true".__eq__,
    Kind.JSON: orjson.loads,
}


class _RowsLeftOutError(Exception):
    """Postgres left out rows of an UPDATE or a COPY without an error."""


def read_states(
    table: Table, keys: Sequence[KeyValue], field_names: Collection[str] = ()
) -> dict[KeyValue, KeyState]:
    """The states of keys that Postgres can store, with the values of some fields of their items.

    An absent key has an empty state.
    """
    fields = [field for field in table.spec.fields if field.name in field_names]
    states = {str(key): KeyState() for key in keys}
    values = {"keys": table.as_array(keys)}
    run = table.connection.execute
    for key, version in run(table.sql.read_tombstones, values).fetchall():
        states[key].base = Base(version, is_delete=True)
    for key, version, by_create, *texts in run(table.compose_rows_query(fields), values).fetchall():
        state = states[key]
        state.values = _read_values(fields, texts)
        if not is_outdated(version):  # the common case
            state.base = Base(version, is_create=by_create)
        elif is_orphaned(version):
            state.base = None
        else:
            base_id = original_version(version)
            is_marked = base_id != version  # not by a mark of earlier releases
            is_create = is_create_id(base_id) if is_marked else by_create
            state.base = Base(base_id, is_create=is_create, is_outdated=is_marked)
    for key, fields, kept, recent in run(table.sql.read_edits, values).fetchall():
        state = states[key]
        state.recent, state.is_recorded = recent, True
        # Without fields that the declaration no longer has (a replay sets their new names), and
        # without those of a row that is orphaned or was deleted.
        names = table.sql.field_names if state.has_item else ()
        state.fields = {n: id_ for n, id_ in orjson.loads(fields).items() if n in names}
        state.kept = {patch.id: patch for patch in map(decode, map(str.encode, kept))}
    return {key: states[str(key)] for key in keys}


def read_item_values(
    table: Table, states: Mapping[KeyValue, KeyState], keys: Sequence[KeyValue]
) -> None:
    """Add the values of these keys' items to their states."""
    by_text = {str(key): key for key in keys}
    values = {"keys": table.as_array(keys)}
    rows = table.connection.execute(table.compose_rows_query(table.spec.fields), values).fetchall()
    for text, _, _, *texts in rows:
        states[by_text[text]].values = _read_values(table.spec.fields, texts)


def write_states(table: Table, states: Mapping[KeyValue, KeyState]) -> dict[KeyValue, Refusal]:
    """Write the changed rows, tombstones and edits; return the refusals by key.

    A refused key is left unchanged.
    """
    replaced = [
        state.new_base._replace(body=None if state.new_base.body is None else state.values)
        for state in states.values()
        if state.new_base is not None
    ]
    refusals = list(replace_rows(table, replaced).refusals) if replaced else []
    refused = {refusal.command.key: refusal for refusal in refusals}
    by_fields: dict[frozenset[str], list[KeyValue]] = defaultdict(list)
    for key, state in states.items():
        if state.new_base is None and state.changed:
            by_fields[frozenset(state.changed)].append(key)
    for names, keys in by_fields.items():
        refused.update(_update(table, _Changes(sorted(names), keys, states)))
    write_edits(table, {key: state for key, state in states.items() if key not in refused})
    return refused


def _read_values(fields: Sequence[FieldSpec], texts: Sequence[str | None]) -> Body:
    """The JSON values of the columns' texts."""
    return {
        field.name: None if text is None else _VALUE_READERS.get(field.kind, str)(text)
        for field, text in zip(fields, texts, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Changes:
    """Rows of which the same fields are to be set."""

    names: Sequence[str]
    keys: Sequence[KeyValue]
    states: Mapping[KeyValue, KeyState]

    def without_keys(self, keys: Collection[KeyValue]) -> _Changes:
        """The changes of the other rows."""
        return replace(self, keys=[key for key in self.keys if key not in keys])

    def split_halves(self) -> Iterator[_Changes]:
        """Each half of the rows."""
        middle = len(self.keys) // 2
        yield replace(self, keys=self.keys[:middle])
        yield replace(self, keys=self.keys[middle:])

    def build_patch(self, key: KeyValue, spec: ResourceSpec) -> Command:
        """A patch that makes the row's changes, for a refusal."""
        state = self.states[key]
        body = {name: state.values[name] for name in self.names}
        command_id = max(state.fields[name] for name in self.names)
        return Command(command_id, "patch", spec.path, key, spec.schema_version, "", None, body)

    def build_columns(self, table: Table) -> Sequence[Sequence[object]]:
        """The changed columns.

        Raises:
            BodyError: a column can't hold a value.
        """
        bodies = [self.states[key].values for key in self.keys]
        return table.encoder.encode_columns(self.names, bodies)


def _update(table: Table, changes: _Changes) -> dict[KeyValue, Refusal]:
    """Set some fields of rows together; if that fails, set those of the rows that are not guilty.

    If the guilty rows can't be identified, each half is tried.
    """
    table.clear_stage()
    first, conflicts = changes.build_patch(changes.keys[0], table.spec), dict[KeyValue, Refusal]()
    refusal: Refusal | None = None
    try:
        with table.connection.transaction():
            _update_staged(table, changes)
    except BodyError as exc:
        refusal = Refusal.of_body(first, exc)
    except _RowsLeftOutError:
        if len(changes.keys) == 1:
            refusal = _explain_left_out(table, first)
    except psycopg.Error as exc:
        if not is_data_fault(exc) or needs_newer_code(exc, table.spec):
            raise
        refusal, conflicts = (
            Refusal.of_row(first, exc),
            _find_conflicting_changes(table, changes, exc),
        )
    else:
        return {}
    if len(changes.keys) == 1 and refusal is not None:
        return {changes.keys[0]: refusal}
    parts = [changes.without_keys(conflicts)] if conflicts else changes.split_halves()
    for part in parts:
        conflicts |= _update(table, part) if part.keys else {}
    return conflicts


def _find_conflicting_changes(
    table: Table, changes: _Changes, error: psycopg.Error
) -> dict[KeyValue, Refusal]:
    """The refusals of all rows that a constraint over the changed columns refuses."""
    columns = dict(zip(changes.names, changes.build_columns(table), strict=True))
    unknown = [None] * len(changes.keys)
    commands = [changes.build_patch(key, table.spec) for key in changes.keys]
    fields = [columns.get(field.name, unknown) for field in table.spec.fields]
    conflicts = find_conflicts(table, Rows(commands, [changes.keys, *fields]), error)
    return {refusal.command.key: refusal for refusal in conflicts.values()}


def _update_staged(table: Table, changes: _Changes) -> None:
    columns = [changes.keys, *changes.build_columns(table)]
    with table.connection.cursor() as cursor:
        with cursor.copy(table.compose_fields_copy(changes.names)) as copy:
            for text in copy_texts(columns):
                copy.write(text)
        if cursor.rowcount != len(changes.keys):
            raise _RowsLeftOutError
        cursor.execute(table.compose_fields_update(changes.names))
        if cursor.rowcount != len(changes.keys):
            raise _RowsLeftOutError


def _explain_left_out(table: Table, change: Command) -> Refusal:
    """The refusal of a change that Postgres has left out."""
    body = table.encoder.encode_fields(change.body or {})
    fields = [[body.get(field.name)] for field in table.spec.fields]
    return table.refuse_left_out(Rows([change], [[change.key], *fields]))[0]


def write_edits(table: Table, states: Mapping[KeyValue, KeyState]) -> None:
    """Write what the keys' states have in addition to rows and tombstones.

    While the resource is locked exclusively, only this transaction adds such rows.
    """
    recorded = [str(key) for key, state in states.items() if state.is_recorded]
    if recorded:
        table.connection.execute(table.sql.delete_edits, {"keys": recorded})
    for state in states.values():
        state.is_recorded = not state.is_plain
    edited = [(key, state) for key, state in states.items() if state.is_recorded]
    if not edited:
        return
    path = table.spec.path
    with table.connection.cursor() as cursor, cursor.copy(table.sql.copy_edits) as copy:
        # Postgres processes each piece while the next piece is made.
        for start in range(0, len(edited), PIECE):
            piece = edited[start : start + PIECE]
            rows = [(path, str(key), *_describe_edits(state)) for key, state in piece]
            copy.write(copy_text(list(zip(*rows, strict=True))))


def _describe_edits(state: KeyState) -> tuple[object, ...]:
    """The columns of `forebay.edits` after the key, as COPY reads them."""
    recent = write_plain_array(state.recent)
    if not state.kept:  # the common case
        return orjson.dumps(state.fields).decode(), "{}", recent, state.state_tag, 0, None
    waiting = state.list_waiting()
    kept = [encode(patch).decode().rstrip("\n") for patch in state.kept.values()]
    return (
        orjson.dumps(state.fields).decode(),
        write_array(kept),
        recent,
        state.state_tag if state.fields else None,
        len(waiting),
        waiting[0] if waiting else None,
    )
