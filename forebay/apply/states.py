"""Reads the states of keys from the database, and writes their rows of `forebay.edits`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from forebay.apply.edits import Base, KeyState
from forebay.apply.rows import copy_texts
from forebay.apply.statements import Table
from forebay.codec import decode, encode
from forebay.command import Body, KeyValue
from forebay.db.arrays import write_array, write_plain_array
from forebay.ids import is_create_id, is_orphaned, original_version
from forebay.resource.spec import Kind, ResourceSpec

#: From a column's text to the JSON value that a body has; other kinds have texts.
_VALUE_READERS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: "true".__eq__,
    Kind.JSON: orjson.loads,
}


def read_states(
    table: Table, keys: Sequence[KeyValue], *, with_values: bool = False
) -> dict[KeyValue, KeyState]:
    """The states of keys that Postgres can store, with or without the values of their items.

    An absent key has an empty state.
    """
    states = {str(key): KeyState() for key in keys}
    values = {"keys": table.as_array(keys)}
    run = table.connection.execute
    for key, version in run(table.sql.read_tombstones, values).fetchall():
        states[key].base = Base(version, is_delete=True)
    read_rows = table.sql.read_rows if with_values else table.sql.read_versions
    for key, version, by_create, *texts in run(read_rows, values).fetchall():
        if is_orphaned(version):
            states[key].base = None
            continue
        if texts:
            states[key].values = _read_values(table.spec, texts)
        base_id = original_version(version)
        is_outdated = base_id != version
        is_create = is_create_id(base_id) if is_outdated else by_create
        states[key].base = Base(base_id, is_create=is_create, is_outdated=is_outdated)
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
    for text, *texts in table.connection.execute(table.sql.read_values, values).fetchall():
        states[by_text[text]].values = _read_values(table.spec, texts)


def write_edits(table: Table, states: Mapping[KeyValue, KeyState]) -> None:
    """Write what the keys' states have beside rows and tombstones.

    While the resource is locked exclusively, only this transaction adds such rows.
    """
    recorded = [str(key) for key, state in states.items() if state.is_recorded]
    if recorded:
        table.connection.execute(table.sql.delete_edits, {"keys": recorded})
    rows = []
    for key, state in states.items():
        state.is_recorded = not state.is_plain
        if state.is_recorded:
            rows.append((table.spec.path, str(key), *_describe_edits(state)))
    if rows:
        columns = list(zip(*rows, strict=True))
        with table.connection.cursor() as cursor, cursor.copy(table.sql.copy_edits) as copy:
            for text in copy_texts(columns):
                copy.write(text)


def _read_values(spec: ResourceSpec, texts: Sequence[str | None]) -> Body:
    """The JSON values of the columns' texts."""
    return {
        field.name: None if text is None else _VALUE_READERS.get(field.kind, str)(text)
        for field, text in zip(spec.fields, texts, strict=True)
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
