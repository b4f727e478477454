"""Spread the commands of an archive over files by the hash of their keys.

All commands of a key are in the same file, and the keys of a file fit into memory; so each file can
be folded by itself. Files that are too large are spread again. They hold decoded commands
(MessagePack), which are read in a third of the time that lines of the archive take.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias

import msgspec

#: Keys are counted and compared by slices, which Python and Postgres both compute: see `SLICE_SQL`.
SLICES = 4096
#: Size of a bucket's records; its winners take about eight times as much memory.
BUCKET_BYTES = 2 * 1024 * 1024
_MAX_FILES = 512
_SPREAD = 16
_MAX_DEPTH = 8  # bytes of the hash that a record keeps for further spreading
#: Size of the lines with records that a writer collects before it writes them.
_PENDING_BYTES = 2 * 1024 * 1024
_WRITE_BUFFER = 4096  # bytes
_LENGTH_BYTES = 8  # before a block of records

#: The content of a record: an id, or the number of an object and one of its entries.
Content: TypeAlias = Any
_Record: TypeAlias = tuple[int, bytes, Content]

#: The slice of a key, computed by Postgres; `{key}` is the key's text.
SLICE_SQL = (
    "(get_byte(sha256(convert_to({key}, 'UTF8')), 0) << 4"
    " | get_byte(sha256(convert_to({key}, 'UTF8')), 1) >> 4)"
)


class Kind(IntEnum):
    """The kind of a record in a file."""

    #: The id of a rejected command.
    REJECTED = 0
    #: The number of the object and the members of a command that the ledger calls applied.
    APPLIED = 1
    #: The same of a command that the ledger does not call applied (yet).
    UNAPPLIED = 2
    #: The number of an invalid line's object, and a `LineFault`.
    INVALID_LINE = 3
    #: The id of a rejection that the database has.
    IN_DATABASE = 4
    #: The id of a command that the archive calls rejected, in an entry that the database had not
    #: taken over yet.
    MAYBE_REJECTED = 5
    #: The id of a command that only this database has rejected, as it does not own the archive.
    PRIVATELY_REJECTED = 6
    #: The members of an effect of a decided command (`forebay.decisions.effects`).
    EFFECT = 7
    #: The same of an effect that the database has, but not from an entry it has taken over.
    OWN_EFFECT = 8
    #: The same from an entry of the log that the database had not taken over yet.
    MAYBE_EFFECT = 9
    #: A row of `forebay.edits` in the database; see `ops.verify.edits`.
    EDITS = 10


def hash_key(key: str) -> bytes:
    """Return the hash that decides in which file and slice a key is."""
    return hashlib.sha256(key.encode()).digest()


def find_slice(key: str) -> int:
    """Return the slice of a key, from 0 to `SLICES - 1`."""
    digest = hash_key(key)
    return digest[0] << 4 | digest[1] >> 4


@dataclass(frozen=True, slots=True)
class Bucket:
    """The commands of some keys."""

    #: In the order in which their records count.
    files: tuple[Path, ...]
    #: Number of the bucket in the first spreading, and the count of buckets there.
    index: int
    of: int
    #: The nibble of the hash in each further spreading.
    nibbles: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The size of its files."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def slices(self) -> range:
        """The slices in which keys of this bucket can be."""
        first = -(-self.index * SLICES // self.of)
        return range(first, -(-(self.index + 1) * SLICES // self.of))

    def holds(self, key: str) -> bool:
        """Return whether commands of the key belong to this bucket."""
        digest = hash_key(key)
        number = digest[0] << 4 | digest[1] >> 4
        return number in self.slices and all(
            digest[2 + depth] % _SPREAD == nibble for depth, nibble in enumerate(self.nibbles)
        )

    def runs(self) -> Iterator[tuple[Kind, list[Content]]]:
        """Yield the contents of adjacent records of the same kind, in the order of their adding."""
        for records in _read_blocks(self.files):
            for kind, run in groupby(records, _kind_of):
                yield Kind(kind), [content for _, _, content in run]


_encode: Callable[[list[_Record]], bytes] = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], list[_Record]] = msgspec.msgpack.Decoder(
    list[tuple[int, bytes, Any]]
).decode
_kind_of: Callable[[_Record], int] = itemgetter(0)


def _read_blocks(files: Iterable[Path]) -> Iterator[list[_Record]]:
    for path in files:
        place = 0
        while block := _read_block(path, place):
            place += _LENGTH_BYTES + len(block)
            yield _decode(block)


def _read_block(path: Path, place: int) -> bytes:
    """Read the block that begins at a place; empty at the end of the file.

    The file is not kept open: after an error, a generator may be closed long after.
    """
    with path.open("rb") as file:
        file.seek(place)
        return file.read(int.from_bytes(file.read(_LENGTH_BYTES)))


def _write(file: BinaryIO, records: list[_Record]) -> None:
    block = _encode(records)
    file.write(len(block).to_bytes(_LENGTH_BYTES) + block)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a partition: each writer has a file for each bucket."""

    folder: Path
    of: int
    writers: int = 1
    bucket_bytes: int = BUCKET_BYTES

    def path(self, index: int, writer: int) -> Path:
        """Return the file for a writer's records of a bucket."""
        return self.folder / f"{index:04d}.{writer:02d}"

    def buckets(self, index: int) -> Iterator[Bucket]:
        """Yield a bucket, or its parts if it is too large.

        Each of them exists until the next is requested.
        """
        files = tuple(self.path(index, writer) for writer in range(self.writers))
        yield from self._spread_bucket(Bucket(files, index, self.of))

    def _spread_bucket(self, bucket: Bucket) -> Iterator[Bucket]:
        depth = len(bucket.nibbles)
        size_bytes = bucket.size_bytes
        if size_bytes <= 4 * self.bucket_bytes or depth >= _MAX_DEPTH:
            yield bucket
            return
        name = bucket.files[0].name
        parts = [
            Bucket(
                (self.folder / f"{name}-{nibble:x}",),
                bucket.index,
                bucket.of,
                (*bucket.nibbles, nibble),
            )
            for nibble in range(_SPREAD)
        ]
        with ExitStack() as resources:
            files = [resources.enter_context(part.files[0].open("wb")) for part in parts]
            for records in _read_blocks(bucket.files):
                shares: list[list[_Record]] = [[] for _ in parts]
                for record in records:
                    shares[record[1][depth] % _SPREAD].append(record)
                for file, share in zip(files, shares, strict=True):
                    if share:
                        _write(file, share)
        for part in parts:
            # A single key with very many commands: further spreading would have no effect.
            if part.size_bytes == size_bytes:
                yield part
            else:
                yield from self._spread_bucket(part)
            part.files[0].unlink()


class Writer:
    """Writes records into a partition's files; all are written at the end of the `with` block."""

    def __init__(self, files: Files, number: int) -> None:
        """Create one of the partition's writers.

        Args:
            files: files in an existing folder.
            number: the writer's number; the records of lower numbers count as older.
        """
        self._where = files
        self._number = number
        self._files: list[BinaryIO] = []
        self._pending: list[list[_Record]] = [[] for _ in range(files.of)]
        self._pending_bytes = 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        paths = [self._where.path(index, self._number) for index in range(self._where.of)]
        self._files = [
            self._open.enter_context(path.open("wb", buffering=_WRITE_BUFFER)) for path in paths
        ]
        return self

    def __exit__(self, *failed: object) -> None:
        with self._open:
            if failed == (None, None, None):
                self.flush()

    def flush(self) -> None:
        """Write all collected records to the files."""
        for file, records in zip(self._files, self._pending, strict=True):
            if records:
                _write(file, records)
                file.flush()
                records.clear()
        self._pending_bytes = 0

    def add(self, kind: Kind, key: str, content: Content) -> None:
        """Add a record; decisions must come before the commands of their keys.

        Args:
            kind: the kind of the record.
            key: the command's key, as text.
            content: the content that the kind requires.
        """
        self.add_all(kind, [(key, content)], size_bytes=len(key))

    def add_all(
        self, kind: Kind, records: Iterable[tuple[str, Content]], *, size_bytes: int
    ) -> None:
        """Add records of one kind, as pairs of key and content.

        Args:
            kind: the kind of the records.
            records: keys, as text, and the contents that the kind requires.
            size_bytes: the approximate size of the contents.
        """
        pending, bucket_count = self._pending, self._where.of
        for key, content in records:
            digest = hash_key(key)
            number = (digest[0] << 4 | digest[1] >> 4) * bucket_count // SLICES
            pending[number].append((kind, digest[2 : 2 + _MAX_DEPTH], content))
        self._pending_bytes += size_bytes
        if self._pending_bytes > _PENDING_BYTES:
            self.flush()


class Partition:
    """Files of commands in a folder of their own, removed at the end of the `with` block."""

    def __init__(
        self,
        folder: Path,
        *,
        expected_bytes: int,
        bucket_bytes: int = BUCKET_BYTES,
        writers: int = 1,
    ) -> None:
        """Prepare an empty partition.

        Args:
            folder: created, and removed with its content.
            expected_bytes: the approximate size of the lines; it determines the number of files.
            bucket_bytes: the intended maximum of a file's size.
            writers: the number of writers. A single writer is `self.writer`; several are opened by
                their users, since a process has a limited number of open files.
        """
        bucket_count = max(1, min(_MAX_FILES, -(-expected_bytes // bucket_bytes)))
        self.files = Files(folder, bucket_count, writers, bucket_bytes)
        self.writer = Writer(self.files, 0)

    def __enter__(self) -> Self:
        self.files.folder.mkdir(parents=True, mode=0o700)
        if self.files.writers == 1:
            self.writer.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        if self.files.writers == 1:
            self.writer.__exit__(*failed)
        shutil.rmtree(self.files.folder, ignore_errors=True)

    def buckets(self) -> Iterator[Bucket]:
        """Yield every bucket; call it after the last `add`.

        Each bucket exists until the next is requested.
        """
        if self.files.writers == 1:
            self.writer.flush()
        for index in range(self.files.of):
            yield from self.files.buckets(index)
