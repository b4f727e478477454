"""The server's streams, opened at first use, or at start if the spool holds their records."""

import asyncio
import logging
from typing import Any

from local.firehose.segment import SpoolCorruptError
from local.firehose.spool import Spool, SpoolUnusableError, SpoolWriteError, StreamSpool
from local.firehose.stream import DeliveryStream, Equipment
from local.firehose.streams import StreamConfig

logger = logging.getLogger(__name__)


class Firehose:
    """All delivery streams of a server. Call its methods on one event loop only."""

    def __init__(self, spool: Spool, equipment: Equipment) -> None:
        self._spool = spool
        self._equipment = equipment
        self._streams: dict[str, DeliveryStream] = {}
        self._opening: dict[str, asyncio.Task[DeliveryStream]] = {}

    def recover(self) -> None:
        """Resume the streams that an earlier process left in the spool; blocks, so call it first.

        Raises:
            SpoolCorruptError: acknowledged data is damaged.
            SpoolUnusableError: the spool can't be read.
        """
        try:
            for name in self._spool.stream_names():
                stream_spool = self._spool.stream(name)
                self._start(stream_spool, _load_configuration(stream_spool))
        except OSError as error:
            raise SpoolUnusableError(
                f"the spool file {error.filename} can't be used: {error.strerror}"
            ) from error

    async def put(self, name: str, records: list[bytes]) -> None:
        """Return when `records` are durable in the stream `name`.

        Raises:
            StreamError: there is no such stream, or it can't take records.
            SpoolWriteError: the records were not stored.
        """
        stream = await self._stream(name)
        if records:
            await stream.put(records)

    async def flush(self) -> None:
        """Return when S3 has every record that was acknowledged before the call."""
        await asyncio.gather(*(stream.flush() for stream in self._streams.values()))

    async def stop(self) -> None:
        """Stop delivering; buffered records stay in the spool."""
        await asyncio.gather(*(stream.stop() for stream in self._streams.values()))
        self._spool.close()

    def status(self) -> dict[str, Any]:
        """Return the status of each stream."""
        return {name: stream.status() for name, stream in sorted(self._streams.items())}

    async def _stream(self, name: str) -> DeliveryStream:
        stream = self._streams.get(name) or await self._open_once(name)
        if stream.problem is not None:
            await stream.refresh()  # it may have been deployed again just now
        if stream.problem is not None:
            raise stream.problem
        return stream

    async def _open_once(self, name: str) -> DeliveryStream:
        """Open a stream; concurrent first puts share one DescribeDeliveryStream call."""
        if name not in self._opening:
            task = asyncio.create_task(self._open(name))
            task.add_done_callback(lambda _task: self._opening.pop(name))
            self._opening[name] = task
        return await asyncio.shield(self._opening[name])

    async def _open(self, name: str) -> DeliveryStream:
        config = await self._equipment.describe(name)
        loop = asyncio.get_running_loop()
        try:
            stream_spool = await loop.run_in_executor(
                self._equipment.disk_threads, self._make_spool, config
            )
        except OSError as error:
            raise SpoolWriteError(f"{self._spool.directory}: {error.strerror}") from error
        return self._start(stream_spool, config)

    def _make_spool(self, config: StreamConfig) -> StreamSpool:
        stream_spool = self._spool.stream(config.name)
        # Before the first record: a start without the control plane needs the destination.
        stream_spool.save_configuration(config.as_dict())
        return stream_spool

    def _start(self, stream_spool: StreamSpool, config: StreamConfig) -> DeliveryStream:
        stream = DeliveryStream(stream_spool, config, self._equipment)
        self._streams[config.name] = stream
        stream.start()
        logger.info(
            "stream %s: buffering %d MiB or %d s for s3://%s",
            config.name,
            config.size_mib,
            config.interval_seconds,
            config.bucket,
        )
        return stream


def _load_configuration(stream_spool: StreamSpool) -> StreamConfig:
    try:
        return StreamConfig(**(stream_spool.load_configuration() or {}))
    except TypeError as error:
        raise SpoolCorruptError(
            f"{stream_spool.directory}/stream.json is missing or not a configuration"
        ) from error
