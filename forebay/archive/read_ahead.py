"""Reads chunks ahead in a thread, because apply waits for Postgres most of the time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Generic, Self, TypeVar

from forebay.archive.lines import Entry

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")

_PATIENCE_SECONDS = 1.0  # ten times as long as reading a chunk takes


class ReadAhead(Generic[Prepared]):
    """The chunks of one object, each read and prepared while the chunk before it is applied.

    The first chunk is read immediately, so that an object can be started while another is applied.
    Close it, or use it as a context manager, to stop the reading thread.
    """

    def __init__(
        self,
        chunks: Iterable[Sequence[Entry]],
        prepare: Callable[[Sequence[Entry]], Prepared],
    ) -> None:
        """Start to read.

        Args:
            chunks: as `read_chunks` yields them; their exceptions are raised by the iteration.
            prepare: called with each chunk, in the thread.
        """
        self._chunks = iter(chunks)
        self._prepare = prepare
        #: Done when the last chunk has been read.
        self.all_read: Future[None] = Future()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="forebay-read-ahead")
        #: The first chunk, until the iteration takes it.
        self._first = [self._reader.submit(self._read_chunk)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread after the chunk that it is reading, and close the source."""
        self._reader.shutdown()
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[tuple[Prepared, Callable[[], bool]]]:
        """Yield each chunk with a function that returns whether it is known to be the last chunk.

        An object without lines yields one empty chunk.
        """
        chunk: Prepared | None = self._first.pop().result() or self._prepare(())
        while chunk is not None:
            following = self._reader.submit(self._read_chunk)
            yield chunk, partial(_is_end, following)
            chunk = following.result()

    def _read_chunk(self) -> Prepared | None:
        chunk = next(self._chunks, None)
        if chunk is not None:
            return self._prepare(chunk)
        if not self.all_read.done():  # an empty object ends twice: before and after its empty chunk
            self.all_read.set_result(None)
        return None


def read_one_ahead(
    items: Sequence[Item], begin: Callable[[Item], ReadAhead[Prepared]]
) -> Generator[tuple[Item, ReadAhead[Prepared]]]:
    """Yield each item with its chunks; start the next item when all chunks of this item are read.

    Not earlier: S3 closes a stream that is idle for minutes. Each item's reader is closed when the
    next item is requested or the generator is closed.

    Raises:
        Exception: raised by `begin`, when the item is requested.
    """
    place = 0
    started: list[ReadAhead[Prepared]] = []

    def begin_next(_: object = None) -> None:
        if not started and place + 1 < len(items):
            started.append(begin(items[place + 1]))

    current = begin(items[0]) if items else None
    try:
        while current is not None:
            current.all_read.add_done_callback(begin_next)
            yield items[place], current
            current.close()
            begin_next()
            place, current = place + 1, started.pop() if started else None
    finally:
        if current is not None:
            current.close()
        for unused in started:  # the reader is closed, so no callback can start another item
            unused.close()


def _is_end(following: Future[Prepared | None]) -> bool:
    """Return whether no chunk follows; False also if that is not known in time, or reading failed.

    The caller holds a transaction's locks: a stalled source must not delay other transactions, and
    a failing source must not undo applied commands. The request for the next chunk shows both.
    """
    completed, _ = wait([following], timeout=_PATIENCE_SECONDS)
    return bool(completed) and following.exception() is None and following.result() is None
