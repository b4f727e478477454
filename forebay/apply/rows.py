"""Turns a command into a row of its resource's staging table, checking what COPY could not say.

The driver writes the rows (`Copy.write_row`). What it refuses by itself would take the whole COPY
down with an error of its own, not of Postgres: so it must not get to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import orjson

from forebay.command import Body, Command
from forebay.errors import BodyError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: The key, the fields in declared order, then our columns.
Row: TypeAlias = tuple[object, ...]


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
            return (key, *empty, command.id, False, True)
        if len(body) != len(names) or not body.keys() <= known:
            body = _completed(body, known, defaults)
        values = [
            _json(name, body[name]) if name in json_names else _scalar(name, body[name])
            for name in names
        ]
        return (key, *values, command.id, command.op == "create", False)

    return encode


def body_completer(spec: ResourceSpec) -> Callable[[Body], Body]:
    """A function from bodies of that resource to bodies with every field, as rows hold them.

    The function raises:
        BodyError: the body lacks a field, has an unknown one, or holds what its column can't.
    """
    fields = {field.name: field for field in spec.fields}
    known = frozenset(fields)
    checks = [(name, _json if f.kind is Kind.JSON else _scalar) for name, f in fields.items()]

    def complete(body: Body) -> Body:
        if len(body) != len(known) or not body.keys() <= known:
            body = _completed(body, known, fields)
        for name, check in checks:
            check(name, body[name])
        return body

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
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # only an upcaster can have made it: no line holds such
            raise BodyError("unstorable_text", f"{name} holds half a surrogate pair") from None


def _json(name: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as exc:  # only an upcaster can have made such a value
        raise BodyError("wrong_type", f"{name} is no JSON: {exc}") from None
