"""One delivery stream: accepts records, buffers them on disk, and delivers them to S3."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.firehose.commits import GroupCommit
from local.firehose.delivery import (
    DeliveryError,
    make_object,
    put_object,
    read_segment,
    retry_seconds,
)
from local.firehose.faults import Faults
from local.firehose.segment import Record
from local.firehose.spool import Segment, SpoolWriteError, StreamSpool
from local.firehose.streams import (
    MIB,
    ControlPlaneError,
    StreamConfig,
    StreamError,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

ZERO_BUFFERING_SECONDS = 1.0  # AWS: an interval of 0 delivers "within a few seconds"
UNDELIVERED_BEFORE_GROWTH = 2  # with this many sealed objects waiting, the buffer grows instead
GROWN_OBJECT_BYTES = 128 * MIB  # … to this size at most (AWS: "raises the buffer size dynamically")
SEAL_RETRY_SECONDS = 1.0
FLUSH_RETRY_SECONDS = 0.5  # shorter, because a client waits for the flush


@dataclass(frozen=True)
class Equipment:
    """Resources that all streams of a server share."""

    s3: "S3Client"
    faults: Faults
    disk_threads: Executor  #: syncs must never queue behind a hanging S3 call
    s3_threads: Executor
    describe: Callable[[str], Awaitable[StreamConfig]]  #: raises StreamError
    refresh_seconds: float
    on_task_end: Callable[[asyncio.Task[None]], None]  #: called when a background task ends


class DeliveryStream:
    """One delivery stream. Call its methods on one event loop only."""

    def __init__(self, spool: StreamSpool, config: StreamConfig, equipment: Equipment) -> None:
        self.config = config  #: the last usable configuration, also for records buffered earlier
        self.problem: StreamError | None = None  #: the reason why the stream accepts no records now
        self._spool = spool
        self._equipment = equipment
        self._commits = GroupCommit(self._store, self._compute_room)
        self._spool_lock = asyncio.Lock()  # the spool allows one call at a time
        self._buffer_changed = asyncio.Event()
        self._hurry = asyncio.Event()  # set by a flush, to end a back-off early
        self._sealed_changed = asyncio.Condition()
        self._late_copies: list[Record] = []
        self._held_back: set[int] = set()
        self._flushes = 0
        self._failures = 0
        self._delivered_objects = 0
        self._delivered_records = 0
        self._last_error: str | None = None
        self._refusal: str | None = None  # the reason why the spool stores no records now
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to commit, buffer and deliver."""
        loops = (self._commits.run, self._seal_when_due, self._deliver, self._keep_refreshed)
        self._tasks = [asyncio.create_task(loop()) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(self._equipment.on_task_end)

    async def stop(self) -> None:
        """Stop delivering; buffered records stay in the spool."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._spool_lock:
            self._spool.close()

    async def put(self, records: Sequence[bytes]) -> None:
        """Return when `records` are durable.

        Raises:
            SpoolWriteError: none of the records was stored.
        """
        arrival_ms = time.time_ns() // 1_000_000
        accepted = [Record(arrival_ms, data) for data in records]
        await self._commits.add(self._add_copies(accepted))

    async def flush(self) -> None:
        """Return when S3 has every record that was acknowledged before the call."""
        self._flushes += 1
        try:
            await self._seal()
            await self._seal()  # copies that the fault `duplicate` held back for a later object
            newest = max((segment.number for segment in self._spool.sealed), default=0)
            self._hurry.set()
            async with self._sealed_changed:
                self._sealed_changed.notify_all()
                await self._sealed_changed.wait_for(
                    lambda: all(segment.number > newest for segment in self._spool.sealed)
                )
        finally:
            self._flushes -= 1

    async def refresh(self) -> None:
        """Update the configuration from the control plane, if that answers."""
        try:
            config = await self._equipment.describe(self.config.name)
        except ControlPlaneError:
            return  # as on AWS, puts and deliveries do not need the control plane
        except StreamError as error:
            self.problem = error
            return
        self.problem = None
        if config != self.config:
            self.config = config
            self._buffer_changed.set()
            await self._save_configuration()

    def status(self) -> dict[str, Any]:
        """Return the stream's part of the answer to `GET /_status`."""
        sealed = self._spool.sealed
        buffer = self._spool.open_segment
        oldest = [segment.oldest_ms for segment in sealed]
        if buffer is not None and buffer.oldest_ms is not None:
            oldest.append(buffer.oldest_ms)
        return {
            "configuration": self.config.as_dict(),
            "problem": None if self.problem is None else str(self.problem),
            "buffered_records": self._count_buffered_records() + sum(s.records for s in sealed),
            "buffered_bytes": (buffer.data_bytes if buffer else 0)
            + sum(s.data_bytes for s in sealed),
            "objects_waiting": len(sealed),
            "oldest_age_seconds": round(time.time() - min(oldest) / 1000, 3) if oldest else None,
            "delivered_objects": self._delivered_objects,
            "delivered_records": self._delivered_records,
            "last_error": self._refusal or self._last_error,
        }

    # Accepting

    def _add_copies(self, records: list[Record]) -> list[Record]:
        """Apply the fault `duplicate`: add copies to these records or to a later object."""
        faults = self._equipment.faults
        probability = faults.settings.duplicate
        copies = [record for record in records if faults.happens(probability)]
        for copy in copies:
            if faults.pick(2):
                self._late_copies.append(copy)
            else:
                records.append(copy)
        return records

    async def _store(self, records: Sequence[Record]) -> None:
        try:
            async with self._spool_lock:
                await self._run_on_disk_thread(self._spool.append, records)
        except SpoolWriteError as error:
            if self._refusal is None:  # log once, not for every put that a full disk refuses
                logger.warning("stream %s: takes no records: %s", self.config.name, error)
            self._refusal = str(error)
            raise
        finally:
            self._buffer_changed.set()
        if self._refusal is not None:
            logger.warning("stream %s: takes records again", self.config.name)
            self._refusal = None
        if self._compute_seconds_until_due() == 0:
            await self._seal()

    def _compute_room(self) -> int:
        buffer = self._spool.open_segment
        limit = GROWN_OBJECT_BYTES if self._is_behind() else self.config.size_bytes
        return limit - (buffer.data_bytes if buffer else 0)

    # Buffering

    def _is_behind(self) -> bool:
        return len(self._spool.sealed) >= UNDELIVERED_BEFORE_GROWTH

    def _count_buffered_records(self) -> int:
        return self._spool.open_segment.records if self._spool.open_segment else 0

    def _compute_seconds_until_due(self) -> float | None:
        """Return the seconds until the open segment must be sealed; None if it has no due time."""
        buffer = self._spool.open_segment
        if buffer is None or buffer.oldest_ms is None:
            return None
        if buffer.is_broken or buffer.data_bytes >= max(GROWN_OBJECT_BYTES, self.config.size_bytes):
            return 0
        if self._is_behind():
            return None
        if buffer.data_bytes >= self.config.size_bytes:
            return 0
        return max(0, buffer.since + self._choose_interval() - time.monotonic())

    def _choose_interval(self) -> float:
        return self.config.interval_seconds or ZERO_BUFFERING_SECONDS

    async def _seal_when_due(self) -> None:
        while True:
            self._buffer_changed.clear()
            seconds = self._compute_seconds_until_due()
            if seconds == 0:
                await self._seal()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._buffer_changed.wait(), seconds)

    async def _seal(self) -> None:
        """Seal the open segment, so that it is delivered."""
        try:
            async with self._spool_lock:
                await self._run_on_disk_thread(self._spool.seal)
                copies, self._late_copies = self._late_copies, []
                if copies:
                    await self._run_on_disk_thread(self._spool.append, copies)
        except (OSError, SpoolWriteError) as error:
            self._last_error = str(error)
            logger.warning("stream %s: %s", self.config.name, error)
            await asyncio.sleep(SEAL_RETRY_SECONDS)
        finally:
            # Also if the caller was cancelled: a sealed segment must not wait for the next seal.
            async with self._sealed_changed:
                self._sealed_changed.notify_all()

    # Delivering

    async def _deliver(self) -> None:
        while True:
            segment = await self._wait_for_segment()
            try:
                await self.refresh()
                await self._deliver_one(segment)
            except (DeliveryError, OSError) as error:
                await self._back_off(segment, str(error))
            else:
                self._failures = 0
                self._last_error = None
                self._delivered_objects += 1
                self._delivered_records += segment.records
                self._held_back.discard(segment.number)
                self._buffer_changed.set()
                async with self._sealed_changed:
                    self._sealed_changed.notify_all()

    async def _wait_for_segment(self) -> Segment:
        """Wait for a sealed segment; the fault `reorder` may skip the oldest."""
        faults = self._equipment.faults
        sealed = self._spool.sealed
        async with self._sealed_changed:
            await self._sealed_changed.wait_for(lambda: len(sealed) > 0)
            if not faults.happens(faults.settings.reorder):
                return sealed[self._failures % len(sealed)]
            is_alone = len(sealed) == 1 and sealed[0].number not in self._held_back
            if is_alone and not self._flushes:
                self._held_back.add(sealed[0].number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._choose_interval()):
                        await self._sealed_changed.wait_for(
                            lambda: len(sealed) > 1 or self._flushes > 0
                        )
            return sealed[faults.pick(len(sealed))]

    async def _deliver_one(self, segment: Segment) -> None:
        config, faults = self.config, self._equipment.faults
        must_shuffle = faults.happens(faults.settings.reorder)

        def read_make_put() -> str:
            records = read_segment(segment)
            if must_shuffle:
                faults.shuffle(records)
            item = make_object(config, segment, records)
            put_object(self._equipment.s3, item)
            return item.key

        loop = asyncio.get_running_loop()
        key = await loop.run_in_executor(self._equipment.s3_threads, read_make_put)
        async with self._spool_lock:
            await self._run_on_disk_thread(self._spool.remove, segment)
        logger.info(
            "stream %s: delivered %d records (%d bytes) as s3://%s/%s",
            config.name,
            segment.records,
            segment.data_bytes,
            config.bucket,
            key,
        )

    async def _back_off(self, segment: Segment, reason: str) -> None:
        self._failures += 1
        self._last_error = reason
        seconds = retry_seconds(self._failures)
        logger.warning(
            "stream %s: object %d not delivered, next try in %.1f s: %s",
            self.config.name,
            segment.number,
            seconds,
            reason,
        )
        self._hurry.clear()
        if self._flushes:
            seconds = min(seconds, FLUSH_RETRY_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    # Configuration

    async def _keep_refreshed(self) -> None:
        while True:
            await asyncio.sleep(self._equipment.refresh_seconds)
            await self.refresh()

    async def _save_configuration(self) -> None:
        async with self._spool_lock:
            try:
                await self._run_on_disk_thread(
                    self._spool.save_configuration, self.config.as_dict()
                )
            except OSError as error:
                logger.warning("stream %s: configuration not saved: %s", self.config.name, error)

    async def _run_on_disk_thread(self, call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._equipment.disk_threads, call, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])  # keep the spool lock until the call has ended
            raise
