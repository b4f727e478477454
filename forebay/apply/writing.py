"""Writes the states of keys with patches: rows, single columns, tombstones and `forebay.edits`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg

from forebay.apply.conflicts import find_conflicts
from forebay.apply.edits import KeyState
from forebay.apply.rows import Rows
from forebay.apply.statements import Table
from forebay.apply.states import write_edits
from forebay.apply.table import replace_rows
from forebay.command import Command, KeyValue
from forebay.db.copy_text import copy_texts
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec


class _LeftOutError(Exception):
    """Postgres left out rows of an UPDATE or a COPY without an error."""


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


@dataclass(frozen=True, slots=True)
class _Changes:
    """Rows of which the same fields are to be set."""

    names: Sequence[str]
    keys: Sequence[KeyValue]
    states: Mapping[KeyValue, KeyState]

    def without(self, keys: Collection[KeyValue]) -> _Changes:
        """The changes of the other rows."""
        return replace(self, keys=[key for key in self.keys if key not in keys])

    def halves(self) -> Iterator[_Changes]:
        """Each half of the rows."""
        middle = len(self.keys) // 2
        yield replace(self, keys=self.keys[:middle])
        yield replace(self, keys=self.keys[middle:])

    def describe(self, key: KeyValue, spec: ResourceSpec) -> Command:
        """A patch that makes the row's changes, for a refusal."""
        state = self.states[key]
        body = {name: state.values[name] for name in self.names}
        command_id = max(state.fields[name] for name in self.names)
        return Command(command_id, "patch", spec.path, key, spec.schema_version, "", None, body)

    def encode(self, table: Table) -> Sequence[Sequence[object]]:
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
    first, conflicts = changes.describe(changes.keys[0], table.spec), dict[KeyValue, Refusal]()
    refusal: Refusal | None = None
    try:
        with table.connection.transaction():
            _update_staged(table, changes)
    except BodyError as exc:
        refusal = Refusal.of_body(first, exc)
    except _LeftOutError:
        if len(changes.keys) == 1:
            refusal = _explain_left_out(table, first)
    except psycopg.Error as exc:
        if not is_data_fault(exc) or needs_newer_code(exc, table.spec):
            raise
        refusal, conflicts = Refusal.of_row(first, exc), _find_conflicts(table, changes, exc)
    else:
        return {}
    if len(changes.keys) == 1 and refusal is not None:
        return {changes.keys[0]: refusal}
    parts = [changes.without(conflicts)] if conflicts else changes.halves()
    for part in parts:
        conflicts |= _update(table, part) if part.keys else {}
    return conflicts


def _find_conflicts(
    table: Table, changes: _Changes, error: psycopg.Error
) -> dict[KeyValue, Refusal]:
    """The refusals of all rows that a constraint over the changed columns refuses."""
    columns = dict(zip(changes.names, changes.encode(table), strict=True))
    unknown = [None] * len(changes.keys)
    commands = [changes.describe(key, table.spec) for key in changes.keys]
    fields = [columns.get(field.name, unknown) for field in table.spec.fields]
    conflicts = find_conflicts(table, Rows(commands, [changes.keys, *fields]), error)
    return {refusal.command.key: refusal for refusal in conflicts.values()}


def _update_staged(table: Table, changes: _Changes) -> None:
    columns = [changes.keys, *changes.encode(table)]
    with table.connection.cursor() as cursor:
        with cursor.copy(table.copy_fields(changes.names)) as copy:
            for text in copy_texts(columns):
                copy.write(text)
        if cursor.rowcount != len(changes.keys):
            raise _LeftOutError
        cursor.execute(table.update_fields(changes.names))
        if cursor.rowcount != len(changes.keys):
            raise _LeftOutError


def _explain_left_out(table: Table, change: Command) -> Refusal:
    """The refusal of a change that Postgres has left out."""
    body = table.encoder.encode_fields(change.body or {})
    fields = [[body.get(field.name)] for field in table.spec.fields]
    return table.refuse_unread(Rows([change], [[change.key], *fields]))[0]
