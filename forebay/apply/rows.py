"""Turns commands into rows for COPY, and finds commands that can't have a row.

A value that can't be written as text (`copytext`), or a text that Postgres can't store, would fail
the whole COPY with an error that names no row. So such values are found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import filterfalse, groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import orjson

from forebay.apply.rowset import Encoded, Row, RowSet
from forebay.command import Body, Command
from forebay.errors import BodyError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: Commands that have no row, with the reason.
Unfit: TypeAlias = list[tuple[Command, BodyError]]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_TOO_LARGE = 10**4_000


class Rows(NamedTuple):
    """The rows of some commands."""

    whole: list[RowSet]
    #: Rows without a value that the declaration requires; the table decides whether to accept them.
    lacking: list[Encoded]
    #: Commands that have no row, with the reason.
    unfit: Unfit

    @property
    def parts(self) -> list[RowSet]:
        """All rows, with the lacking rows after the others."""
        return [*self.whole, RowSet.of(self.lacking)] if self.lacking else self.whole


class RowsEncoder:
    """Makes rows of one resource's commands, and finds commands that can't have a row.

    Gives the same rows as `row_encoder`, in a third of the time, because it checks whole columns:
    nearly always all values are valid.
    """

    def __init__(self, spec: ResourceSpec) -> None:
        self._one = row_encoder(spec)
        self._values_of = _build_picker(spec)
        self._names = frozenset(field.name for field in spec.fields)
        self._required = [i for i, column in enumerate(spec.columns) if not column.nullable]
        # itemgetter with a single place would return no tuple.
        self._values_required = itemgetter(*self._required, self._required[0])

    def __call__(self, commands: Sequence[Command]) -> Rows:
        """The rows, each list in the order of the commands."""
        rows = self._encode_complete(commands)
        if rows is not None:
            return rows
        runs = groupby(commands, self._is_named)
        return _join_rows(
            [
                rows
                for is_named, run in runs
                for rows in self._encode_run(list(run), is_named=is_named)
            ]
        )

    def _is_named(self, command: Command) -> bool:
        """Return whether the body has exactly the declared fields."""
        return command.body is not None and command.body.keys() == self._names

    def _encode_run(self, commands: Sequence[Command], *, is_named: bool) -> Iterator[Rows]:
        rows = self._encode_complete(commands) if is_named else None
        if rows is not None:
            yield rows
        elif is_named and len(commands) > _PIECE:
            for start in range(0, len(commands), _PIECE):
                yield from self._encode_run(commands[start : start + _PIECE], is_named=True)
        else:
            yield self._encode_each(commands)

    def _encode_complete(self, commands: Sequence[Command]) -> Rows | None:
        """The rows; None unless all commands are complete and their values can be stored."""
        bodies = [command.body or {} for command in commands]
        if set(map(len, bodies)) != {len(self._names)}:
            return None
        try:
            fields = list(zip(*map(self._values_of, bodies), strict=True))
        except (KeyError, BodyError):
            return None
        keys: list[object] = [command.key for command in commands]
        ids = [command.id for command in commands]
        creates = [command.op == "create" for command in commands]
        columns = [keys, *fields, ids, creates]
        kinds = _read_kinds(columns)
        if kinds is None:
            return None
        row_set = RowSet(commands, columns)
        incomplete_columns = [
            columns[column] for column in self._required if type(None) in kinds[column]
        ]
        if not incomplete_columns:
            return Rows([row_set], [], [])
        incomplete_places = {
            place
            for column in incomplete_columns
            for place, value in enumerate(column)
            if value is None
        }
        return Rows(
            [row_set.without(incomplete_places)],
            [row_set.at(place) for place in sorted(incomplete_places)],
            [],
        )

    def _encode_each(self, commands: Sequence[Command]) -> Rows:
        encoded: list[Encoded] = []
        unfit: Unfit = []
        for command in commands:
            try:
                encoded.append(Encoded(command, self._one(command)))
            except BodyError as exc:
                unfit.append((command, exc))
        complete = RowSet.of(list(filterfalse(self._lacks_value, encoded)))
        return Rows([complete], list(filter(self._lacks_value, encoded)), unfit)

    def _lacks_value(self, item: Encoded) -> bool:
        return None in self._values_required(item.row)


def unfit_keys(spec: ResourceSpec, commands: Sequence[Command]) -> Unfit:
    """The commands whose keys Postgres can't store, so that no statement can contain them."""
    if spec.key.kind is not Kind.TEXT or _is_storable("".join([str(c.key) for c in commands])):
        return []
    unfit: Unfit = []
    for command in commands:
        try:
            _encode_scalar(spec.key.name, command.key)
        except BodyError as exc:
            unfit.append((command, exc))
    return unfit


# Commands encoded together after a larger group failed.
_PIECE = 20


def _join_rows(parts: Sequence[Rows]) -> Rows:
    return Rows(
        [rows for part in parts for rows in part.whole],
        [encoded for part in parts for encoded in part.lacking],
        [unfit for part in parts for unfit in part.unfit],
    )


def _build_picker(spec: ResourceSpec) -> Callable[[Body], Sequence[object]]:
    """A function from a body to its values in declared order; raises KeyError, BodyError."""
    names = [field.name for field in spec.fields]
    if len(names) == 1:  # itemgetter with a single name would return no tuple
        names *= 2
    pick: Callable[[Body], tuple[object, ...]] = itemgetter(*names)
    width = len(spec.fields)
    json_fields = [(i, f.name) for i, f in enumerate(spec.fields) if f.kind is Kind.JSON]
    if not json_fields and width > 1:
        return pick

    def values_of(body: Body) -> Sequence[object]:
        values = list(pick(body)[:width])
        for place, name in json_fields:
            values[place] = _encode_json(name, values[place])
        return values

    return values_of


def _read_kinds(columns: Sequence[Sequence[Any]]) -> list[set[type]] | None:
    """The types in each column; None unless every value can be written and Postgres can read it."""
    kinds: list[set[type]] = []
    for column in columns:
        types = set(map(type, column))
        if not types <= _PLAIN:
            return None
        if str in types:
            texts = column if len(types) == 1 else [v for v in column if isinstance(v, str)]
            if not _is_storable("".join(texts)):
                return None
        if int in types:
            numbers = column if len(types) == 1 else [v for v in column if type(v) is int]
            if not _is_writable(min(numbers), max(numbers)):
                return None
        kinds.append(types)
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
        BodyError: the body lacks a field, has an unknown field, or a value that its column can't
            hold.
    """
    names = [field.name for field in spec.fields]
    known_names = frozenset(names)
    json_names = frozenset(field.name for field in spec.fields if field.kind is Kind.JSON)
    defaults = {field.name: field for field in spec.fields}
    empty = (None,) * len(names)

    def encode(command: Command) -> Row:
        body = command.body
        key = _encode_scalar(spec.key.name, command.key)
        if body is None:
            return (key, *empty, command.id, False)
        if len(body) != len(names) or not body.keys() <= known_names:
            body = _complete_body(body, known_names, defaults)
        values = [
            _encode_json(name, body[name])
            if name in json_names
            else _encode_scalar(name, body[name])
            for name in names
        ]
        return (key, *values, command.id, command.op == "create")

    return encode


def bodies_completer(
    spec: ResourceSpec,
) -> Callable[[Sequence[Command]], tuple[list[Command], Rows]]:
    """A function that completes commands' bodies with defaults, as their rows have them.

    It returns the commands and the rows of the puts and creates, and leaves out commands that can't
    have a row.
    """
    encode = RowsEncoder(spec)
    complete = _build_completer(spec)

    def complete_all(commands: Sequence[Command]) -> tuple[list[Command], Rows]:
        deletes = [command for command in commands if command.body is None]
        puts = [command for command in commands if command.body is not None]
        rows = encode(puts)
        rows.unfit.extend(unfit_keys(spec, deletes))
        without = {command.id for command, _ in rows.unfit}
        return [complete(command) for command in commands if command.id not in without], rows

    return complete_all


def _build_completer(spec: ResourceSpec) -> Callable[[Command], Command]:
    fields = {field.name: field for field in spec.fields}
    known_names = frozenset(fields)

    def complete(command: Command) -> Command:
        body = command.body
        if body is None or len(body) == len(known_names):
            return command
        return command._replace(body=_complete_body(body, known_names, fields))

    return complete


def _complete_body(body: Body, known_names: frozenset[str], fields: dict[str, FieldSpec]) -> Body:
    unknown = sorted(body.keys() - known_names)
    if unknown:
        raise BodyError("unknown_field", f"the resource has no field {', '.join(unknown)}")
    missing = sorted(name for name in known_names - body.keys() if _is_demanded(fields[name]))
    if missing:
        raise BodyError("missing_field", f"the body lacks {', '.join(missing)}")
    return {name: body.get(name, fields[name].default) for name in known_names}


def _is_demanded(field: FieldSpec) -> bool:
    """Return whether a body of an older release must have the field.

    If the column is nullable, the migration that added it has left null in older rows.
    """
    return field.required and not field.nullable


def _encode_scalar(name: str, value: object) -> object:
    """The value as a plain type: upcasters may return subclasses, such as enumeration members."""
    if isinstance(value, str):
        _check_text(name, value)
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not _is_writable(int(value)):
            raise BodyError("wrong_type", f"{name} holds an integer of thousands of digits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    kind = "an object or array" if isinstance(value, dict | list) else type(value).__name__
    raise BodyError("wrong_type", f"{name} holds {kind}; the column can't")


def _is_writable(*integers: int) -> bool:
    """Return whether Python can write them as text (`sys.set_int_max_str_digits`)."""
    return all(-_TOO_LARGE < integer < _TOO_LARGE for integer in integers)


def _check_text(name: str, text: str) -> None:
    if "\x00" in text:
        raise BodyError("unstorable_text", f"{name} holds NUL")
    if not _is_encodable(text):  # made by an upcaster: a decoded line has no lone surrogates
        raise BodyError("unstorable_text", f"{name} holds half a surrogate pair")


def _encode_json(name: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as exc:  # made by an upcaster: decoded values are valid JSON
        raise BodyError("wrong_type", f"{name} is no JSON: {exc}") from None
