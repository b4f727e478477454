"""Encodes commands as rows for COPY, by column, and finds commands that can't have a row.

A value that can't be written as text, or a text that Postgres can't store, would fail the whole
COPY with an error that names no row. So such values are found here. The text format: PostgreSQL
documentation of COPY, "Text Format".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import orjson

from forebay.command import Body, Command
from forebay.db.copy_text import PIECE
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: The key, the fields in declared order, then `_version` and `_by_create`.
#: Fields of deletes are None.
Row: TypeAlias = tuple[object, ...]

# Commands encoded together after a larger group failed.
_SMALL_PIECE = 20
_PLAIN = frozenset({str, int, float, bool, type(None)})
_TOO_LARGE = 10**4_000  # Python can't write much larger integers (`sys.set_int_max_str_digits`)


@dataclass(frozen=True, slots=True)
class Rows:
    """Commands and their rows, stored by column: most rows are never accessed individually."""

    commands: Sequence[Command] = ()
    #: A sequence per column of the table, each with a value per command.
    columns: Sequence[Sequence[object]] = ()

    @classmethod
    def joined(cls, parts: Iterable[Rows]) -> Rows:
        """All rows of the parts, in their order."""
        filled = [rows for rows in parts if rows.commands]
        if len(filled) == 1:
            return filled[0]
        return cls(
            [command for rows in filled for command in rows.commands],
            [
                [value for column in columns for value in column]
                for columns in zip(*[rows.columns for rows in filled], strict=True)
            ],
        )

    def __len__(self) -> int:
        return len(self.commands)

    def at(self, places: Iterable[int]) -> Rows:
        """The rows at these places."""
        places = list(places)
        return Rows(
            [self.commands[place] for place in places],
            [[column[place] for place in places] for column in self.columns],
        )

    def without(self, places: Collection[int]) -> Rows:
        """The rows at all other places."""
        is_kept = [place not in places for place in range(len(self))]
        return Rows(
            list(compress(self.commands, is_kept)),
            [list(compress(column, is_kept)) for column in self.columns],
        )

    def part(self, start: int, stop: int | None = None) -> Rows:
        """The rows from `start` to before `stop`, or to the end."""
        places = slice(start, stop)
        return Rows(self.commands[places], [column[places] for column in self.columns])


class RowStream:
    """Rows to be sent together: encoded in pieces while earlier pieces are sent, and kept."""

    def __init__(self, pieces: Iterable[Rows]) -> None:
        self._remaining = iter(pieces)
        #: The pieces that were iterated over.
        self.sent_pieces: list[Rows] = []

    def __iter__(self) -> Iterator[Rows]:
        """Yield the pieces that are not in `sent_pieces` yet."""
        for rows in self._remaining:
            self.sent_pieces.append(rows)
            yield rows

    def collect(self) -> Rows:
        """All rows, the sent rows included."""
        for _ in self:
            pass
        return Rows.joined(self.sent_pieces)


class Encoded(NamedTuple):
    """Encoded commands."""

    complete: Rows
    #: Rows without a value that the declaration requires; the table decides whether to accept them.
    incomplete: Rows = Rows()
    refusals: Sequence[Refusal] = ()

    @property
    def rows(self) -> Rows:
        """All rows, with the incomplete rows after the others."""
        return Rows.joined([self.complete, self.incomplete]) if self.incomplete else self.complete


class Encoder:
    """Makes rows of one resource's commands, and finds commands that can't have a row."""

    def __init__(self, spec: ResourceSpec) -> None:
        self._key = spec.key
        self._fields = {field.name: field for field in spec.fields}
        self._names = self._fields.keys()
        self._json_names = frozenset(f.name for f in spec.fields if f.kind is Kind.JSON)
        self._pick_values = _build_picker(spec)
        self._required = [i for i, column in enumerate(spec.columns) if not column.nullable]

    def stream(
        self,
        commands: Sequence[Command],
        refusals: list[Refusal],
        incomplete: list[Rows] | None = None,
    ) -> RowStream:
        """The rows of commands, each piece encoded while Postgres processes the piece before.

        Args:
            commands: to be encoded.
            refusals: the refusals of commands that can't have a row are added here.
            incomplete: incomplete rows are added here; without it, they are among the others.
        """

        def encode_pieces() -> Iterator[Rows]:
            for start in range(0, len(commands), PIECE):
                encoded = self.encode(commands[start : start + PIECE])
                refusals.extend(encoded.refusals)
                if incomplete is None:
                    yield encoded.rows
                    continue
                if encoded.incomplete:
                    incomplete.append(encoded.incomplete)
                yield encoded.complete

        return RowStream(encode_pieces())

    def encode(self, commands: Sequence[Command]) -> Encoded:
        """Encode commands; each part of the result is in their order.

        Nearly always, all bodies are complete and all values valid. So whole columns are checked,
        which takes a third of the time of `encode_row`. If a check fails, smaller groups are tried.
        """
        encoded = self._encode_together(commands)
        if encoded is not None:
            return encoded
        if len(commands) <= _SMALL_PIECE or not any(map(self._is_complete, commands)):
            return self._encode_each(commands)
        size = max(_SMALL_PIECE, len(commands) // 5)
        parts = [
            self.encode(commands[start : start + size]) for start in range(0, len(commands), size)
        ]
        return Encoded(
            Rows.joined([part.complete for part in parts]),
            Rows.joined([part.incomplete for part in parts]),
            [refusal for part in parts for refusal in part.refusals],
        )

    def encode_row(self, command: Command) -> Row:
        """The row of a command.

        Raises:
            BodyError: the body lacks a field, has an unknown field, or a value that its column
                can't hold.
        """
        key = _encode_scalar(self._key.name, command.key)
        if command.body is None:
            return (key, *[None] * len(self._fields), command.id, False)
        body, json_names = self.complete_body(command.body), self._json_names
        values = [
            _encode_json(name, body[name])
            if name in json_names
            else _encode_scalar(name, body[name])
            for name in self._names
        ]
        return (key, *values, command.id, command.op == "create")

    def complete_body(self, body: Body) -> Body:
        """The body with the defaults of the fields that it lacks.

        Raises:
            BodyError: the body lacks a required field, or has an unknown field.
        """
        if len(body) == len(self._names) and body.keys() <= self._names:
            return body
        unknown = sorted(body.keys() - self._names)
        if unknown:
            raise BodyError("unknown_field", f"the resource has no field {', '.join(unknown)}")
        missing = [name for name in self._names - body.keys() if _is_demanded(self._fields[name])]
        if missing:
            raise BodyError("missing_field", f"the body lacks {', '.join(sorted(missing))}")
        return {name: body.get(name, field.default) for name, field in self._fields.items()}

    def encode_fields(self, body: Body) -> dict[str, object]:
        """The columns' values of some fields.

        Raises:
            BodyError: the resource lacks a field, or its column can't hold the value.
        """
        unknown = sorted(body.keys() - self._names)
        if unknown:
            raise BodyError("unknown_field", f"the resource has no field {', '.join(unknown)}")
        return {
            name: _encode_json(name, value)
            if name in self._json_names
            else _encode_scalar(name, value)
            for name, value in body.items()
        }

    def encode_columns(
        self, names: Sequence[str], bodies: Sequence[Body]
    ) -> Sequence[Sequence[object]]:
        """The values of some fields in several bodies, by column.

        Raises:
            BodyError: the resource lacks a field, or a column can't hold a value.
        """
        if self._json_names.isdisjoint(names) and self._names >= set(names):
            columns = [[body[name] for body in bodies] for name in names]
            if _read_kinds(columns) is not None:
                return columns
        encoded = [self.encode_fields({name: body[name] for name in names}) for body in bodies]
        return [[values[name] for values in encoded] for name in names]

    def _is_complete(self, command: Command) -> bool:
        """Return whether the body has exactly the declared fields."""
        return command.body is not None and command.body.keys() == self._names

    def _encode_together(self, commands: Sequence[Command]) -> Encoded | None:
        """The rows; None unless all bodies are complete and their values can be stored."""
        bodies = [command.body or {} for command in commands]
        if set(map(len, bodies)) != {len(self._names)}:
            return None
        try:
            fields = list(zip(*map(self._pick_values, bodies), strict=True))
        except (KeyError, BodyError):
            return None
        keys: list[object] = [command.key for command in commands]
        ids = [command.id for command in commands]
        creates = [command.op == "create" for command in commands]
        columns = [keys, *fields, ids, creates]
        kinds = _read_kinds(columns)
        if kinds is None:
            return None
        nulls = [place for place in self._required if type(None) in kinds[place]]
        return self._separate(Rows(commands, columns), nulls)

    def _encode_each(self, commands: Sequence[Command]) -> Encoded:
        encoded: list[Command] = []
        rows: list[Row] = []
        refusals: list[Refusal] = []
        for command in commands:
            try:
                rows.append(self.encode_row(command))
                encoded.append(command)
            except BodyError as exc:
                refusals.append(Refusal.of_body(command, exc))
        complete, incomplete, _ = self._separate(
            Rows(encoded, list(zip(*rows, strict=True))), self._required if rows else ()
        )
        return Encoded(complete, incomplete, refusals)

    def _separate(self, rows: Rows, nulls: Collection[int]) -> Encoded:
        """Separate the rows that lack a value in one of these columns."""
        places = {
            place
            for column in nulls
            for place, value in enumerate(rows.columns[column])
            if value is None
        }
        if not places:
            return Encoded(rows)
        return Encoded(rows.without(places), rows.at(sorted(places)))


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

    def pick_values(body: Body) -> Sequence[object]:
        values = list(pick(body)[:width])
        for place, name in json_fields:
            values[place] = _encode_json(name, values[place])
        return values

    return pick_values


def _read_kinds(columns: Sequence[Sequence[Any]]) -> list[set[type]] | None:
    """The types in each column; None unless every value can be written and Postgres can read it."""
    kinds: list[set[type]] = []
    for column in columns:
        types = set(map(type, column))
        if not types <= _PLAIN:
            return None
        if str in types:
            texts = column if len(types) == 1 else [v for v in column if isinstance(v, str)]
            if not are_storable(texts):
                return None
        if int in types:
            numbers = column if len(types) == 1 else [v for v in column if type(v) is int]
            if min(numbers) <= -_TOO_LARGE or max(numbers) >= _TOO_LARGE:
                return None
        kinds.append(types)
    return kinds


def are_storable(texts: Iterable[str]) -> bool:
    """Return whether Postgres can store all texts: without NUL, and with an encoding in UTF-8."""
    joined = "".join(texts)
    return "\x00" not in joined and (joined.isascii() or _is_encodable(joined))


def check_text(name: str, text: str) -> None:
    """Check that Postgres can store a text.

    Raises:
        BodyError: the text of a field or key of that name can't be stored.
    """
    if "\x00" in text:
        raise BodyError("unstorable_text", f"{name} holds NUL")
    if not _is_encodable(text):  # made by an upcaster: a decoded line has no lone surrogates
        raise BodyError("unstorable_text", f"{name} holds half a surrogate pair")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_demanded(field: FieldSpec) -> bool:
    """Return whether a body of an older release must have the field.

    If the column is nullable, the migration that added it has left null in older rows.
    """
    return field.required and not field.nullable


def _encode_scalar(name: str, value: object) -> object:
    """The value as a plain type: upcasters may return subclasses, such as enumeration members."""
    if isinstance(value, str):
        check_text(name, value)
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(int(value)) >= _TOO_LARGE:
            raise BodyError("wrong_type", f"{name} holds an integer of thousands of digits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    kind = "an object or array" if isinstance(value, dict | list) else type(value).__name__
    raise BodyError("wrong_type", f"{name} holds {kind}; the column can't")


def _encode_json(name: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as exc:  # made by an upcaster: decoded values are valid JSON
        raise BodyError("wrong_type", f"{name} is not JSON: {exc}") from None
