"""The file format of the spool: one segment holds the records of one future S3 object.

    segment = header, block, block …
    header  = MAGIC, segment id (16 bytes), CRC-32 of these
    block   = "FHBK", segment id, block number, payload length, CRC-32 of the rest; payload
    payload = per record: arrival (ms since 1970), length, data

One sync makes one block durable, so either all of its puts are acknowledged or none. Numbers are
big-endian. Every block holds the segment id, so that record data can't be mistaken for a block.
"""

import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"forebay-firehose-spool-1\n"
HEADER_BYTES = len(MAGIC) + 16 + 4

_BLOCK_MAGIC = b"FHBK"
_BLOCK = struct.Struct(">4s16sIII")
_RECORD = struct.Struct(">QI")
_CRC = struct.Struct(">I")


class SpoolCorruptError(Exception):
    """A spool file is damaged; the message names the file and the position.

    Retrying does not help: a disk fault or a manual change has damaged acknowledged data.
    """


class Record(NamedTuple):
    """One accepted record."""

    arrival_ms: int  #: time of arrival at the server, UTC milliseconds since 1970
    data: bytes


@dataclass(frozen=True)
class Contents:
    """The result of scanning a segment."""

    segment_id: uuid.UUID
    length: int  #: bytes of the file up to the end of the last complete block
    blocks: int
    records: int
    data_bytes: int
    oldest_ms: int | None


def encode_header(segment_id: uuid.UUID) -> bytes:
    """Return the header of a segment."""
    start = MAGIC + segment_id.bytes
    return start + _CRC.pack(zlib.crc32(start))


def encode_block(segment_id: uuid.UUID, number: int, records: Sequence[Record]) -> bytes:
    """Encode `records` as block `number` (from 0) of a segment."""
    parts = []
    for record in records:
        parts.append(_RECORD.pack(record.arrival_ms, len(record.data)))
        parts.append(record.data)
    payload = b"".join(parts)
    return _pack_block_header(segment_id, number, payload) + payload


def read_records(path: Path, length: int) -> Iterator[Record]:
    """Yield the records in the segment's first `length` bytes, in order of arrival.

    Raises:
        SpoolCorruptError: those bytes are not complete blocks.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path)
        while reader.length < length:
            block = reader.next_block()
            if block is None or reader.length > length:
                raise SpoolCorruptError(f"{path} is damaged in block {reader.blocks}")
            yield from block


def scan(path: Path, sealed_length: int | None = None) -> Contents:
    """Read a whole segment and summarize its contents.

    An open segment (no `sealed_length`) may end in a torn block, which a killed process was
    writing and never acknowledged: the result's length excludes it. A sealed segment may not.

    Raises:
        SpoolCorruptError: acknowledged data is damaged.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path)
        records, data_bytes = 0, 0
        oldest_ms: int | None = None
        while sealed_length is None or reader.length < sealed_length:
            block = reader.next_block()
            if block is None:
                if sealed_length is not None or reader.has_later_block():
                    raise SpoolCorruptError(
                        f"{path} is damaged in block {reader.blocks}, at byte {reader.length}"
                    )
                break
            records += len(block)
            data_bytes += sum(len(record.data) for record in block)
            arrivals = [record.arrival_ms for record in block]
            oldest_ms = min(arrivals if oldest_ms is None else [oldest_ms, *arrivals])
        return Contents(
            segment_id=reader.segment_id,
            length=reader.length,
            blocks=reader.blocks,
            records=records,
            data_bytes=data_bytes,
            oldest_ms=oldest_ms,
        )


class _Reader:
    """A reader of a segment's blocks, in order."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        header = file.read(HEADER_BYTES)
        self.segment_id = uuid.UUID(bytes=header[len(MAGIC) : len(MAGIC) + 16].ljust(16, b"\0"))
        if header != encode_header(self.segment_id):
            raise SpoolCorruptError(f"{path} does not begin as a spool segment does")
        self._file = file
        self.length = HEADER_BYTES  #: bytes of the complete blocks read so far, with the header
        self.blocks = 0

    def next_block(self) -> list[Record] | None:
        """Return the next block's records, or None if no complete block follows."""
        records = self._read_block_at(self.length, self.blocks)
        if records is not None:
            self.length = self._file.tell()
            self.blocks += 1
        return records

    def has_later_block(self) -> bool:
        """Return whether a complete block follows the invalid bytes that stopped `next_block`.

        A block is written only after the previous block was synced. So a complete later block
        proves that the invalid bytes were acknowledged; without it, they are a torn last write.
        """
        self._file.seek(self.length)
        tail = self._file.read()
        block_start = _BLOCK_MAGIC + self.segment_id.bytes
        start = tail.find(block_start, 1)
        while start >= 0:
            number = _BLOCK.unpack_from(tail.ljust(start + _BLOCK.size, b"\0"), start)[2]
            if (
                number > self.blocks
                and self._read_block_at(self.length + start, number) is not None
            ):
                return True
            start = tail.find(block_start, start + 1)
        return False

    def _read_block_at(self, offset: int, number: int) -> list[Record] | None:
        self._file.seek(offset)
        header = self._file.read(_BLOCK.size)
        if len(header) < _BLOCK.size:
            return None
        payload_bytes = _BLOCK.unpack(header)[3]
        payload = self._file.read(payload_bytes)
        if header != _pack_block_header(self.segment_id, number, payload):
            return None
        return list(_split(payload))


def _pack_block_header(segment_id: uuid.UUID, number: int, payload: bytes) -> bytes:
    start = _BLOCK.pack(_BLOCK_MAGIC, segment_id.bytes, number, len(payload), 0)
    crc = zlib.crc32(payload, zlib.crc32(start))
    return _BLOCK.pack(_BLOCK_MAGIC, segment_id.bytes, number, len(payload), crc)


def _split(payload: bytes) -> Iterator[Record]:
    position = 0
    while position < len(payload):
        arrival_ms, data_bytes = _RECORD.unpack_from(payload, position)
        position += _RECORD.size
        yield Record(arrival_ms, payload[position : position + data_bytes])
        position += data_bytes
