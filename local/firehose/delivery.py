"""Delivery streams: they spool records, and deliver them to S3 by size and interval."""

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from local.firehose.faults import Faults
from local.firehose.spool import Spool, SpoolCorruptError, SpooledObject, SpoolWriteError
from local.firehose.streams import StreamConfig, StreamError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

logger = logging.getLogger(__name__)

ZERO_BUFFERING_SECONDS = 1.0  # AWS: an interval of 0 delivers "within a few seconds"
RETRY_SECONDS = 1.0
GZIP_LEVEL = 6
GZIP_WINDOW_BITS = 31  # makes zlib write a gzip header and trailer


class DeliveryError(Exception):
    """S3 has not confirmed the object; the delivery must be tried again."""


@dataclass(frozen=True)
class Equipment:
    """Resources that all streams of a server share."""

    spool: Spool
    s3: "S3Client"
    threads: Executor  #: for calls of the emulator
    faults: Faults
    describe: Callable[[str], StreamConfig]  #: raises StreamError; blocks
    on_task_end: Callable[[asyncio.Task[None]], None]  #: called when a background task ends


class Firehose:
    """All delivery streams of a server. Call its methods on one event loop only."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._streams: dict[str, DeliveryStream] = {}
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Resume the streams that have records in the spool."""
        loop = asyncio.get_running_loop()
        self._equipment.spool.on_change = partial(loop.call_soon_threadsafe, self._wake_streams)
        self._tasks = [
            asyncio.create_task(self._resume(name)) for name in self._equipment.spool.streams()
        ]
        for task in self._tasks:
            task.add_done_callback(self._equipment.on_task_end)

    async def put(self, name: str, records: list[bytes]) -> None:
        """Return when `records` are durable in the stream `name`.

        Raises:
            StreamError: there is no such stream, or it can't take records.
            SpoolWriteError: the records were not stored.
        """
        stream = await self._open(name)
        if records:
            await stream.put(records)

    async def flush(self) -> None:
        """Return when S3 has every record that was acknowledged before the call."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(stream.flush() for stream in self._streams.values()))

    async def stop(self) -> None:
        """Stop delivering; buffered records stay in the spool."""
        await _cancel(self._tasks)
        await asyncio.gather(*(stream.stop() for stream in self._streams.values()))
        await asyncio.to_thread(self._equipment.spool.close)

    def status(self) -> dict[str, Any]:
        """Return the status of each stream."""
        return {name: stream.status() for name, stream in sorted(self._streams.items())}

    async def _resume(self, name: str) -> None:
        """Open a stream as soon as the control plane describes it."""
        while True:
            try:
                await self._open(name)
            except StreamError as error:
                logger.warning("stream %s keeps its records in the spool: %s", name, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _open(self, name: str) -> "DeliveryStream":
        async with self._opening:  # concurrent first puts share one DescribeDeliveryStream call
            if name not in self._streams:
                loop, equipment = asyncio.get_running_loop(), self._equipment
                config = await loop.run_in_executor(equipment.threads, equipment.describe, name)
                self._streams[name] = DeliveryStream(config, equipment)
                logger.info(
                    "stream %s: buffering %d MiB or %d s for s3://%s",
                    *(name, config.size_mib, config.interval_seconds, config.bucket),
                )
        return self._streams[name]

    def _wake_streams(self) -> None:
        for stream in self._streams.values():
            stream.wake()


class DeliveryStream:
    """One delivery stream. Call its methods on one event loop only."""

    def __init__(self, config: StreamConfig, equipment: Equipment) -> None:
        self.config = config
        self._equipment = equipment
        self._spool = equipment.spool
        self._changed = asyncio.Event()  # replaced by each change, so that every task sees it
        self._held_back = ""  # the id of the object that `reorder` made wait last
        self._flushes = 0
        self._failures = 0
        self._delivered_objects = 0
        self._delivered_records = 0
        self._last_error: str | None = None
        self._task = asyncio.create_task(self._deliver())
        self._task.add_done_callback(equipment.on_task_end)

    async def stop(self) -> None:
        """Stop delivering; buffered records stay in the spool."""
        await _cancel([self._task])

    def wake(self) -> None:
        """Make the stream's tasks look at its objects and its configuration again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def put(self, records: list[bytes]) -> None:
        """Return when `records` are durable.

        Raises:
            SpoolWriteError: none of the records was stored.
        """
        faults = self._equipment.faults
        copies: list[bytes] = []
        late_copies: list[bytes] = []
        for record in records:
            if faults.happens(faults.settings.duplicate):
                (late_copies if faults.pick(2) else copies).append(record)
        await self._store([*records, *copies])
        if late_copies:
            await self._spool.seal(self.config.name)
            await self._store(late_copies)

    async def flush(self) -> None:
        """Return when S3 has every record that was acknowledged before the call."""
        self._flushes += 1
        self.wake()
        try:
            await self._seal()
            ids = {item.id for item in self._objects()}
            await self._wait_until(lambda: ids.isdisjoint(item.id for item in self._objects()))
        finally:
            self._flushes -= 1

    def status(self) -> dict[str, Any]:
        """Return the stream's part of the answer to `GET /_status`."""
        objects = self._objects()
        return {
            "configuration": asdict(self.config),
            "buffered_records": sum(item.records for item in objects),
            "buffered_bytes": sum(item.bytes for item in objects),
            "objects_waiting": sum(item.is_sealed for item in objects),
            "oldest_age_seconds": round(_compute_age(objects[0]), 3) if objects else None,
            "delivered_objects": self._delivered_objects,
            "delivered_records": self._delivered_records,
            "last_error": self._spool.refusal or self._last_error,
        }

    def _objects(self) -> list[SpooledObject]:
        return self._spool.objects(self.config.name)

    async def _store(self, records: Sequence[bytes]) -> None:
        await self._spool.put(self.config.name, records, self.config.size_bytes)

    async def _wait_until(
        self, condition: Callable[[], object], seconds: float | None = None
    ) -> None:
        """Wait until the condition is true; raise TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._changed.wait()

    # Buffering

    def _choose_interval(self) -> float:
        return self.config.interval_seconds or ZERO_BUFFERING_SECONDS

    def _compute_seconds_until_due(self) -> float | None:
        """Return the seconds until the open object must be sealed; None if it has no due time."""
        objects = self._objects()
        if not objects or objects[-1].is_sealed:
            return None
        age = max(0.0, _compute_age(objects[-1]))  # the clock may have been set back
        return max(0.0, self._choose_interval() - age)

    async def _seal(self) -> None:
        """Seal the open object."""
        try:
            await self._spool.seal(self.config.name)
        except SpoolWriteError as error:
            self._last_error = str(error)
            logger.warning("stream %s: %s", self.config.name, error)
            await asyncio.sleep(RETRY_SECONDS)

    # Delivering

    def _sealed(self) -> list[SpooledObject]:
        return [item for item in self._objects() if item.is_sealed]

    async def _deliver(self) -> None:
        while True:
            item = await self._choose_object()
            try:
                await self._deliver_one(item)
            except (DeliveryError, SpoolCorruptError, SpoolWriteError) as error:
                await self._back_off(item, str(error))
            else:
                self._failures = 0
                self._last_error = None
                self._delivered_objects += 1
                self._delivered_records += item.records

    async def _choose_object(self) -> SpooledObject:
        """Wait for a sealed object; the fault `reorder` may skip the oldest."""
        faults = self._equipment.faults
        while not (sealed := self._sealed()):
            try:
                async with asyncio.timeout(self._compute_seconds_until_due()):
                    await self._changed.wait()
            except TimeoutError:
                await self._seal()
        if not faults.happens(faults.settings.reorder):
            return sealed[self._failures % len(sealed)]
        if len(sealed) == 1 and sealed[0].id != self._held_back and not self._flushes:
            self._held_back = sealed[0].id
            with contextlib.suppress(TimeoutError):
                await self._wait_until(
                    lambda: len(self._sealed()) > 1 or self._flushes, self._choose_interval()
                )
            sealed = self._sealed()
        return sealed[faults.pick(len(sealed))]

    async def _deliver_one(self, item: SpooledObject) -> None:
        config, faults = self.config, self._equipment.faults
        must_shuffle = faults.happens(faults.settings.reorder)

        def read_and_put() -> str:
            records = self._spool.read(item)
            if must_shuffle:
                faults.shuffle(records)
            return put_object(self._equipment.s3, config, item, records)

        loop = asyncio.get_running_loop()
        key = await loop.run_in_executor(self._equipment.threads, read_and_put)
        await self._spool.remove(item)
        logger.info(
            "stream %s: delivered %d records (%d bytes) as s3://%s/%s",
            *(config.name, item.records, item.bytes, config.bucket, key),
        )

    async def _back_off(self, item: SpooledObject, reason: str) -> None:
        self._failures += 1
        self._last_error = reason
        logger.warning(
            "stream %s: object %s not delivered, next try in %.1f s: %s",
            *(self.config.name, item.id, RETRY_SECONDS, reason),
        )
        await asyncio.sleep(RETRY_SECONDS)


def put_object(
    client: "S3Client", config: StreamConfig, item: SpooledObject, records: Sequence[bytes]
) -> str:
    """Put `records` as one object in the format of `config`, once; return its key. Blocks.

    The same item, order and configuration give the same key and the same bytes.

    Raises:
        DeliveryError: S3 refused the object, or may not have it.
    """
    key = config.object_key(datetime.fromtimestamp(item.oldest_ms / 1000, UTC), item.id)
    request: PutObjectRequestTypeDef = {
        "Bucket": config.bucket,
        "Key": key,
        "Body": _compress(records),
        "ContentType": "application/octet-stream",
        "ContentEncoding": "gzip",
    }
    try:
        client.put_object(**request)
    except (ClientError, BotoCoreError) as error:
        raise DeliveryError(f"s3://{config.bucket}/{key}: {error}") from error
    return key


def _compress(records: Sequence[bytes]) -> bytes:
    gzip = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
    return b"".join([*map(gzip.compress, records), gzip.flush()])


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _compute_age(item: SpooledObject) -> float:
    """Return the age of the oldest record in seconds."""
    return time.time() - item.oldest_ms / 1000
