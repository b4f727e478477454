"""Reads an archive object as a stream: gunzip, split into lines, decode, group into chunks.

Memory is bounded by one chunk and one line, whatever the object's size, or what a hostile object
inflates to. What can't be read is handed on as a `BadLine`; it stops none of its neighbours.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from forebay.apply.outcome import BadLine, Entry
from forebay.codec import MAX_LINE_BYTES, decode, decode_all
from forebay.command import Command
from forebay.errors import UnreadableLine

CHUNK_COMMANDS = 10_000
CHUNK_BYTES = 8 * 1024 * 1024  # of lines; decoded they take about five times as much

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
_INFLATE_STEP = 256 * 1024  # bytes; a bomb inflates a step at a time, and we look after each
_SALVAGE_STEPS = (4096, 64, 1)  # bytes
_SHOWN_BYTES = 4096  # of a line that is too long or cut off, for the rejection


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
        for lines in _lines(_inflate(blocks)):
            entries = _entries(number, lines)
            yield lines, entries
            number += len(lines)
    except _CorruptError as exc:
        rest = exc.raw
        (last,) = _entries(number, [rest])
        if isinstance(last, Command):  # whole but for its newline
            yield [rest], [last]
            number, rest = number + 1, b""
        yield [rest], [BadLine(number, rest[:_SHOWN_BYTES], exc.code, str(exc))]


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
