"""The archive format: a command per line, JSON, UTF-8. Only this module depends on its version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import orjson

from forebay.command import OPS, Command
from forebay.conditions import is_condition
from forebay.errors import InvalidLineError
from forebay.ids import are_command_ids, is_command_id, is_rejection_id

FORMAT_VERSION = 1
MAX_LINE_BYTES = 1_000 * 1024  # Firehose's limit for a record, newline included

#: Nesting levels of a line. Intake accepts far fewer; orjson can write 254 levels, and each line
#: that is read must be writable.
MAX_LINE_DEPTH = 200

# Lines decoded together after a larger batch had too many failures: few pieces contain a failure.
_PIECE = 20
# Above this share of failing lines, fall back to small pieces.
_FEW = 0.02

# A line up to this length can't exceed MAX_LINE_DEPTH: each level takes two brackets.
_SHALLOW_BYTES = 2 * MAX_LINE_DEPTH

_NESTED = frozenset({dict, list})
_INT64 = range(-(2**63), 2**63)


def encode(command: Command) -> bytes:
    """The command's line, newline included.

    Raises:
        TypeError: the body holds a value that JSON or orjson can't encode (an int beyond 64 bits).
    """
    envelope = {
        "v": FORMAT_VERSION,
        "id": command.id,
        "op": command.op,
        "resource": command.resource,
        "key": command.key,
        "schema": command.schema,
        "by": command.by,
        "trace": command.trace,
        "body": command.body,
    }
    # Left out unless it is set: lines without it keep the bytes of earlier releases.
    if command.amends is not None:
        envelope["amends"] = command.amends
    if command.condition is not None:
        envelope["if"] = command.condition
    return orjson.dumps(envelope, option=orjson.OPT_APPEND_NEWLINE)


def decode(line: bytes) -> Command:
    """The command of a line, with or without its newline.

    Raises:
        InvalidLineError: not JSON, nested too deep, not an envelope, or of an unknown format
            version.
    """
    return _decode_quickly(line) or decode_carefully(line)


def decode_all(lines: Sequence[bytes]) -> list[Command | InvalidLineError]:
    """Decode several lines in half the time: commands, and an `InvalidLineError` per invalid line.

    The common case is a batch of valid lines with bodies that are not nested deeper than a list or
    an object of scalars, so such lines are checked together and not one at a time.
    """
    flat = _decode_flat(lines)
    if flat is not None:
        commands, failed_places = flat
        if _are_valid(commands):
            entries: list[Command | InvalidLineError] = list(commands)
            for place in failed_places:  # ascending: each insert lands at its final place
                entries.insert(place, _decode_or_error(lines[place]))
            return entries
    if len(lines) <= _PIECE:
        return [_decode_or_error(line) for line in lines]
    pieces = (lines[start : start + _PIECE] for start in range(0, len(lines), _PIECE))
    return [entry for piece in pieces for entry in decode_all(piece)]


def _decode_flat(lines: Sequence[bytes]) -> tuple[list[Command], list[int]] | None:
    """The commands of lines with flat bodies, and the places of the others; None if too many."""
    reader = _load_reader()
    commands: list[Command] = []
    failed_places: list[int] = []
    remaining = iter(lines)
    while len(failed_places) <= _FEW * len(lines):
        try:
            # `extend` keeps the commands made before an error; `remaining` is past the failed line.
            commands.extend(map(_command_of, map(_MEMBERS, map(reader.flat, remaining))))
        except reader.errors:
            failed_places.append(len(commands) + len(failed_places))
        else:
            return commands, failed_places
    return None


def _are_valid(commands: Sequence[Command]) -> bool:
    """Return whether parsed flat lines pass the checks that the parser does not make."""
    return (
        are_command_ids([command.id for command in commands])
        and [c for c in commands if c.body is None] == [c for c in commands if c.op == "delete"]
        and not [c for c in commands if c.amends is not None]
        and all(is_condition(c.condition) for c in commands if c.condition is not None)
    )


def _decode_or_error(line: bytes) -> Command | InvalidLineError:
    try:
        return decode(line)
    except InvalidLineError as exc:
        return exc.with_traceback(None)  # a traceback would keep its frames in memory


def _decode_quickly(line: bytes) -> Command | None:
    """The command of a valid line; None for any other line, which `decode_carefully` examines.

    Apply decodes millions of lines, so the parser itself checks the envelope's members.
    """
    reader = _load_reader()
    try:
        envelope = reader.any(line)
    except reader.errors:
        return None
    command = _command_of(_MEMBERS(envelope))
    body, amends, condition = command.body, command.amends, command.condition
    is_valid = (
        is_command_id(command.id)
        and (body is None) == (command.op == "delete")
        and (amends is None or is_rejection_id(amends))
        and (condition is None or is_condition(condition))
        and (len(line) <= _SHALLOW_BYTES or _count_brackets(line) <= MAX_LINE_DEPTH)
        and (body is None or _NESTED.isdisjoint(map(type, body.values())) or _is_plain(body))
    )
    return command if is_valid else None


#: The members of a parsed envelope in the order of the fields of `Command`.
_MEMBERS = attrgetter(*Command._fields)
#: The envelope's name of a member that is a keyword in Python.
_NAMES = {"condition": "if"}
#: Makes a command of its members, in a quarter of the time of a call of `Command`.
_command_of: Callable[[tuple[Any, ...]], Command] = partial(tuple.__new__, Command)


class _Reader(NamedTuple):
    """Parsers of valid lines."""

    #: Parses any valid line.
    any: Callable[[bytes], Any]
    #: Parses lines with bodies that contain lists and objects of scalars at most, such as
    #: increments.
    flat: Callable[[bytes], Any]
    #: Exceptions that the parsers raise on other lines.
    errors: tuple[type[Exception], ...]


@cache
def _load_reader() -> _Reader:
    """The parsers, imported at the first call: a process that only writes never needs them."""
    import msgspec  # noqa: PLC0415
    from msgspec import Meta  # noqa: PLC0415

    integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    scalar = integer | float | str | bool | None
    # As `is_condition` checks it: tags, or comparisons of a field, an operator and a value.
    condition = dict[str, list[str | list[scalar | list[scalar]]]]
    envelopes = [
        msgspec.defstruct(
            "Envelope",
            [
                ("v", Literal[1]),
                ("id", str),
                ("op", Literal["create", "put", "delete", "patch"]),
                ("resource", Annotated[str, Meta(min_length=1)]),
                ("key", integer | str),
                ("schema", Annotated[int, Meta(ge=1)]),
                ("by", str),
                ("trace", str | None, None),
                ("body", dict[str, value] | None, None),  # type: ignore[valid-type]
                ("amends", str | None, None),
                ("condition", condition | None, None),
            ],
            rename=_NAMES,
            forbid_unknown_fields=True,
            gc=False,
        )
        for value in (
            scalar | list[scalar] | dict[str, scalar],
            scalar | list[Any] | dict[str, Any],
        )
    ]
    readers = [msgspec.json.Decoder(envelope).decode for envelope in envelopes]
    flat, nested = readers
    return _Reader(nested, flat, (msgspec.MsgspecError, UnicodeDecodeError, RecursionError))


def _is_plain(value: object) -> bool:
    """Return whether no integer in it exceeds 64 bits: orjson would read it as a float."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, int) or value in _INT64


def _count_brackets(line: bytes) -> int:
    return line.count(b"[") + line.count(b"{")


def decode_carefully(line: bytes) -> Command:
    """The command of a line, decoded step by step for a precise error, and without msgspec.

    Raises:
        InvalidLineError: as `decode`.
    """
    try:
        envelope = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidLineError("line_not_json", f"the line is not JSON: {exc}") from None
    if not isinstance(envelope, dict):
        raise InvalidLineError("envelope_invalid", "the line is JSON but not an object")
    if _count_brackets(line) > MAX_LINE_DEPTH and _is_deeper(envelope, MAX_LINE_DEPTH):
        raise InvalidLineError("line_too_deep", f"the line nests more than {MAX_LINE_DEPTH} levels")
    version = envelope.get("v")
    if version != FORMAT_VERSION or version is True:
        raise InvalidLineError(
            "envelope_version_unknown",
            f"the envelope's version is {version!r}; this release reads {FORMAT_VERSION}",
        )
    return _read_command(envelope)


def _read_command(envelope: dict[str, Any]) -> Command:
    command_id, op, body = envelope.get("id"), envelope.get("op"), envelope.get("body")
    resource, key = envelope.get("resource"), envelope.get("key")
    schema, by = envelope.get("schema"), envelope.get("by")
    trace = envelope.get("trace")
    if not (isinstance(command_id, str) and is_command_id(command_id)):
        raise _invalid("id", "a UUIDv7 in canonical form", command_id)
    if not (isinstance(op, str) and op in OPS):
        raise _invalid("op", "create, put, delete or patch", op)
    if not (isinstance(resource, str) and resource):
        raise _invalid("resource", "the path of a resource", resource)
    if not (
        isinstance(key, str) or (isinstance(key, int) and key is not True and key is not False)
    ):
        raise _invalid("key", "an integer or a string", key)
    if isinstance(key, int) and key not in _INT64:
        raise _invalid("key", "a 64-bit integer", key)
    if not (isinstance(schema, int) and schema is not True and schema >= 1):
        raise _invalid("schema", "a positive integer", schema)
    if not isinstance(by, str):
        raise _invalid("by", "a string", by)
    if not (trace is None or isinstance(trace, str)):
        raise _invalid("trace", "a string or null", trace)
    if (body is None) != (op == "delete") or not (body is None or isinstance(body, dict)):
        raise _invalid("body", "an object, or null for a delete", body)
    amends, condition = _read_amends(envelope), _read_condition(envelope)
    return Command(command_id, op, resource, key, schema, by, trace, body, amends, condition)  # type: ignore[arg-type]


def _read_amends(envelope: dict[str, Any]) -> str | None:
    """The member if it is valid, else None: older releases apply such a line without reading it."""
    amends = envelope.get("amends")
    return amends if isinstance(amends, str) and is_rejection_id(amends) else None


def _read_condition(envelope: dict[str, Any]) -> Mapping[str, Any] | None:
    condition = envelope.get("if")
    if condition is not None and not is_condition(condition):
        raise _invalid("if", "a condition: tags to match, and comparisons of fields", condition)
    return condition


def _is_deeper(value: object, levels: int) -> bool:
    """Return whether objects and arrays nest more than `levels` levels."""
    nested = [value]
    for _ in range(levels):
        nested = [
            inner
            for outer in nested
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, dict | list)
        ]
        if not nested:
            return False
    return True


def _invalid(member: str, expected: str, value: object) -> InvalidLineError:
    text = repr(value)
    excerpt = text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - for the eye
    return InvalidLineError("envelope_invalid", f'"{member}" must be {expected}, not {excerpt}')
