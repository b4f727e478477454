"""Reads chunks ahead in a thread: most of apply's time is spent waiting for Postgres."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Self, TypeVar

from forebay.apply.outcome import Entry
from forebay.apply.prepare import Prepared

Item = TypeVar("Item")
#: Makes a chunk ready to be applied.
Preparing = Callable[[Sequence[Entry]], Prepared]


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
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="forebay-read-ahead")
        self._next = self._reader.submit(self._read)

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
        """Each chunk, and what tells whether it is the last, once that is known.

        An object without any line is one empty chunk.
        """
        chunk: Prepared | None = self._next.result() or self._preparing(())
        while chunk is not None:
            following = self._reader.submit(self._read)
            yield chunk, partial(_is_end, following)
            chunk = following.result()

    def _read(self) -> Prepared | None:
        chunk = next(self._chunks, None)
        return None if chunk is None else self._preparing(chunk)


def one_ahead(
    items: Iterable[Item], begin: Callable[[Item], ReadAhead]
) -> Generator[tuple[Item, ReadAhead]]:
    """Each item with its chunks; those of the following one are begun at the same time.

    What is left is closed when the next item is asked for, or the generator closed.
    """
    left = iter(items)
    with ExitStack() as opened:

        def begun() -> tuple[Item, ReadAhead] | None:
            for item in left:
                ahead = begin(item)
                opened.callback(ahead.close)
                return item, ahead
            return None

        current = begun()
        while current is not None:
            following = begun()
            yield current
            current[1].close()
            current = following


def _is_end(following: Future[Prepared | None]) -> bool:
    return following.result() is None
