"""The durable log: records that were acknowledged and are not yet known to be in S3.

    SPOOL/lock                                   held by the server that uses the directory
    SPOOL/stream-NAME/stream.json                the stream's last usable configuration
    SPOOL/stream-NAME/00…01.4194304.sealed       the records of one object, and the file's length
    SPOOL/stream-NAME/00…02.open                 the segment that new records are appended to

A segment is sealed before its delivery and deleted after S3 has confirmed it, so a process killed
at any moment leaves exactly the records that may be missing in S3. All functions block: call them
off the event loop, one call at a time per stream.
"""

import fcntl
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.firehose.segment import (
    HEADER_BYTES,
    Record,
    SpoolCorruptError,
    encode_block,
    encode_header,
    read_records,
    scan,
)

logger = logging.getLogger(__name__)

sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync

_STREAM_PREFIX = "stream-"  # "." and ".." are valid stream names, but not directory names
_SEGMENT_NAME = re.compile(r"(?P<number>\d{20})\.(?:open|(?P<length>\d+)\.sealed)")


class SpoolUnusableError(Exception):
    """The spool directory can't be used at all; the message gives the reason."""


class SpoolWriteError(Exception):
    """The records were not stored (disk full …). A later retry may succeed."""


@dataclass(frozen=True)
class Segment:
    """A sealed segment: the records of an S3 object."""

    number: int
    path: Path
    segment_id: uuid.UUID
    length: int  #: bytes of the file that hold acknowledged records
    records: int
    data_bytes: int  #: size of the object before compression
    oldest_ms: int  #: arrival of the oldest record

    @property
    def object_id(self) -> uuid.UUID:
        """The id in the object's name: the same for every attempt to deliver these records.

        So an attempt with a lost answer is repeated onto the same object. The id depends on the
        length, because a seal that a power failure undid may be followed by more records, which
        must not go into an object that a consumer has already read.
        """
        return uuid.uuid5(self.segment_id, str(self.length))

    def read(self) -> Iterator[Record]:
        """Yield the segment's records in order of arrival."""
        return read_records(self.path, self.length)


@dataclass
class OpenSegment:
    """The segment that records are appended to. Changed by its StreamSpool only."""

    number: int
    path: Path
    segment_id: uuid.UUID
    descriptor: int
    length: int = HEADER_BYTES
    blocks: int = 0
    records: int = 0
    data_bytes: int = 0
    oldest_ms: int | None = None
    since: float = 0.0  #: time.monotonic() at the oldest record's arrival: clocks get set
    is_broken: bool = False  #: a sync or a rollback failed: it gets no more records

    def count(self, records: Sequence[Record], block_bytes: int) -> None:
        """Count `records`, which are durable now."""
        if self.oldest_ms is None:
            self.since = time.monotonic()
        self.length += block_bytes
        self.blocks += 1
        self.records += len(records)
        self.data_bytes += sum(len(record.data) for record in records)
        arrivals = [record.arrival_ms for record in records]
        self.oldest_ms = min(arrivals if self.oldest_ms is None else [self.oldest_ms, *arrivals])


class StreamSpool:
    """The segments of a delivery stream."""

    def __init__(self, directory: Path) -> None:
        """Recover the segments in `directory`; make it if it does not exist.

        Raises:
            SpoolCorruptError: acknowledged data is damaged.
            OSError: the directory can't be used.
        """
        self.directory = directory
        self.open_segment: OpenSegment | None = None
        self.sealed: list[Segment] = []
        self._last_number = 0
        if not directory.is_dir():
            directory.mkdir()
            _sync_directory(directory.parent)
        for path in sorted(directory.iterdir()):
            match = _SEGMENT_NAME.fullmatch(path.name)
            if match:
                self._recover(path, int(match["number"]), match["length"])

    def append(self, records: Sequence[Record]) -> None:
        """Store `records` durably: all of them, or none and an error.

        Raises:
            SpoolWriteError: the records were not stored; the spool is unchanged.
        """
        try:
            segment = self.open_segment or self._create()
            if segment.is_broken:
                raise SpoolWriteError(f"{segment.path} takes no more records")
            block = encode_block(segment.segment_id, segment.blocks, records)
            self._write(segment, block)
        except OSError as error:
            raise SpoolWriteError(f"{self.directory}: {error.strerror}") from error
        segment.count(records, len(block))

    def seal(self) -> Segment | None:
        """Close the open segment for delivery; return None if it holds no records.

        Raises:
            OSError: the file can't be renamed; the segment is still open.
        """
        segment = self.open_segment
        if segment is None or segment.oldest_ms is None:
            return None
        target = self.directory / f"{segment.number:020d}.{segment.length}.sealed"
        segment.path.rename(target)
        self.open_segment = None
        os.close(segment.descriptor)
        sealed = Segment(
            number=segment.number,
            path=target,
            segment_id=segment.segment_id,
            length=segment.length,
            records=segment.records,
            data_bytes=segment.data_bytes,
            oldest_ms=segment.oldest_ms,
        )
        self.sealed.append(sealed)
        return sealed

    def remove(self, segment: Segment) -> None:
        """Delete a segment that S3 has confirmed."""
        segment.path.unlink(missing_ok=True)
        self.sealed.remove(segment)

    def save_configuration(self, configuration: Mapping[str, Any]) -> None:
        """Save the stream's configuration for a start without the control plane."""
        temporary = self.directory / "stream.json.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(configuration, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.directory / "stream.json")
        _sync_directory(self.directory)

    def load_configuration(self) -> dict[str, Any] | None:
        """Return the configuration that was saved last, or None."""
        path = self.directory / "stream.json"
        try:
            configuration = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SpoolCorruptError(f"{path} is not JSON: {error}") from error
        if not isinstance(configuration, dict):
            raise SpoolCorruptError(f"{path} is not a JSON object")
        return configuration

    def close(self) -> None:
        """Close the file of the open segment, which stays on disk."""
        if self.open_segment is not None:
            os.close(self.open_segment.descriptor)
            self.open_segment = None

    def _create(self) -> OpenSegment:
        number = self._last_number + 1
        path = self.directory / f"{number:020d}.open"
        segment_id = uuid.uuid4()
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            _write_all(descriptor, encode_header(segment_id))
            # The first block's sync also writes the header, but not the file's name.
            _sync_directory(self.directory)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        self._last_number = number
        self.open_segment = OpenSegment(number, path, segment_id, descriptor)
        return self.open_segment

    def _write(self, segment: OpenSegment, block: bytes) -> None:
        try:
            _write_all(segment.descriptor, block)
        except OSError:
            self._roll_back(segment)
            raise
        try:
            sync_data(segment.descriptor)
        except OSError:
            # The kernel may have dropped the pages that it could not write, and it reports this
            # only once: no later write to this file could be trusted.
            segment.is_broken = True
            self._roll_back(segment)
            raise

    def _roll_back(self, segment: OpenSegment) -> None:
        try:
            os.ftruncate(segment.descriptor, segment.length)
        except OSError:
            segment.is_broken = True
        if segment.is_broken and segment.records == 0:
            self.close()
            segment.path.unlink()

    def _recover(self, path: Path, number: int, sealed_length: str | None) -> None:
        self._last_number = max(self._last_number, number)
        if sealed_length is not None:
            self._recover_sealed(path, number, int(sealed_length))
        elif path.stat().st_size < HEADER_BYTES:
            path.unlink()  # killed while creating it: it holds no acknowledged record
        else:
            self._recover_open(path, number)

    def _recover_sealed(self, path: Path, number: int, length: int) -> None:
        content = scan(path, length)
        if content.oldest_ms is None or content.length != length:
            raise SpoolCorruptError(f"{path} does not hold the {length} bytes that its name says")
        self.sealed.append(
            Segment(
                number=number,
                path=path,
                segment_id=content.segment_id,
                length=length,
                records=content.records,
                data_bytes=content.data_bytes,
                oldest_ms=content.oldest_ms,
            )
        )

    def _recover_open(self, path: Path, number: int) -> None:
        if self.open_segment is not None:
            raise SpoolCorruptError(f"{self.directory} holds two open segments")
        content = scan(path)
        torn_bytes = path.stat().st_size - content.length
        if torn_bytes:
            logger.warning("%s: cut off %d bytes never acknowledged", path, torn_bytes)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(descriptor, content.length)
        self.open_segment = OpenSegment(
            number=number,
            path=path,
            segment_id=content.segment_id,
            descriptor=descriptor,
            length=content.length,
            blocks=content.blocks,
            records=content.records,
            data_bytes=content.data_bytes,
            oldest_ms=content.oldest_ms,
            since=time.monotonic() - max(0.0, time.time() - (content.oldest_ms or 0) / 1000),
        )


class Spool:
    """The spool directory of a server."""

    def __init__(self, directory: Path) -> None:
        """Lock `directory` for this process; make it if it does not exist.

        Raises:
            SpoolUnusableError: the directory can't be written, or another server uses it.
        """
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise SpoolUnusableError(
                f"the spool directory {directory} can't be written: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SpoolUnusableError(
                f"the spool directory {directory} is in use by another server"
            ) from error

    def stream_names(self) -> list[str]:
        """Return the streams with records that an earlier process left in the spool."""
        return [
            directory.name.removeprefix(_STREAM_PREFIX)
            for directory in sorted(self.directory.glob(f"{_STREAM_PREFIX}*"))
            if any(_SEGMENT_NAME.fullmatch(path.name) for path in directory.iterdir())
        ]

    def stream(self, name: str) -> StreamSpool:
        """Open the spool of the stream `name`; raises the errors of StreamSpool."""
        return StreamSpool(self.directory / f"{_STREAM_PREFIX}{name}")

    def close(self) -> None:
        """Unlock the directory for other servers."""
        os.close(self._lock)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
