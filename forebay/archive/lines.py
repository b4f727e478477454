"""Reads an archive object as a stream: gunzip, split into lines, decode, group into chunks.

This module keeps one chunk and one line in memory, whatever the size to which a hostile object
inflates; reading ahead adds another chunk.
A line that can't be decoded becomes an `InvalidLine`; the other lines are not affected.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from forebay.codec import MAX_LINE_BYTES, decode, decode_all
from forebay.command import Command
from forebay.errors import InvalidLineError

CHUNK_COMMANDS = 10_000
CHUNK_BYTES = 8 * 1024 * 1024  # of lines; commands take about five times as much memory

#: Bytes of an object's lines that are read. Forebay's own objects are smaller: Firehose buffers
#: 128 MiB at most. A few MiB of gzip can inflate to more than a disk holds.
MAX_OBJECT_BYTES = 1024 * 1024 * 1024
#: Invalid lines of an object, and their bytes, after which the object is not read further. Each
#: invalid line becomes a rejection, so 30 KB of gzip could otherwise cause millions of rejections.
MAX_INVALID_LINES = 10_000
MAX_INVALID_BYTES = 64 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
_INFLATE_STEP = 256 * 1024  # bytes; the limits are checked after each step
_GROUP_LINES = 1_000  # lines decoded together
_SALVAGE_STEPS = (4096, 64, 1)  # bytes
_SHOWN_BYTES = 4096  # of a line that is too long or cut off, kept in its rejection
_TOO_MANY_INVALID = (
    f"more than {MAX_INVALID_LINES:,} lines of the object, or {MAX_INVALID_BYTES:,} bytes of them, "
    "are invalid; the rest of it is not read"
)


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """An invalid line: a line of an archive object that is not a command."""

    #: Position in the object, from 0.
    number: int
    #: The line's bytes, or their beginning if the line is too long or its rest can't be read.
    raw: bytes
    code: str
    detail: str


Entry: TypeAlias = Command | InvalidLine


class _CorruptError(Exception):
    """The object's remaining bytes can't be read."""

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
    """Yield the entries of an archive object in chunks; an object always gives the same chunks.

    Bytes that are not an object of commands end with an `InvalidLine` for the rest; see
    MAX_OBJECT_BYTES.

    Args:
        blocks: the object's bytes, in blocks of any size.
        max_commands: maximum number of entries in a chunk.
        max_bytes: maximum bytes of lines in a chunk, unless a single line is longer.
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
    """Yield an object's lines and their entries in small groups; limits as in `read_chunks`."""
    number = 0
    try:
        for lines, entries in _decode_in_groups(_split_lines(_limit_size(_inflate(blocks)))):
            yield lines, entries
            number += len(lines)
    except _CorruptError as exc:
        remaining = exc.raw.rstrip(b"\n")
        (entry,) = _decode_entries(number, [remaining])
        if isinstance(entry, Command) and b"\n" not in remaining:  # complete except for its newline
            yield [remaining], [entry]
            number, remaining = number + 1, b""
        yield [remaining], [InvalidLine(number, remaining[:_SHOWN_BYTES], exc.code, str(exc))]


def is_damaged(blocks: Iterable[bytes]) -> bool:
    """Return whether an object's bytes can't be inflated wholly: cut off, damaged, or no gzip.

    An object that inflates to more than MAX_OBJECT_BYTES is damaged too. Lines are not decoded.
    """
    try:
        for _ in _limit_size(_inflate(blocks)):
            pass
    except _CorruptError:
        return True
    return False


def _decode_in_groups(
    line_lists: Iterable[list[bytes]],
) -> Iterator[tuple[list[bytes], list[Entry]]]:
    number, invalid_lines = 0, _InvalidLines()
    for lines in _split_lists(line_lists):
        entries = _decode_entries(number, lines)
        fitting = invalid_lines.note(entries)
        if fitting:
            yield lines[:fitting], entries[:fitting]
        if fitting < len(entries):
            raise _CorruptError("object_refused", _TOO_MANY_INVALID, lines[fitting])
        number += len(lines)


def _split_lists(line_lists: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Yield the lines in smaller lists: a step may hold 128 Ki lines, each a KiB when decoded."""
    for lines in line_lists:
        for start in range(0, len(lines), _GROUP_LINES):
            yield lines[start : start + _GROUP_LINES]


def _decode_entries(number: int, lines: Sequence[bytes]) -> list[Entry]:
    """The entries of consecutive lines, the first of which has the given number."""
    if max(map(len, lines)) >= MAX_LINE_BYTES:  # the newline is stripped already
        return [_decode_entry(number + place, line) for place, line in enumerate(lines)]
    return [
        InvalidLine(number + place, lines[place], entry.code, str(entry))
        if isinstance(entry, InvalidLineError)
        else entry
        for place, entry in enumerate(decode_all(lines))
    ]


@dataclass(slots=True)
class _InvalidLines:
    """Counts the invalid lines of an object."""

    lines: int = 0
    size: int = 0

    def note(self, entries: Sequence[Entry]) -> int:
        """Count invalid lines; return how many entries come before the limit is exceeded."""
        for place, entry in enumerate(entries):
            if isinstance(entry, InvalidLine):
                self.lines += 1
                self.size += len(entry.raw)
                if self.lines > MAX_INVALID_LINES or self.size > MAX_INVALID_BYTES:
                    return place
        return len(entries)


def _limit_size(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks; raises `_CorruptError` after MAX_OBJECT_BYTES."""
    size = 0
    for block in blocks:
        size += len(block)
        if size > MAX_OBJECT_BYTES:
            detail = (
                f"the object inflates to more than {MAX_OBJECT_BYTES:,} bytes, which no object of "
                "Forebay does; the rest of it is not read"
            )
            raise _CorruptError("object_too_large", detail)
        yield block


def _decode_entry(number: int, line: bytes) -> Entry:
    if len(line) >= MAX_LINE_BYTES:
        detail = f"the line is longer than {MAX_LINE_BYTES} bytes"
        return InvalidLine(number, line[:_SHOWN_BYTES], "line_too_long", detail)
    try:
        return decode(line)
    except InvalidLineError as exc:
        return InvalidLine(number, line, exc.code, str(exc))


def _split_lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield lists of lines without their newlines; no list is empty.

    Blank lines are skipped, and lines that are too long are truncated.
    """
    remaining = b""
    try:
        for block in blocks:
            *lines, remaining = (remaining + block).split(b"\n")
            complete = list(filter(None, lines))
            if complete:
                yield complete
            remaining = remaining[:MAX_LINE_BYTES]
    except _CorruptError as exc:
        if exc.raw and remaining:  # junk after a gzip member whose last line lacks its newline
            yield [remaining]
        exc.raw = exc.raw or remaining
        raise
    if remaining:
        yield [remaining]


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
                member = _open_member(pending)
            checkpoint = member.copy()
            try:
                inflated = member.decompress(pending, _INFLATE_STEP)
            except zlib.error as exc:
                yield from _salvage(checkpoint, pending)
                detail = f"the gzip data is corrupt: {exc}"
                raise _CorruptError("object_corrupt", detail) from None
            pending = member.unused_data if member.eof else member.unconsumed_tail
            member = None if member.eof else member
            if inflated:
                yield inflated
    if member is not None:
        yield member.flush()
    if pending or not (member is None or member.eof):
        raise _CorruptError("object_corrupt", "the gzip data is cut off")


def _open_member(data: bytes) -> zlib._Decompress:
    if not data.startswith(_GZIP_MAGIC):
        raise _CorruptError("object_not_gzip", "expected gzip data", data)
    return zlib.decompressobj(_GZIP_WBITS)


def _salvage(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Inflate the bytes before the corrupt bytes.

    A failing call returns no part of its step, so the steps get smaller.
    """
    for step in _SALVAGE_STEPS:
        while True:
            checkpoint = member.copy()
            try:
                inflated = member.decompress(data, step)
            except zlib.error:
                member = checkpoint
                break
            data = member.unconsumed_tail
            yield inflated
