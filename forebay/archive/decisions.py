"""The decision log: all decisions about commands, in one order, in immutable objects.

The objects are numbered without gaps: `decisions/00000000000000000001.ndjson` and so on. A writer
creates the next number and never replaces an object (`If-None-Match: *`). If several writers
compete for a number, one succeeds and the others read its entry. One database owns the archive at a
time and adds decisions; entries of the log name the owner (docs/archive-format.md, "The decision
log").
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from forebay.archive.layout import DECISIONS_PREFIX, LEGACY_REJECTIONS_PREFIX, StoredObject
from forebay.errors import PermanentError
from forebay.ids import is_command_id, is_rejection_id, is_uuid

#: The position before the log's start and before the rejections of older releases.
NOTHING_READ = -1
_DIGITS = 20
_NAME = re.compile(rf"{DECISIONS_PREFIX}[0-9]{{{_DIGITS}}}\.ndjson")

#: Members of a rejection: required texts, and texts that may be null.
TEXTS = ("id", "code", "detail", "object", "line")
TEXTS_OR_NULL = ("resource", "key", "op", "sqlstate")


class DecisionLogError(PermanentError):
    """An object of the decision log is missing or damaged."""


class DecisionStore(Protocol):
    """The part of an archive's storage that the decision log uses."""

    @property
    def url(self) -> str:
        """The archive's URL in operators' commands."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects with this prefix and a key greater than `after`, by key."""
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """Iterate over the blocks of an object's content."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Create an object; return False if the key already exists.

        Raises:
            TransientError: the object may or may not be stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An object of the log."""

    slot: int
    #: The archive's new owner, if the entry changes it.
    owner: str | None = None
    #: The members of each rejection, including `rejected_at`.
    rejections: Sequence[Mapping[str, Any]] = field(default=())
    #: The members of the effect of each decided command that passed; see
    #: `forebay.decisions.effects`.
    effects: Sequence[Mapping[str, Any]] = field(default=())


def build_entry_key(slot: int) -> str:
    """Return the key of an entry's object."""
    return f"{DECISIONS_PREFIX}{slot:0{_DIGITS}d}.ndjson"


def encode_decisions(
    rejections: Iterable[Mapping[str, Any]], effects: Iterable[Mapping[str, Any]], database: str
) -> bytes:
    """Encode an entry that decides about commands.

    Args:
        rejections: members in the form of `LogEntry.rejections`.
        effects: members in the form of `LogEntry.effects`.
        database: the identity of the deciding database.
    """
    lines: list[bytes] = []
    for decision, all_members in (("rejected", rejections), ("passed", effects)):
        # One encoding of the members that all lines begin with, instead of a second mapping a line.
        head = orjson.dumps({"decision": decision, "database": database})[:-1] + b","
        lines += [head + _encode_line(members)[1:] for members in all_members]
    return b"".join(lines)


def encode_owner(database: str, at: dt.datetime) -> bytes:
    """Encode an entry that makes a database the archive's owner."""
    return _encode_line({"decision": "owner", "database": database, "at": at})


def encode_void(database: str, at: dt.datetime) -> bytes:
    """Encode an entry without a decision, which fills the number of an interrupted writer."""
    return _encode_line({"decision": "void", "database": database, "at": at})


def read_decision_log(store: DecisionStore, *, after: int = NOTHING_READ) -> Iterator[LogEntry]:
    """Iterate over the entries after a position, in order.

    From `NOTHING_READ`, the first entry has number 0 and the rejections of older releases.

    Raises:
        DecisionLogError: an entry is missing or damaged.
        TransientError: the storage did not respond.
    """
    position = after
    if position < 0:
        yield LogEntry(0, rejections=list(_read_legacy(store)))
        position = 0
    for stored in store.list(DECISIONS_PREFIX, after=build_entry_key(position) if position else ""):
        if _NAME.fullmatch(stored.key) is None:  # such as a folder marker of the S3 console
            continue
        position += 1
        expected_key = build_entry_key(position)
        if stored.key != expected_key:
            raise DecisionLogError(
                f"{store.url}/{expected_key} is missing, but {stored.key} exists: the copy of "
                "the archive is incomplete. Copy the object; if it is permanently lost, store an "
                "empty object under its name, and its decisions will be made again"
            )
        yield _read_entry(store, position)


def _read_entry(store: DecisionStore, slot: int) -> LogEntry:
    name = f"{store.url}/{build_entry_key(slot)}"
    owner: str | None = None
    rejections: list[Mapping[str, Any]] = []
    effects: list[Mapping[str, Any]] = []
    for line in _parse_lines(name, store.read(build_entry_key(slot))):
        match line.get("decision"):
            case "rejected":
                rejections.append(_check_members(name, line))
            case "passed":
                effects.append(_check_effect(name, line))
            case "owner" if isinstance(line.get("database"), str) and is_uuid(line["database"]):
                owner = line["database"]
            case "void":
                pass
            case other:
                raise _describe_damage(name, f"`decision` is {str(other)[:80]!r}")
    return LogEntry(slot, owner, rejections, effects)


def _read_legacy(store: DecisionStore) -> Iterator[Mapping[str, Any]]:
    for stored in store.list(LEGACY_REJECTIONS_PREFIX):
        name = f"{store.url}/{stored.key}"
        for line in _parse_lines(name, store.read(stored.key)):
            yield _check_members(name, {"rejected_at": stored.modified.isoformat(), **line})


def _parse_lines(name: str, blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for text in b"".join(blocks).splitlines():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise _describe_damage(name, f"a line is not JSON: {exc}") from None
        if not isinstance(line, dict):
            raise _describe_damage(name, "a line is not an object")
        yield line


def _check_members(name: str, members: dict[str, Any]) -> Mapping[str, Any]:
    for member in (*TEXTS, *TEXTS_OR_NULL):
        value = members.get(member)
        if not (isinstance(value, str) or (value is None and member not in TEXTS)):
            raise _describe_damage(name, f"`{member}` is missing or not a string")
    if not is_rejection_id(members["id"]):
        raise _describe_damage(name, f"`id` is not a rejection id: {members['id'][:80]!r}")
    _check_time(name, members, "rejected_at")
    return members


def _check_effect(name: str, members: dict[str, Any]) -> Mapping[str, Any]:
    for member in ("id", "effective_id"):
        value = members.get(member)
        if not (isinstance(value, str) and is_command_id(value)):
            raise _describe_damage(name, f"`{member}` is missing or no command id")
    for member in ("resource", "key"):
        if not isinstance(members.get(member), str):
            raise _describe_damage(name, f"`{member}` is missing or not a string")
    if not isinstance(members.get("body"), dict | None):
        raise _describe_damage(name, "`body` is not an object")
    if not isinstance(members.get("schema"), int | None):
        raise _describe_damage(name, "`schema` is not a schema version")
    _check_time(name, members, "decided_at")
    return members


def _check_time(name: str, members: Mapping[str, Any], member: str) -> None:
    try:
        dt.datetime.fromisoformat(members[member])
    except (KeyError, TypeError, ValueError):
        raise _describe_damage(name, f"`{member}` is not a timestamp") from None


def _describe_damage(name: str, why: str) -> DecisionLogError:
    return DecisionLogError(
        f"{name} is not a valid object of the decision log: {why}. Forebay never overwrites such "
        "objects: restore its first version, or remove it if it has no valid version"
    )


def _encode_line(members: Mapping[str, Any]) -> bytes:
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
