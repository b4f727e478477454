"""Command ids: UUIDv7 (RFC 9562 §5.7) that strictly increase within a process."""

from __future__ import annotations

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

_RANDOM_BITS = 74
_CREATE_BIT = 1
_STEP_BITS = 32  # a step within one millisecond: large enough that the next id can't be guessed


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


class IdSource:
    """Makes command ids; every one is greater than all that this source made before.

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
        """A new id; greater than `after` too (a version that the client has seen).

        The caller checks that `after` is not beyond `MAX_AHEAD_MS`.
        """
        with self._lock:
            floor = max(self._last, _split(after) if after else (0, 0))
            self._last = _next(self._now_ms(), floor, create=create)
            return join_id(*self._last)


def _next(now_ms: int, floor: tuple[int, int], *, create: bool) -> tuple[int, int]:
    ms, bits = now_ms, int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)
    if now_ms <= floor[0]:
        step = 2 + int.from_bytes(os.urandom(_STEP_BITS // 8), "big")
        ms, bits = floor[0], floor[1] + step
        if bits >> _RANDOM_BITS:
            ms, bits = ms + 1, bits & ((1 << _RANDOM_BITS) - 1)
    return ms, (bits & ~_CREATE_BIT) | (_CREATE_BIT if create else 0)


def _split(command_id: str) -> tuple[int, int]:
    value = int(command_id.replace("-", ""), 16)
    return value >> 80, (value >> 64 & 0xFFF) << 62 | value & ((1 << 62) - 1)


def join_id(ms: int, bits: int) -> str:
    """The id of a time in milliseconds and 74 further bits, of which the lowest says `create`."""
    value = ms << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
