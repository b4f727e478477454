"""Turns commands into rows for COPY, checking what COPY could not say.

The driver writes the rows (`Copy.write_row`). What it refuses by itself would take the whole COPY
down with an error of its own, not of Postgres: so it must not get to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import orjson

from forebay.command import Body, Command
from forebay.errors import BodyError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: The key, the fields in declared order, then our columns; of a delete the fields are empty.
Row: TypeAlias = tuple[object, ...]
#: Commands that have no row, with the reason.
Unfit: TypeAlias = list[tuple[Command, BodyError]]

_PLAIN = frozenset({str, int, float, bool, type(None)})


class Encoded(NamedTuple):
    """A command, and its row for COPY."""

    command: Command
    row: Row


class Rows(NamedTuple):
    """What some commands come to as rows."""

    encoded: list[Encoded]
    #: Commands that have no row, with the reason.
    unfit: Unfit
    #: Whether a row may lack a value that its column should have.
    may_lack: bool


def rows_encoder(spec: ResourceSpec) -> Callable[[Sequence[Command]], Rows]:
    """A function from commands of that resource to their rows, and to those that have none.

    It does what `row_encoder` does for each, in a third of the time, by looking at whole columns:
    nearly always all values are well.
    """
    one = row_encoder(spec)
    values_of = _picker(spec)
    fields = len(spec.fields)
    required = [place for place, column in enumerate(spec.columns) if not column.nullable]

    def encode(commands: Sequence[Command]) -> Rows:
        rows = encode_well(commands)
        if rows is not None:
            return rows
        if len(commands) > _PIECE:
            pieces = range(0, len(commands), _PIECE)
            return _joined([encode(commands[start : start + _PIECE]) for start in pieces])
        return _one_by_one(one, commands)

    def encode_well(commands: Sequence[Command]) -> Rows | None:
        """None if one of them is not as it should be."""
        bodies = [command.body or {} for command in commands]
        if set(map(len, bodies)) != {fields}:
            return None
        try:
            values = list(map(values_of, bodies))
        except (KeyError, BodyError):
            return None
        made = [
            (command.key, *fields, command.id, command.op == "create")
            for command, fields in zip(commands, values, strict=True)
        ]
        kinds = _storable_kinds(made)
        if kinds is None:
            return None
        lacking = any(type(None) in kinds[place] for place in required)
        return Rows(list(map(_encoded_of, zip(commands, made, strict=True))), [], lacking)

    return encode


def unfit_keys(spec: ResourceSpec, commands: Sequence[Command]) -> Unfit:
    """Those of the commands whose keys no statement could even name."""
    if spec.key.kind is not Kind.TEXT or _is_storable("".join([str(c.key) for c in commands])):
        return []
    unfit: Unfit = []
    for command in commands:
        try:
            _scalar(spec.key.name, command.key)
        except BodyError as exc:
            unfit.append((command, exc))
    return unfit


# Commands looked at together after one of a larger lot was not as expected.
_PIECE = 20
#: A quarter of the time that calling `Encoded` takes.
_encoded_of: Callable[[tuple[Command, Row]], Encoded] = partial(tuple.__new__, Encoded)


def _one_by_one(one: Callable[[Command], Row], commands: Sequence[Command]) -> Rows:
    rows = Rows([], [], may_lack=True)
    for command in commands:
        try:
            rows.encoded.append(Encoded(command, one(command)))
        except BodyError as exc:
            rows.unfit.append((command, exc))
    return rows


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        [encoded for part in parts for encoded in part.encoded],
        [unfit for part in parts for unfit in part.unfit],
        any(part.may_lack for part in parts),
    )


def _picker(spec: ResourceSpec) -> Callable[[Body], Sequence[object]]:
    """A function from a body to its values in declared order; raises KeyError, BodyError."""
    names = [field.name for field in spec.fields]
    if len(names) == 1:  # of one name, itemgetter makes no tuple
        names *= 2
    pick: Callable[[Body], tuple[object, ...]] = itemgetter(*names)
    width = len(spec.fields)
    json_fields = [(i, f.name) for i, f in enumerate(spec.fields) if f.kind is Kind.JSON]
    if not json_fields and width > 1:
        return pick

    def values_of(body: Body) -> Sequence[object]:
        values = list(pick(body)[:width])
        for place, name in json_fields:
            values[place] = _json(name, values[place])
        return values

    return values_of


def _storable_kinds(rows: Sequence[Row]) -> list[set[type]] | None:
    """The types in each column, if the driver can write every value and Postgres read its text."""
    kinds: list[set[type]] = []
    for column in zip(*rows, strict=True):
        found = set(map(type, column))
        if not found <= _PLAIN:
            return None
        if str in found:
            texts = column if len(found) == 1 else [v for v in column if isinstance(v, str)]
            if not _is_storable("".join(texts)):
                return None
        kinds.append(found)
    return kinds


def _is_storable(text: str) -> bool:
    return "\x00" not in text and _is_encodable(text)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def row_encoder(spec: ResourceSpec) -> Callable[[Command], Row]:
    """A function from commands of that resource to rows for COPY.

    The function raises:
        BodyError: the body lacks a field, has an unknown one, or holds what its column can't.
    """
    names = [field.name for field in spec.fields]
    known = frozenset(names)
    json_names = frozenset(field.name for field in spec.fields if field.kind is Kind.JSON)
    defaults = {field.name: field for field in spec.fields}
    empty = (None,) * len(names)

    def encode(command: Command) -> Row:
        body = command.body
        key = _scalar(spec.key.name, command.key)
        if body is None:
            return (key, *empty, command.id, False)
        if len(body) != len(names) or not body.keys() <= known:
            body = _completed(body, known, defaults)
        values = [
            _json(name, body[name]) if name in json_names else _scalar(name, body[name])
            for name in names
        ]
        return (key, *values, command.id, command.op == "create")

    return encode


def bodies_completer(
    spec: ResourceSpec,
) -> Callable[[Sequence[Command]], tuple[list[Command], Unfit]]:
    """A function that gives commands of that resource the bodies that their rows hold.

    That is with every field; and it tells those commands that can have no row.
    """
    encode = rows_encoder(spec)
    complete = _completer(spec)

    def complete_all(commands: Sequence[Command]) -> tuple[list[Command], Unfit]:
        deletes = [command for command in commands if command.body is None]
        puts = [command for command in commands if command.body is not None]
        unfit = [*unfit_keys(spec, deletes), *encode(puts).unfit]
        without = {command.id for command, _ in unfit}
        return [complete(command) for command in commands if command.id not in without], unfit

    return complete_all


def _completer(spec: ResourceSpec) -> Callable[[Command], Command]:
    fields = {field.name: field for field in spec.fields}
    known = frozenset(fields)

    def complete(command: Command) -> Command:
        body = command.body
        if body is None or len(body) == len(known):
            return command
        return command._replace(body=_completed(body, known, fields))

    return complete


def _completed(body: Body, known: frozenset[str], fields: dict[str, FieldSpec]) -> Body:
    unknown = sorted(body.keys() - known)
    if unknown:
        raise BodyError("unknown_field", f"the resource has no field {', '.join(unknown)}")
    missing = sorted(name for name in known - body.keys() if fields[name].required)
    if missing:
        raise BodyError("missing_field", f"the body lacks {', '.join(missing)}")
    return {name: body.get(name, fields[name].default) for name in known}


def _scalar(name: str, value: object) -> object:
    if isinstance(value, str):
        _check_text(name, value)
    elif not (value is None or isinstance(value, int | float)):
        kind = "an object or array" if isinstance(value, dict | list) else type(value).__name__
        raise BodyError("wrong_type", f"{name} holds {kind}; the column can't")
    return value


def _check_text(name: str, text: str) -> None:
    if "\x00" in text:
        raise BodyError("unstorable_text", f"{name} holds NUL")
    if not _is_encodable(text):  # only an upcaster can have made it: no line holds such
        raise BodyError("unstorable_text", f"{name} holds half a surrogate pair")


def _json(name: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as exc:  # only an upcaster can have made such a value
        raise BodyError("wrong_type", f"{name} is no JSON: {exc}") from None
