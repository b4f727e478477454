"""Spreads the commands of an archive over files by the hash of their keys.

All commands of a key are in one file, and a file's keys fit into memory; so each file can be folded
by itself. Files that are too large are spread again.
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
from typing import BinaryIO, Self

#: Keys are counted and compared by slices; both sides compute them, see `SLICE_SQL`.
SLICES = 4096
_SLICE_BITS = 12
BUCKET_BYTES = 3 * 1024 * 1024  # of lines; the winners among them take about five times as much
_MAX_FILES = 512
_SPREAD = 16
_ZERO = ord("0")
_WRITE_BUFFER = 16 * 1024
_READ_BYTES = 256 * 1024
_MAX_DEPTH = 8  # bytes of the hash that a record keeps for further spreading

#: The slice of a key, made by Postgres; `{key}` is its text.
SLICE_SQL = (
    "(get_byte(sha256(convert_to({key}, 'UTF8')), 0) << 4"
    " | get_byte(sha256(convert_to({key}, 'UTF8')), 1) >> 4)"
)


class Kind(IntEnum):
    """What a record of a file is."""

    #: The id of a rejected command.
    REJECTED = 0
    #: A command of a part of the archive that the ledger calls applied.
    APPLIED = 1
    #: A command of a part that the ledger does not call applied (yet).
    UNAPPLIED = 2
    #: The id that the rejection of an unreadable line must have.
    BAD_LINE = 3
    #: The id of a rejection that the database has.
    IN_DATABASE = 4
    #: The id of a command that the archive calls rejected, of an object not yet applied as a whole.
    MAYBE_REJECTED = 5


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

    file: Path
    #: Of the first spreading: which of how many.
    index: int
    of: int
    #: Of each further spreading, which nibble of the hash.
    nibbles: tuple[int, ...] = ()

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

    def runs(self) -> Iterator[tuple[Kind, list[bytes]]]:
        """Contents of records of one kind that follow each other, in the order of their adding."""
        with self.file.open("rb") as file:
            while records := file.readlines(_READ_BYTES):
                for first, run in groupby(records, _first_byte):
                    yield Kind(first - _ZERO), [record[1 + _MAX_DEPTH * 2 : -1] for record in run]


_first_byte: Callable[[bytes], int] = itemgetter(0)


class Partition:
    """Files of commands below a folder of our own, removed at the end of the block."""

    def __init__(
        self, folder: Path, *, expected_bytes: int, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        """An empty one.

        Args:
            folder: made, and removed with everything in it.
            expected_bytes: of lines, roughly: decides the number of files.
            bucket_bytes: what a file should have at most.
        """
        self._folder = folder
        self._bucket_bytes = bucket_bytes
        self._of = max(1, min(_MAX_FILES, -(-expected_bytes // bucket_bytes)))
        self._files: list[BinaryIO] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, mode=0o700)
        self._files = [
            self._open.enter_context(path.open("wb", buffering=_WRITE_BUFFER))
            for path in map(self._path, range(self._of))
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, kind: Kind, key: str, content: bytes) -> None:
        """One more record; rejections come before the commands of their keys.

        Args:
            kind: of the record.
            key: the command's, as text.
            content: without a line feed.
        """
        self.add_all(kind, [(key, content)])

    def add_all(
        self, kind: Kind, records: Iterable[tuple[str, bytes]], prefix: bytes = b""
    ) -> None:
        """More records of one kind, as keys and contents; the prefix comes before each content."""
        files, of = self._files, self._of
        head = b"%d" % kind
        for key, content in records:
            digest = key_hash(key)
            number = (digest[0] << 4 | digest[1] >> 4) * of // SLICES
            rest = digest[2 : 2 + _MAX_DEPTH].hex().encode()
            files[number].write(b"%b%b%b%b\n" % (head, rest, prefix, content))

    def buckets(self) -> Iterator[Bucket]:
        """Every bucket, after the last `add`; one is there until the next is asked for."""
        for file in self._files:
            file.flush()
        for index in range(self._of):
            yield from self._spread(Bucket(self._path(index), index, self._of))

    def _spread(self, bucket: Bucket) -> Iterator[Bucket]:
        depth = len(bucket.nibbles)
        if bucket.file.stat().st_size <= 4 * self._bucket_bytes or depth >= _MAX_DEPTH:
            yield bucket
            return
        parts = [
            Bucket(
                bucket.file.with_name(f"{bucket.file.name}-{nibble:x}"),
                bucket.index,
                bucket.of,
                (*bucket.nibbles, nibble),
            )
            for nibble in range(_SPREAD)
        ]
        with ExitStack() as opened:
            files = [
                opened.enter_context(part.file.open("wb", buffering=_WRITE_BUFFER))
                for part in parts
            ]
            with bucket.file.open("rb") as whole_file:
                for record in whole_file:
                    files[int(record[2 + 2 * depth : 3 + 2 * depth], 16)].write(record)
        whole = bucket.file.stat().st_size
        for part in parts:
            # One key with a great many commands: spreading it further changes nothing.
            if part.file.stat().st_size == whole:
                yield part
            else:
                yield from self._spread(part)
            part.file.unlink()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:04d}"
