"""Command ids: UUIDv7 (RFC 9562 §5.7) that strictly increase with the clock of a process."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Callable, Sequence
from threading import Lock

#: A canonical (lower-case) UUIDv7; such texts sort as the ids do. It ends in the year 9774: a
#: first digit of e or f would be a time that calendars can't say.
COMMAND_ID = re.compile(
    r"[0-9a-d][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AS_ZERO = str.maketrans("123456789abcdef", "0" * 15)
_ZEROS = "00000000-0000-0000-0000-000000000000\n"

#: How far ahead of our clock an id that a client shows may be. Beyond it the id is forged or a
#: writer's clock is broken, and following it would let one client beat every later writer.
MAX_AHEAD_MS = 10 * 60 * 1000

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_RANDOM_BITS = 74
_CREATE_BIT = 1
_VERSION_DIGIT = 14  # index of the digit that names the UUID's version
_OUTDATED_DIGIT = "f"  # a first digit that no command id has
_STEP_BITS = 32  # a step within one millisecond: large enough that the next id can't be guessed
_IMPORT_BITS = 34  # the ids of one import differ in these bits only (lambdas/imports/ids.py)
_ABOVE_BITS = 50  # a step of `make_id_above`: two ids above the same one differ all the same


def is_command_id(text: str) -> bool:
    """Whether `text` is a UUIDv7 in canonical form."""
    return COMMAND_ID.fullmatch(text) is not None


def is_rejection_id(text: str) -> bool:
    """Whether `text` can be a rejection's id: a command's, or one made for a bad line."""
    return is_uuid(text)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID of any version in canonical form (RFC 9562 §4)."""
    return _UUID.fullmatch(text) is not None


def are_uuids(texts: Sequence[str]) -> bool:
    """Whether all of them are, in a fifth of the time that the pattern takes."""
    return _are_uuids("\n".join([*texts, ""]), len(texts))


def are_command_ids(texts: Sequence[str]) -> bool:
    """Whether `is_command_id` is true of all of them."""
    lines = "\n".join([*texts, ""])
    if not _are_uuids(lines, len(texts)):
        return False
    first, version, variant = (set(lines[place :: len(_ZEROS)]) for place in (0, 14, 19))
    return first.isdisjoint("ef") and version <= {"7"} and variant <= set("89ab")


def _are_uuids(lines: str, count: int) -> bool:
    # A text that holds line feeds makes them more, or longer, than so many UUIDs are.
    return lines.translate(_AS_ZERO) == _ZEROS * count


def accepted_ms(command_id: str) -> int:
    """When the command was accepted: milliseconds since the Unix epoch, from the id itself."""
    return int(command_id[:8] + command_id[9:13], 16)


def is_create_id(command_id: str) -> bool:
    """Whether the id was made for a `create`: its lowest bit says so.

    The status route knows only an id, and must know whether a newer row has settled its fate:
    a later create never settles a put's, a later put always settles a create's.
    """
    return bool(int(command_id[-1], 16) & _CREATE_BIT)


def milliseconds(moment: dt.datetime) -> int:
    """A moment as ids carry it: whole milliseconds since the Unix epoch, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def least_id(moment: dt.datetime) -> str:
    """A UUID that sorts before every command id of the moment's millisecond or later."""
    text = f"{max(0, milliseconds(moment)):012x}"
    return f"{text[:8]}-{text[8:]}-0000-0000-000000000000"


def mark_outdated(version: str) -> str:
    """The version that an outdated row has: greater than every command id, and reversible.

    The first digit becomes `f`, and moves to the place of the digit 7 that all command ids share.
    """
    return f"f{version[1:_VERSION_DIGIT]}{version[0]}{version[_VERSION_DIGIT + 1 :]}"


def is_outdated(version: str) -> bool:
    """Whether the version of a row is a mark: no command id begins with this digit."""
    return version.startswith(_OUTDATED_DIGIT)


def original_version(version: str) -> str:
    """The id of the command that made a row: its version, without the mark if it has one.

    A mark of earlier releases was the same for all rows, so it is returned as it is.
    """
    if not is_outdated(version):
        return version
    restored = (
        f"{version[_VERSION_DIGIT]}{version[1:_VERSION_DIGIT]}7{version[_VERSION_DIGIT + 1 :]}"
    )
    return restored if is_command_id(restored) else version


class IdSource:
    """Makes command ids that follow this process's clock.

    Ids made without a floor strictly increase. A floor raises one id only: a version that a client
    shows never moves the ids of other keys.

    Randomness is read from the operating system at each call: a Lambda snapshot (SnapStart)
    restored many times must not repeat it.
    """

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._lock = Lock()
        self._last = (0, 0)  # milliseconds, 74 random bits

    def now_ms(self) -> int:
        """The clock that the ids carry: milliseconds since the Unix epoch."""
        return self._now_ms()

    def make(self, *, create: bool, after: str | None = None) -> str:
        """A new id.

        Args:
            create: whether the command is a create.
            after: a floor, which the new id exceeds. The caller checks that it is not beyond
                `MAX_AHEAD_MS`.
        """
        with self._lock:
            self._last = made = _next(self._now_ms(), self._last, create=create)
        if after is not None and made <= _split(after):
            # Random in all bits: many clients may show the same floor, to several instances.
            made = _split(after)[0] + 1, _random_bits(create=create)
        return join_id(*made)


def _next(now_ms: int, last: tuple[int, int], *, create: bool) -> tuple[int, int]:
    if now_ms > last[0]:
        return now_ms, _random_bits(create=create)
    step = 2 + int.from_bytes(os.urandom(_STEP_BITS // 8), "big")
    ms, bits = last[0], last[1] + step
    if bits >> _RANDOM_BITS:
        ms, bits = ms + 1, bits & ((1 << _RANDOM_BITS) - 1)
    return ms, _with_create_bit(bits, create=create)


def _random_bits(*, create: bool) -> int:
    bits = int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)
    return _with_create_bit(bits, create=create)


def _with_create_bit(bits: int, *, create: bool) -> int:
    return (bits & ~_CREATE_BIT) | (_CREATE_BIT if create else 0)


def make_id_at(ms: int, *, create: bool) -> str:
    """A new id of that millisecond, random in all other bits."""
    return join_id(ms, _random_bits(create=create))


def make_id_above(command_id: str, *, create: bool) -> str:
    """A new id in the millisecond of a given one, a small random step above it.

    The step is longer than an import: the ids of its lines differ in the low bits only, and a
    shorter step could give one of them a second time.
    """
    ms, bits = _split(command_id)
    bits += (1 << _IMPORT_BITS) + (int.from_bytes(os.urandom(8), "big") >> (64 - _ABOVE_BITS))
    if bits >> _RANDOM_BITS:
        ms, bits = ms + 1, bits & ((1 << _RANDOM_BITS) - 1)
    return join_id(ms, _with_create_bit(bits, create=create))


def _split(command_id: str) -> tuple[int, int]:
    value = int(command_id.replace("-", ""), 16)
    return value >> 80, (value >> 64 & 0xFFF) << 62 | value & ((1 << 62) - 1)


def join_id(ms: int, bits: int) -> str:
    """The id of a time in milliseconds and 74 further bits, of which the lowest says `create`."""
    value = ms << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
