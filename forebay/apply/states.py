"""Reads the states of keys from the database, and writes their rows of `forebay.edits`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from forebay.apply.edits import Base, KeyState
from forebay.apply.statements import Table
from forebay.codec import decode, encode
from forebay.command import Body, KeyValue
from forebay.db.arrays import write_array, write_plain_array
from forebay.db.copy_text import PIECE, copy_text
from forebay.ids import is_create_id, is_orphaned, is_outdated, original_version
from forebay.resource.spec import FieldSpec, Kind

#: From a column's text to the JSON value that a body has; other kinds have texts.
_VALUE_READERS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: "true".__eq__,
    Kind.JSON: orjson.loads,
}


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
    for key, version, by_create, *texts in run(table.read_rows(fields), values).fetchall():
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
    rows = table.connection.execute(table.read_rows(table.spec.fields), values).fetchall()
    for text, _, _, *texts in rows:
        states[by_text[text]].values = _read_values(table.spec.fields, texts)


def write_edits(table: Table, states: Mapping[KeyValue, KeyState]) -> None:
    """Write what the keys' states have beside rows and tombstones.

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


def _read_values(fields: Sequence[FieldSpec], texts: Sequence[str | None]) -> Body:
    """The JSON values of the columns' texts."""
    return {
        field.name: None if text is None else _VALUE_READERS.get(field.kind, str)(text)
        for field, text in zip(fields, texts, strict=True)
    }


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
