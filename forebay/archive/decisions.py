"""The decision log: every decision about a command, in one order, in objects that never change.

The objects are numbered without a gap: `decisions/00000000000000000001.ndjson` and so on. A writer
creates the next number and never replaces one (`If-None-Match: *`), so of several writers one gets
the number and the others read what it wrote. One database owns the archive at a time and decides;
an entry of the log says which (docs/archive-format.md, "Decisions").
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from forebay.errors import PermanentError
from forebay.ids import is_rejection_id, is_uuid

DECISIONS_PREFIX = "decisions/"
#: Where releases before the decision log put rejections; still read, never written.
LEGACY_PREFIX = "rejections/"
#: The position of a database that has read nothing, not even the rejections of older releases.
NOTHING_READ = -1
_DIGITS = 20
_NAME = re.compile(rf"{DECISIONS_PREFIX}[0-9]{{{_DIGITS}}}\.ndjson")

#: Members of a rejection that are text, and those that may be null instead.
TEXTS = ("id", "code", "detail", "object", "line")
TEXTS_OR_NULL = ("resource", "key", "op", "sqlstate")


class DecisionLogError(PermanentError):
    """An object of the decision log is missing, or is not what was written there."""


class StoredKey(Protocol):
    """An object of a listing."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def modified(self) -> dt.datetime: ...  # noqa: D102


class Store(Protocol):
    """Where an archive is kept, as far as the decision log needs it."""

    @property
    def url(self) -> str:
        """How an operator writes it."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredKey]:
        """The objects whose keys begin so and sort after `after`, by key."""
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """An object's bytes, in blocks."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Stores an object unless its key is taken; False if it is.

        Raises:
            TransientError: unknown whether it was stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One object of the log."""

    slot: int
    #: The database that owns the archive from here on, if the entry says so.
    owner: str | None = None
    #: The members of each rejection, `rejected_at` included.
    rejections: Sequence[Mapping[str, Any]] = field(default=())


def key_of(slot: int) -> str:
    """The key of an entry."""
    return f"{DECISIONS_PREFIX}{slot:0{_DIGITS}d}.ndjson"


def encode_rejections(rejections: Iterable[Mapping[str, Any]], database: str) -> bytes:
    """An entry that rejects commands.

    Args:
        rejections: members as `LogEntry.rejections` has them.
        database: the identity of the database that decided.
    """
    return b"".join(
        _line({"decision": "rejected", "database": database, **members}) for members in rejections
    )


def encode_owner(database: str, at: dt.datetime) -> bytes:
    """An entry that makes a database the archive's owner."""
    return _line({"decision": "owner", "database": database, "at": at})


def encode_void(database: str, at: dt.datetime) -> bytes:
    """An entry without a decision: it takes the number that an interrupted writer had reserved."""
    return _line({"decision": "void", "database": database, "at": at})


def read_log(store: Store, *, after: int = NOTHING_READ) -> Iterator[LogEntry]:
    """The entries after a position, in their order.

    Raises:
        DecisionLogError: an entry is missing or damaged.
        TransientError: the store did not answer.
    """
    position = after
    if position < 0:
        yield LogEntry(0, rejections=list(_read_legacy(store)))
        position = 0
    for found in store.list(DECISIONS_PREFIX, after=key_of(position) if position else ""):
        if _NAME.fullmatch(found.key) is None:  # such as a folder's marker of the S3 console
            continue
        position += 1
        if found.key != key_of(position):
            raise DecisionLogError(
                f"{store.url}/{key_of(position)} is missing, but {found.key} exists: the copy of "
                "the archive is incomplete. Copy the object; if it is lost for good, store an "
                "empty one under its name, and what it held will be decided anew"
            )
        yield _read_entry(store, position)


def _read_entry(store: Store, slot: int) -> LogEntry:
    name = f"{store.url}/{key_of(slot)}"
    owner: str | None = None
    rejections: list[Mapping[str, Any]] = []
    for line in _json_lines(name, store.read(key_of(slot))):
        match line.get("decision"):
            case "rejected":
                rejections.append(_checked(name, line))
            case "owner" if isinstance(line.get("database"), str) and is_uuid(line["database"]):
                owner = line["database"]
            case "void":
                pass
            case other:
                raise _damaged(name, f"`decision` is {str(other)[:80]!r}")
    return LogEntry(slot, owner, rejections)


def _read_legacy(store: Store) -> Iterator[Mapping[str, Any]]:
    for found in store.list(LEGACY_PREFIX):
        name = f"{store.url}/{found.key}"
        for line in _json_lines(name, store.read(found.key)):
            yield _checked(name, {"rejected_at": found.modified.isoformat(), **line})


def _json_lines(name: str, blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for text in b"".join(blocks).splitlines():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise _damaged(name, f"a line is not JSON: {exc}") from None
        if not isinstance(line, dict):
            raise _damaged(name, "a line is no object")
        yield line


def _checked(name: str, members: dict[str, Any]) -> Mapping[str, Any]:
    for member in (*TEXTS, *TEXTS_OR_NULL):
        value = members.get(member)
        if not (isinstance(value, str) or (value is None and member not in TEXTS)):
            raise _damaged(name, f"`{member}` is missing, or no text")
    if not is_rejection_id(members["id"]):
        raise _damaged(name, f"`id` is none: {members['id'][:80]!r}")
    try:
        dt.datetime.fromisoformat(members["rejected_at"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(name, "`rejected_at` is no time") from None
    return members


def _damaged(name: str, why: str) -> DecisionLogError:
    return DecisionLogError(
        f"{name} is no object of decisions: {why}; restore its first version, for nothing "
        "rewrites it, or remove it if it has none"
    )


def _line(members: Mapping[str, Any]) -> bytes:
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
