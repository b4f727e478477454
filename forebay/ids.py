"""Command ids: UUIDv7 (RFC 9562 §5.7) that strictly increase with the clock of a process."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Callable, Sequence
from threading import Lock

#: A canonical (lower-case) UUIDv7; the texts sort like the ids. The first digit is at most d, which
#: bounds the time to the year 9774: calendars can't represent the times of e and f.
COMMAND_ID = re.compile(
    r"[0-9a-d][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AS_ZERO = str.maketrans("123456789abcdef", "0" * 15)
NIL = "00000000-0000-0000-0000-000000000000"

#: How far an id from a client may be ahead of our clock. Beyond it the id is forged or a writer's
#: clock is broken, and an id above it would let one client beat every later writer.
MAX_AHEAD_MS = 10 * 60 * 1000

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_RANDOM_BITS = 74
_CREATE_BIT = 1
#: The low bits of the ids of decided commands, the last six hexadecimal digits; no other id that is
#: made has them. The create bit is not set.
_DECIDED_MASK, _DECIDED_MARK = 0xFFFFFF, 0xDEC1DE
_DECIDED_END = f"{_DECIDED_MARK:06x}"
_VERSION_DIGIT = 14  # index of the digit that names the UUID's version
#: First digits that no command id has: of the versions of outdated and of orphaned rows.
OUTDATED_DIGIT = "e"
ORPHANED_DIGIT = "f"
_STEP_BITS = 32  # a step within one millisecond: large enough that the next id can't be guessed
_IMPORT_BITS = 34  # the ids of one import differ in these bits only (lambdas/imports/ids.py)
_ABOVE_BITS = 50  # random bits of a step of `make_id_above`: two ids above the same id differ


def is_command_id(text: str) -> bool:
    """Return whether `text` is a UUIDv7 in canonical form."""
    return COMMAND_ID.fullmatch(text) is not None


def is_rejection_id(text: str) -> bool:
    """Return whether `text` can be a rejection's id: a command's, or one of an invalid line."""
    return is_uuid(text)


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID of any version in canonical form (RFC 9562 §4)."""
    return _UUID.fullmatch(text) is not None


def are_uuids(texts: Sequence[str]) -> bool:
    """Return whether `is_uuid` is true of all texts, in a fifth of the time of the pattern."""
    return _are_uuids("\n".join([*texts, ""]), len(texts))


def are_command_ids(texts: Sequence[str]) -> bool:
    """Return whether `is_command_id` is true of all texts."""
    lines = "\n".join([*texts, ""])
    if not _are_uuids(lines, len(texts)):
        return False
    first_digit, version, variant = (set(lines[place :: len(NIL) + 1]) for place in (0, 14, 19))
    return first_digit.isdisjoint("ef") and version <= {"7"} and variant <= set("89ab")


def _are_uuids(lines: str, count: int) -> bool:
    # A text with line feeds gives more lines, or longer lines, than `count` UUIDs have.
    return lines.translate(_AS_ZERO) == f"{NIL}\n" * count


def accepted_ms(command_id: str) -> int:
    """When the command was accepted, from its id: milliseconds since the Unix epoch."""
    return int(command_id[:8] + command_id[9:13], 16)


def is_create_id(command_id: str) -> bool:
    """Return whether the id was made for a `create`, by its lowest bit.

    The status route has only an id, and must decide whether a newer row has superseded the command:
    a later create never beats a put, a later put always beats a create.
    """
    return bool(int(command_id[-1], 16) & _CREATE_BIT)


def is_decided_command_id(command_id: str) -> bool:
    """Return whether the id was made for a decided command, by its last digits.

    The status route has only an id: until such a command has a decision, its status is pending,
    even if it is older than the item. An id of an older release or of an import has these digits by
    chance, once in 16 million.
    """
    return command_id.endswith(_DECIDED_END)


def milliseconds(moment: dt.datetime) -> int:
    """A moment in the unit of ids: whole milliseconds since the Unix epoch, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def format_ms(ms: int) -> str:
    """The beginning of ids of that millisecond; ids of earlier milliseconds sort before it."""
    text = f"{max(0, ms):012x}"
    return f"{text[:8]}-{text[8:]}"


def make_least_id(moment: dt.datetime) -> str:
    """A UUID that sorts before every command id of that millisecond or later."""
    return f"{format_ms(milliseconds(moment))}-0000-0000-000000000000"


def build_greatest_id(moment: dt.datetime) -> str:
    """The greatest command id of that millisecond."""
    return f"{format_ms(milliseconds(moment))}-7fff-bfff-ffffffffffff"


def mark_outdated(version: str) -> str:
    """The version of a row that its own command has to write again.

    The row loses to that command and to those that beat it, and to no other: otherwise a command
    that has lost could take the row's place until the replay, and another key the values that are
    unique to the row.
    """
    return _mark(version, OUTDATED_DIGIT)


def mark_orphaned(version: str) -> str:
    """The version of a row that loses to every command of its key.

    The row's own command is rejected, or was removed from the archive.
    """
    return _mark(version, ORPHANED_DIGIT)


def _mark(version: str, digit: str) -> str:
    """A reversible version, greater than every command id.

    `digit` replaces the first digit, and that digit replaces the digit 7 that all command ids
    share.
    """
    return f"{digit}{version[1:_VERSION_DIGIT]}{version[0]}{version[_VERSION_DIGIT + 1 :]}"


def is_outdated(version: str) -> bool:
    """Return whether a row's version is a mark: no command id begins with `e` or `f`."""
    return version.startswith((OUTDATED_DIGIT, ORPHANED_DIGIT))


def is_orphaned(version: str) -> bool:
    """Return whether a row's version marks a row that loses to every command of its key."""
    return version.startswith(ORPHANED_DIGIT)


def original_version(version: str) -> str:
    """The id of the command that made a row: its version, or the version before it was marked.

    A mark of earlier releases was the same for all rows, so it is returned unchanged.
    """
    if not is_outdated(version):
        return version
    restored = (
        f"{version[_VERSION_DIGIT]}{version[1:_VERSION_DIGIT]}7{version[_VERSION_DIGIT + 1 :]}"
    )
    return restored if is_command_id(restored) else version


class IdSource:
    """Makes command ids that follow this process's clock.

    Ids made without a floor strictly increase. A floor raises one id only: a version from a client
    never moves the ids of other keys.

    Randomness is read from the operating system at each call: processes restored from one Lambda
    snapshot (SnapStart) must not repeat it.
    """

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._lock = Lock()
        self._last = (0, 0)  # milliseconds, 74 random bits

    def now_ms(self) -> int:
        """The clock of the ids: milliseconds since the Unix epoch."""
        return self._now_ms()

    def make(self, *, create: bool, after: str | None = None, decided: bool = False) -> str:
        """Make an id.

        Args:
            create: whether the command is a create.
            decided: whether it is for a decided command; not with `create`.
            after: a floor, which the new id exceeds. The caller checks that it is within
                `MAX_AHEAD_MS`.
        """
        with self._lock:
            parts = _advance(self._now_ms(), self._last, create=create)
            self._last = parts = _mark_decided(*parts) if decided else parts
        if after is not None and parts <= _split_id(after):
            # Random in all bits: many clients may send the same floor, to several instances.
            parts = _split_id(after)[0] + 1, _draw_bits(create=create)
            parts = _mark_decided(*parts) if decided else parts
        return join_id(*parts)


def _advance(now_ms: int, previous: tuple[int, int], *, create: bool) -> tuple[int, int]:
    if now_ms > previous[0]:
        return now_ms, _draw_bits(create=create)
    step = 2 + int.from_bytes(os.urandom(_STEP_BITS // 8), "big")
    ms, bits = previous[0], previous[1] + step
    if bits >> _RANDOM_BITS:
        ms, bits = ms + 1, bits & ((1 << _RANDOM_BITS) - 1)
    return ms, _set_create_bit(bits, create=create)


def _draw_bits(*, create: bool) -> int:
    bits = int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)
    return _set_create_bit(bits, create=create)


def _set_create_bit(bits: int, *, create: bool) -> int:
    bits = (bits & ~_CREATE_BIT) | (_CREATE_BIT if create else 0)
    # A step to the next bits that don't mark a decided command.
    return bits + 2 if bits & _DECIDED_MASK == _DECIDED_MARK else bits


def _mark_decided(ms: int, bits: int) -> tuple[int, int]:
    """The least bits with the mark that are not smaller."""
    marked = (bits & ~_DECIDED_MASK) | _DECIDED_MARK
    marked += _DECIDED_MASK + 1 if marked < bits else 0
    return (ms + 1, _DECIDED_MARK) if marked >> _RANDOM_BITS else (ms, marked)


def make_id_at(ms: int, *, create: bool) -> str:
    """Make an id of that millisecond, random in all other bits."""
    return join_id(ms, _draw_bits(create=create))


def make_id_above(command_id: str, *, create: bool) -> str:
    """Make an id in the millisecond of a given id, a small random step above it.

    The step exceeds the range of an import: the ids of its lines differ in the low bits only, and a
    shorter step could repeat one of them.
    """
    ms, bits = _split_id(command_id)
    bits += (1 << _IMPORT_BITS) + (int.from_bytes(os.urandom(8), "big") >> (64 - _ABOVE_BITS))
    if bits >> _RANDOM_BITS:
        ms, bits = ms + 1, bits & ((1 << _RANDOM_BITS) - 1)
    return join_id(ms, _set_create_bit(bits, create=create))


def _split_id(command_id: str) -> tuple[int, int]:
    value = int(command_id.replace("-", ""), 16)
    return value >> 80, (value >> 64 & 0xFFF) << 62 | value & ((1 << 62) - 1)


def join_id(ms: int, bits: int) -> str:
    """The id of a time in milliseconds and 74 further bits, of which the lowest marks a create."""
    value = ms << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
