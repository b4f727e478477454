"""Spreads the commands of an archive over files by the hash of their keys.

All commands of a key are in one file, and a file's keys fit into memory; so each file can be folded
by itself. Files that are too large are spread again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
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

    def records(self) -> Iterator[tuple[Kind, bytes]]:
        """Kind and content of every record, in the order in which they were added."""
        with self.file.open("rb") as file:
            for record in file:
                yield Kind(record[0] - _ZERO), record[1 + _MAX_DEPTH * 2 : -1]


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
        digest = key_hash(key)
        number = (digest[0] << 4 | digest[1] >> 4) * self._of // SLICES
        rest = digest[2 : 2 + _MAX_DEPTH].hex().encode()
        self._files[number].write(b"%d%b%b\n" % (kind, rest, content))

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
