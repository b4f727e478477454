"""Reads an archive object as a stream: gunzip, split into lines, decode, group into chunks.

Memory is bounded by one chunk and one line, whatever the object's size, or what a hostile object
inflates to. What can't be read is handed on as a `BadLine`; it stops none of its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from forebay.apply.outcome import BadLine, Entry
from forebay.codec import MAX_LINE_BYTES, decode, decode_all
from forebay.command import Command
from forebay.errors import UnreadableLine

CHUNK_COMMANDS = 10_000
CHUNK_BYTES = 8 * 1024 * 1024  # of lines; decoded they take about five times as much

#: Bytes of an object's lines that are read; Firehose buffers 128 MiB at most, and nothing else that
#: Forebay writes is larger. A few MiB of gzip may say more than any disk holds.
MAX_OBJECT_BYTES = 1024 * 1024 * 1024
#: Lines of an object that may be no commands, and their bytes, before the object is taken for
#: something else: each becomes a rejection, so 30 KB of gzip could become millions of them.
MAX_BAD_LINES = 10_000
MAX_BAD_BYTES = 64 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
_INFLATE_STEP = 256 * 1024  # bytes; a bomb inflates a step at a time, and we look after each
_FEW_LINES = 1_000  # decoded at once
_SALVAGE_STEPS = (4096, 64, 1)  # bytes
_SHOWN_BYTES = 4096  # of a line that is too long or cut off, for the rejection
_NO_COMMANDS = (
    f"more than {MAX_BAD_LINES:,} lines of the object, or {MAX_BAD_BYTES:,} bytes of them, are no "
    "commands; from here on it is not read"
)


class _CorruptError(Exception):
    """The object's bytes can't be read on from here."""

    def __init__(self, code: str, detail: str, raw: bytes = b"") -> None:
        super().__init__(detail)
        self.code = code
        self.raw = raw


def read_chunks(
    blocks: Iterable[bytes],
    *,
    max_commands: int = CHUNK_COMMANDS,
    max_bytes: int = CHUNK_BYTES,
) -> Iterator[list[Entry]]:
    """The entries of an archive object in chunks; the same object always gives the same chunks.

    What is no object of commands ends with an entry that says so; see MAX_OBJECT_BYTES.

    Args:
        blocks: the object's bytes, in blocks of any size.
        max_commands: entries in a chunk, at most.
        max_bytes: bytes of lines in a chunk; a single line may be more.
    """
    chunk: list[Entry] = []
    size = 0
    for lines, entries in read_lines(blocks):
        lengths = list(map(len, lines))
        total = sum(lengths)
        if len(chunk) + len(entries) <= max_commands and size + total <= max_bytes:
            chunk += entries
            size += total
            continue
        for length, entry in zip(lengths, entries, strict=True):
            if chunk and (len(chunk) >= max_commands or size + length > max_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(entry)
            size += length
    if chunk:
        yield chunk


def read_lines(blocks: Iterable[bytes]) -> Iterator[tuple[Sequence[bytes], Sequence[Entry]]]:
    """Some lines of an archive object at a time, and their entries; as `read_chunks` has them."""
    number = 0
    try:
        for lines, entries in _decoded(_lines(_bounded(_inflate(blocks)))):
            yield lines, entries
            number += len(lines)
    except _CorruptError as exc:
        rest = exc.raw.rstrip(b"\n")
        (last,) = _entries(number, [rest])
        if isinstance(last, Command) and b"\n" not in rest:  # whole but for its newline
            yield [rest], [last]
            number, rest = number + 1, b""
        yield [rest], [BadLine(number, rest[:_SHOWN_BYTES], exc.code, str(exc))]


def is_damaged(blocks: Iterable[bytes]) -> bool:
    """Return whether an object's bytes can't be inflated wholly: cut off, damaged, or no gzip.

    An object that inflates to more than MAX_OBJECT_BYTES is damaged too. Lines are not looked at.
    """
    try:
        for _ in _bounded(_inflate(blocks)):
            pass
    except _CorruptError:
        return True
    return False


def _decoded(found: Iterable[list[bytes]]) -> Iterator[tuple[list[bytes], list[Entry]]]:
    number, bad = 0, _BadLines()
    for lines in _few_at_a_time(found):
        entries = _entries(number, lines)
        fitting = bad.note(entries)
        if fitting:
            yield lines[:fitting], entries[:fitting]
        if fitting < len(entries):
            raise _CorruptError("object_refused", _NO_COMMANDS, lines[fitting])
        number += len(lines)


def _few_at_a_time(found: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """The same lines: of a step of inflating each byte may be a line, and a line take a KiB."""
    for lines in found:
        for start in range(0, len(lines), _FEW_LINES):
            yield lines[start : start + _FEW_LINES]


def _entries(number: int, lines: Sequence[bytes]) -> list[Entry]:
    """The entries of the lines from that number on."""
    if max(map(len, lines)) >= MAX_LINE_BYTES:  # the newline is gone by now
        return [_entry(number + place, line) for place, line in enumerate(lines)]
    return [
        BadLine(number + place, lines[place], entry.code, str(entry))
        if isinstance(entry, UnreadableLine)
        else entry
        for place, entry in enumerate(decode_all(lines))
    ]


@dataclass(slots=True)
class _BadLines:
    """Those of one object that are no commands."""

    lines: int = 0
    size: int = 0

    def note(self, entries: Sequence[Entry]) -> int:
        """How many entries come before there are too many bad ones for an object of ours."""
        for place, entry in enumerate(entries):
            if isinstance(entry, BadLine):
                self.lines += 1
                self.size += len(entry.raw)
                if self.lines > MAX_BAD_LINES or self.size > MAX_BAD_BYTES:
                    return place
        return len(entries)


def _bounded(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks up to MAX_OBJECT_BYTES."""
    size = 0
    for block in blocks:
        size += len(block)
        if size > MAX_OBJECT_BYTES:
            detail = (
                f"the object inflates to more than {MAX_OBJECT_BYTES:,} bytes, as nothing does "
                "that Forebay writes; what comes after them is not read"
            )
            raise _CorruptError("object_too_large", detail)
        yield block


def _entry(number: int, line: bytes) -> Entry:
    if len(line) >= MAX_LINE_BYTES:
        detail = f"the line is longer than {MAX_LINE_BYTES} bytes"
        return BadLine(number, line[:_SHOWN_BYTES], "line_too_long", detail)
    try:
        return decode(line)
    except UnreadableLine as exc:
        return BadLine(number, line, exc.code, str(exc))


def _lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines without their newlines, some at a time and never none.

    Blank ones are skipped, the excess of long ones is dropped.
    """
    rest = b""
    try:
        for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            found = list(filter(None, lines))
            if found:
                yield found
            rest = rest[:MAX_LINE_BYTES]
    except _CorruptError as exc:
        if exc.raw and rest:  # junk behind a member whose last line lacks its newline
            yield [rest]
        exc.raw = exc.raw or rest
        raise
    if rest:
        yield [rest]


def _inflate(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The inflated bytes of a gzip file of one or more members (RFC 1952 §2.2)."""
    member: zlib._Decompress | None = None
    pending = b""
    for block in blocks:
        pending += block
        while pending:
            if member is None:
                if len(pending) < len(_GZIP_MAGIC):
                    break
                member = _new_member(pending)
            before = member.copy()
            try:
                inflated = member.decompress(pending, _INFLATE_STEP)
            except zlib.error as exc:
                yield from _salvage(before, pending)
                detail = f"the gzip data is corrupt: {exc}"
                raise _CorruptError("object_corrupt", detail) from None
            pending = member.unused_data if member.eof else member.unconsumed_tail
            member = None if member.eof else member
            if inflated:
                yield inflated
    if member is not None:
        yield member.flush()
    if pending or not (member is None or member.eof):
        raise _CorruptError("object_corrupt", "the gzip data ends in the middle")


def _new_member(data: bytes) -> zlib._Decompress:
    if not data.startswith(_GZIP_MAGIC):
        raise _CorruptError("object_not_gzip", "here should be gzip data", data)
    return zlib.decompressobj(_GZIP_WBITS)


def _salvage(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What can still be inflated before the corrupt place.

    A call that fails gives nothing of its step, so the steps get smaller.
    """
    for step in _SALVAGE_STEPS:
        while True:
            before = member.copy()
            try:
                inflated = member.decompress(data, step)
            except zlib.error:
                member = before
                break
            data = member.unconsumed_tail
            yield inflated
