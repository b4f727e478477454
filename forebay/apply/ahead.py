"""Reads chunks ahead in a thread: most of apply's time is spent waiting for Postgres."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Self, TypeVar

from forebay.apply.outcome import Entry
from forebay.apply.prepare import Prepared

Item = TypeVar("Item")
#: Makes a chunk ready to be applied.
Preparing = Callable[[Sequence[Entry]], Prepared]

_PATIENCE_SECONDS = 1.0  # reading a chunk takes a tenth of that


class ReadAhead:
    """The chunks of one object, each ready when the one before has been applied.

    The first one is read at once, so that an object can be begun while another is being applied.
    Close it, or use it as a context manager, so that nobody goes on reading for nothing.
    """

    def __init__(self, chunks: Iterable[Sequence[Entry]], preparing: Preparing) -> None:
        """Begins to read.

        Args:
            chunks: as `read_chunks` makes them; what they raise is raised where they are asked for.
            preparing: called with each chunk, in the thread.
        """
        self._chunks = iter(chunks)
        self._preparing = preparing
        #: Done when the last chunk has been read.
        self.read_out: Future[None] = Future()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="forebay-read-ahead")
        #: The first chunk, until somebody takes it.
        self._first = [self._reader.submit(self._read)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread; the chunk that it is reading is read to its end."""
        self._reader.shutdown()
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[tuple[Prepared, Callable[[], bool]]]:
        """Each chunk, and what tells whether it is the last, if that is known by then.

        An object without any line is one empty chunk.
        """
        chunk: Prepared | None = self._first.pop().result() or self._preparing(())
        while chunk is not None:
            following = self._reader.submit(self._read)
            yield chunk, partial(_is_end, following)
            chunk = following.result()

    def _read(self) -> Prepared | None:
        chunk = next(self._chunks, None)
        if chunk is not None:
            return self._preparing(chunk)
        if not self.read_out.done():  # an empty object ends twice: before and behind its one chunk
            self.read_out.set_result(None)
        return None


def one_ahead(
    items: Sequence[Item], begin: Callable[[Item], ReadAhead]
) -> Generator[tuple[Item, ReadAhead]]:
    """Each item with its chunks; the following one is begun when all chunks of this one are read.

    Not sooner, for its stream would wait for minutes, and who serves it would hang up. What is left
    of an item is closed when the next one is asked for, or the generator closed.

    Raises:
        Exception: what `begin` raised, where the item is asked for.
    """
    place = 0
    begun: list[ReadAhead] = []

    def begin_next(_: object = None) -> None:
        if not begun and place + 1 < len(items):
            begun.append(begin(items[place + 1]))

    current = begin(items[0]) if items else None
    try:
        while current is not None:
            current.read_out.add_done_callback(begin_next)
            yield items[place], current
            current.close()
            begin_next()
            place, current = place + 1, begun.pop() if begun else None
    finally:
        if current is not None:
            current.close()
        for left in begun:  # by now there is nobody who could begin another
            left.close()


def _is_end(following: Future[Prepared | None]) -> bool:
    """Whether nothing follows; False as well where that is not known soon, or can't be read.

    Who asks holds the locks of a transaction meanwhile: a source that stalls must not hold up
    others, nor one that fails undo what has been applied. Both show when the chunk is asked for.
    """
    known, _ = wait([following], timeout=_PATIENCE_SECONDS)
    return bool(known) and following.exception() is None and following.result() is None
