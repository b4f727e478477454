"""The spool: records that were acknowledged and are not yet known to be in S3.

The directory belongs to one server, as the lock of the state folder and the port ensure.
A put is acknowledged after its transaction is synced. One thread makes all changes; the changes
that wait at the same time share a transaction, and so a sync.
"""

import asyncio
import logging
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import orjson

from local.errors import LocalStackError

logger = logging.getLogger(__name__)

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS objects (
  number INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  id TEXT NOT NULL,
  oldest_ms INTEGER NOT NULL,
  records INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  is_sealed INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS open_object ON objects (stream) WHERE NOT is_sealed;
CREATE TABLE IF NOT EXISTS puts (
  number INTEGER PRIMARY KEY,
  object INTEGER NOT NULL,
  sizes BLOB NOT NULL,
  data BLOB NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS puts_of_object ON puts (object);
"""
_ADD_TO_OPEN_OBJECT = """
INSERT INTO objects (stream, id, oldest_ms, records, bytes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (stream) WHERE NOT is_sealed
DO UPDATE SET records = records + excluded.records, bytes = bytes + excluded.bytes
RETURNING number, bytes
"""
_PUT = "INSERT INTO puts (object, sizes, data, checksum) VALUES (?, ?, ?, ?)"
_READ = "SELECT sizes, data, checksum FROM puts WHERE object = ? ORDER BY number"
_SEAL = "UPDATE objects SET is_sealed = 1 WHERE stream = ? AND NOT is_sealed"


class SpoolUnusableError(LocalStackError):
    """The spool directory can't be used at all; the message gives the reason."""


class SpoolCorruptError(LocalStackError):
    """Acknowledged data is damaged, by a disk fault or by hand; a retry does not help."""


class SpoolWriteError(Exception):
    """The change was not stored (disk full …). A later retry may succeed."""


class SpooledObject(NamedTuple):
    """The records of an S3 object."""

    number: int  #: increases from older to newer objects
    id: str  #: the UUID in the object's name, the same for every attempt to deliver it
    oldest_ms: int  #: arrival of the oldest record, UTC milliseconds since 1970
    records: int
    bytes: int  #: size before compression
    is_sealed: bool  #: it gets no more records, and waits for its delivery


class _Change(NamedTuple):
    make: Callable[[sqlite3.Connection], object]
    future: "Future[None]"


class Spool:
    """The spool directory of a server. Its futures raise SpoolWriteError."""

    def __init__(self, directory: Path) -> None:
        """Check the contents of `directory`; make it if it does not exist.

        Raises:
            SpoolUnusableError: it can't be used.
            SpoolCorruptError: acknowledged data is damaged.
        """
        #: Called in the spool's thread after changes.
        self.on_change: Callable[[], object] = lambda: None
        self.refusal: str | None = None  #: the reason why no records are stored now
        self._changes: SimpleQueue[_Change] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "spool")
        self._path = directory / "spool.sqlite3"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._path.touch(0o600)  # SQLite gives its other files the same mode
        except OSError as error:
            raise SpoolUnusableError(
                f"the spool directory {directory} can't be written: {error.strerror}"
            ) from error
        try:
            self._writer = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            self._writer.executescript(_SCHEMA)
            self._reader = sqlite3.connect(self._path, check_same_thread=False)
            self._check()
            if not self.streams():
                # Returns the space of delivered records to the file system.
                self._writer.executescript("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise SpoolUnusableError(
                f"the spool file {self._path} can't be used: {error}"
            ) from error
        except sqlite3.DatabaseError as error:
            raise SpoolCorruptError(f"{self._path} is damaged: {error}") from error

    def put(
        self, stream: str, records: Sequence[bytes], object_bytes: int
    ) -> "asyncio.Future[None]":
        """Store `records` durably, all or none; an open object of `object_bytes` is sealed."""
        arrival_ms = time.time_ns() // 1_000_000
        data = b"".join(records)
        sizes = orjson.dumps([len(record) for record in records])
        checksum = _compute_checksum(sizes, data)
        addition = (stream, str(uuid.uuid4()), arrival_ms, len(records), len(data))

        def make(connection: sqlite3.Connection) -> None:
            number, size = connection.execute(_ADD_TO_OPEN_OBJECT, addition).fetchone()
            connection.execute(_PUT, (number, sizes, data, checksum))
            if size >= object_bytes:
                connection.execute(_SEAL, (stream,))

        return self._submit(make)

    def seal(self, stream: str) -> "asyncio.Future[None]":
        """End the stream's open object, if there is one, so that it can be delivered."""
        return self._submit(lambda connection: connection.execute(_SEAL, (stream,)))

    def remove(self, item: SpooledObject) -> "asyncio.Future[None]":
        """Delete an object that S3 has confirmed."""

        def make(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM puts WHERE object = ?", (item.number,))
            connection.execute("DELETE FROM objects WHERE number = ?", (item.number,))

        return self._submit(make)

    def streams(self) -> list[str]:
        """Return the names of the streams that have records."""
        rows = self._reader.execute("SELECT DISTINCT stream FROM objects ORDER BY stream")
        return [stream for (stream,) in rows]

    def objects(self, stream: str) -> list[SpooledObject]:
        """Return the stream's objects, oldest first; only the last may be open."""
        rows = self._reader.execute(
            "SELECT number, id, oldest_ms, records, bytes, is_sealed FROM objects "
            "WHERE stream = ? ORDER BY number",
            (stream,),
        )
        return [SpooledObject(*row) for row in rows]

    def read(self, item: SpooledObject) -> list[bytes]:
        """Return an object's records in the order of arrival. May be called on any thread.

        Raises:
            SpoolCorruptError: they are damaged, or can't be read.
        """
        records: list[bytes] = []
        try:
            with closing(sqlite3.connect(self._path)) as connection:
                for sizes, data, checksum in connection.execute(_READ, (item.number,)):
                    if _compute_checksum(sizes, data) != checksum:
                        break
                    ends = accumulate(orjson.loads(sizes), initial=0)
                    records += [data[start:end] for start, end in pairwise(ends)]
        except sqlite3.Error as error:
            raise SpoolCorruptError(f"{self._path}: {error}") from error
        if len(records) != item.records:
            raise SpoolCorruptError(f"{self._path} is damaged in object {item.id}")
        return records

    def close(self) -> None:
        """Make the submitted changes, and close the files. Blocks."""
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()

    def _submit(self, make: Callable[[sqlite3.Connection], object]) -> "asyncio.Future[None]":
        future: Future[None] = Future()
        self._changes.put(_Change(make, future))
        self._thread.submit(self._make_changes)
        return asyncio.wrap_future(future)

    def _make_changes(self) -> None:
        """Make all waiting changes; the calls for the later of them then find none."""
        changes = [self._changes.get() for _ in range(self._changes.qsize())]
        # Without those of a caller that has left.
        group = [change for change in changes if change.future.set_running_or_notify_cancel()]
        if group:
            try:
                self._commit(group)
            except Exception as error:  # noqa: BLE001 - a defect: each caller raises it
                for change in group:
                    if not change.future.done():
                        change.future.set_exception(error)
            self.on_change()

    def _commit(self, group: list[_Change]) -> None:
        """Make the changes of `group` in one transaction."""
        try:
            with self._writer:
                for change in group:
                    change.make(self._writer)
        except (sqlite3.Error, OSError) as error:
            self._refuse(group, str(error))
            return
        if self.refusal is not None:
            logger.warning("%s takes records again", self._path)
            self.refusal = None
        for change in group:
            change.future.set_result(None)

    def _refuse(self, group: list[_Change], reason: str) -> None:
        if self.refusal is None:  # log once, not for every put that a full disk refuses
            logger.warning("%s takes no records: %s", self._path, reason)
        self.refusal = f"{self._path}: {reason}"
        for change in group:
            change.future.set_exception(SpoolWriteError(self.refusal))

    def _check(self) -> None:
        """Raise SpoolCorruptError if a record can't be read."""
        for (problem,) in self._reader.execute("PRAGMA quick_check(1)"):
            if problem != "ok":
                raise SpoolCorruptError(f"{self._path} is damaged: {problem}")
        for stream in self.streams():
            for item in self.objects(stream):
                self.read(item)


def _compute_checksum(sizes: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(sizes))
