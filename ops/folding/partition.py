"""Spreads the commands of an archive over files by the hash of their keys.

All commands of a key are in one file, and a file's keys fit into memory; so each file can be folded
by itself. Files that are too large are spread again. They hold commands as they were decoded
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

#: Keys are counted and compared by slices; both sides compute them, see `SLICE_SQL`.
SLICES = 4096
_SLICE_BITS = 12
#: Of records; the winners among them take about eight times as much.
BUCKET_BYTES = 2 * 1024 * 1024
_MAX_FILES = 512
_SPREAD = 16
_MAX_DEPTH = 8  # bytes of the hash that a record keeps for further spreading
#: Of lines, whose records a writer holds back to write many at once.
_PENDING_BYTES = 2 * 1024 * 1024
_WRITE_BUFFER = 4096  # bytes
_LENGTH_BYTES = 8  # before a block of records

#: What a record says: an id, or the number of an object and what is in it.
Content: TypeAlias = Any
_Record: TypeAlias = tuple[int, bytes, Content]

#: The slice of a key, made by Postgres; `{key}` is its text.
SLICE_SQL = (
    "(get_byte(sha256(convert_to({key}, 'UTF8')), 0) << 4"
    " | get_byte(sha256(convert_to({key}, 'UTF8')), 1) >> 4)"
)


class Kind(IntEnum):
    """What a record of a file is."""

    #: The id of a rejected command.
    REJECTED = 0
    #: A command's object and members, of a part of the archive that the ledger calls applied.
    APPLIED = 1
    #: The same of a part that the ledger does not call applied (yet).
    UNAPPLIED = 2
    #: The number of an invalid line's object, and an `InvalidLine`.
    BAD_LINE = 3
    #: The id of a rejection that the database has.
    IN_DATABASE = 4
    #: The id of a command that the archive calls rejected, in an entry that the database had not
    #: taken over yet.
    MAYBE_REJECTED = 5
    #: The id of a command that this database alone has rejected, for it does not own the archive.
    OWN_REJECTED = 6


def key_hash(key: str) -> bytes:
    """What decides where a key's commands go."""
    return hashlib.sha256(key.encode()).digest()


def slice_of(key: str) -> int:
    """The slice of a key, from 0 to `SLICES - 1`."""
    digest = key_hash(key)
    return digest[0] << 4 | digest[1] >> 4


@dataclass(frozen=True, slots=True)
class Bucket:
    """The commands of some keys."""

    #: In the order in which their records count.
    files: tuple[Path, ...]
    #: Of the first spreading: which of how many.
    index: int
    of: int
    #: Of each further spreading, which nibble of the hash.
    nibbles: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def slices(self) -> range:
        """Slices that keys of this bucket may be in."""
        first = -(-self.index * SLICES // self.of)
        return range(first, -(-(self.index + 1) * SLICES // self.of))

    def holds(self, key: str) -> bool:
        """Whether commands of that key belong here."""
        digest = key_hash(key)
        number = digest[0] << 4 | digest[1] >> 4
        return number in self.slices and all(
            digest[2 + depth] % _SPREAD == nibble for depth, nibble in enumerate(self.nibbles)
        )

    def runs(self) -> Iterator[tuple[Kind, list[Content]]]:
        """Contents of records of one kind that follow each other, in the order of their adding."""
        for records in _blocks(self.files):
            for kind, run in groupby(records, _kind_of):
                yield Kind(kind), [content for _, _, content in run]


_encode: Callable[[list[_Record]], bytes] = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], list[_Record]] = msgspec.msgpack.Decoder(
    list[tuple[int, bytes, Any]]
).decode
_kind_of: Callable[[_Record], int] = itemgetter(0)


def _blocks(files: Iterable[Path]) -> Iterator[list[_Record]]:
    for path in files:
        with path.open("rb") as file:
            while length := file.read(_LENGTH_BYTES):
                yield _decode(file.read(int.from_bytes(length)))


def _write(file: BinaryIO, records: list[_Record]) -> None:
    block = _encode(records)
    file.write(len(block).to_bytes(_LENGTH_BYTES) + block)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the records of a partition are: each writer has a file for each bucket."""

    folder: Path
    of: int
    writers: int = 1
    bucket_bytes: int = BUCKET_BYTES

    def path(self, index: int, writer: int) -> Path:
        """The file of a writer's records of a bucket."""
        return self.folder / f"{index:04d}.{writer:02d}"

    def buckets(self, index: int) -> Iterator[Bucket]:
        """A bucket, or several if it is too large; each is there until the next is asked for."""
        files = tuple(self.path(index, writer) for writer in range(self.writers))
        yield from self._spread(Bucket(files, index, self.of))

    def _spread(self, bucket: Bucket) -> Iterator[Bucket]:
        depth = len(bucket.nibbles)
        whole = bucket.size_bytes
        if whole <= 4 * self.bucket_bytes or depth >= _MAX_DEPTH:
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
        with ExitStack() as opened:
            written = [opened.enter_context(part.files[0].open("wb")) for part in parts]
            for records in _blocks(bucket.files):
                shares: list[list[_Record]] = [[] for _ in parts]
                for record in records:
                    shares[record[1][depth] % _SPREAD].append(record)
                for file, share in zip(written, shares, strict=True):
                    if share:
                        _write(file, share)
        for part in parts:
            # One key with a great many commands: spreading it further changes nothing.
            if part.size_bytes == whole:
                yield part
            else:
                yield from self._spread(part)
            part.files[0].unlink()


class Writer:
    """Writes records into a partition's files; they are there when the block ends."""

    def __init__(self, files: Files, number: int) -> None:
        """One of its writers.

        Args:
            files: in a folder that is there.
            number: which of the partition's writers; the records of lower ones count as older.
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
        """Has all records in the files."""
        for file, records in zip(self._files, self._pending, strict=True):
            if records:
                _write(file, records)
                file.flush()
                records.clear()
        self._pending_bytes = 0

    def add(self, kind: Kind, key: str, content: Content) -> None:
        """One more record; rejections come before the commands of their keys.

        Args:
            kind: of the record.
            key: the command's, as text.
            content: as the kind says.
        """
        self.add_all(kind, [(key, content)], size_bytes=len(key))

    def add_all(
        self, kind: Kind, records: Iterable[tuple[str, Content]], *, size_bytes: int
    ) -> None:
        """More records of one kind, as keys and contents.

        Args:
            kind: of the records.
            records: keys, as text, and contents as the kind says.
            size_bytes: of what the contents are made of, roughly.
        """
        pending, of = self._pending, self._where.of
        for key, content in records:
            digest = key_hash(key)
            number = (digest[0] << 4 | digest[1] >> 4) * of // SLICES
            pending[number].append((kind, digest[2 : 2 + _MAX_DEPTH], content))
        self._pending_bytes += size_bytes
        if self._pending_bytes > _PENDING_BYTES:
            self.flush()


class Partition:
    """Files of commands below a folder of our own, removed at the end of the block."""

    def __init__(
        self,
        folder: Path,
        *,
        expected_bytes: int,
        bucket_bytes: int = BUCKET_BYTES,
        writers: int = 1,
    ) -> None:
        """An empty one.

        Args:
            folder: made, and removed with everything in it.
            expected_bytes: of lines, roughly: decides the number of files.
            bucket_bytes: what a file should have at most.
            writers: how many there are. A single one is `self.writer`; others are opened by who
                writes, for a process may have so many files only.
        """
        of = max(1, min(_MAX_FILES, -(-expected_bytes // bucket_bytes)))
        self.files = Files(folder, of, writers, bucket_bytes)
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
        """Every bucket, after the last `add`; one is there until the next is asked for."""
        if self.files.writers == 1:
            self.writer.flush()
        for index in range(self.files.of):
            yield from self.files.buckets(index)
