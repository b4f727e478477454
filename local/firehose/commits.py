"""Group commit: puts that arrive during a sync share the next sync."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from local.firehose.segment import Record
from local.firehose.spool import SpoolWriteError

LARGEST_COMMIT_BYTES = 16 * 1024 * 1024  # bounds the copy that each write makes

Store = Callable[[Sequence[Record]], Awaitable[None]]


class GroupCommit:
    """A queue of puts for one stream, which are stored in order."""

    def __init__(self, store: Store, room: Callable[[], int]) -> None:
        """Make the queue.

        Args:
            store: makes records durable, all or none; raises SpoolWriteError.
            room: returns how many bytes still fit the buffered object; a put that does not fit
                starts another commit, so an object exceeds its size by at most one put.
        """
        self._store = store
        self._room = room
        self._waiting: deque[tuple[Sequence[Record], int, asyncio.Future[None]]] = deque()
        self._arrived = asyncio.Event()

    async def add(self, records: Sequence[Record]) -> None:
        """Return when `records` are durable.

        Raises:
            SpoolWriteError: the records were not stored.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((records, sum(len(record.data) for record in records), future))
        self._arrived.set()
        await future

    async def run(self) -> None:
        """Store queued puts, forever."""
        while True:
            await self._arrived.wait()
            records, acknowledgements = self._take()
            if not self._waiting:
                self._arrived.clear()
            try:
                await self._store(records)
            except SpoolWriteError as error:
                for future in acknowledgements:
                    _finish(future, error)
            else:
                for future in acknowledgements:
                    _finish(future, None)

    def _take(self) -> tuple[list[Record], list[asyncio.Future[None]]]:
        """Take the puts of the next commit: the first, and the following puts that fit with it."""
        free_bytes = min(self._room(), LARGEST_COMMIT_BYTES)
        records: list[Record] = []
        acknowledgements = []
        while self._waiting and (not records or self._waiting[0][1] <= free_bytes):
            put_records, data_bytes, future = self._waiting.popleft()
            records.extend(put_records)
            acknowledgements.append(future)
            free_bytes -= data_bytes
        return records, acknowledgements


def _finish(future: asyncio.Future[None], error: SpoolWriteError | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
