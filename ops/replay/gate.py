"""The gate that every chunk passes: closed while paused, no wider than the rate, shut when stopped.

Between chunks no transaction is open and no lock is held, so waiting here hurts nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from forebay.archive.lines import Entry
from ops.errors import StoppedError

_LOOK_SECONDS = 0.5


class Gate:
    """Lets chunks of several workers through."""

    def __init__(
        self,
        *,
        rate_per_second: float | None = None,
        hold: Callable[[], str | None] = lambda: None,
        tell: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An open gate.

        Args:
            rate_per_second: commands that may pass a second, over all workers.
            hold: why nothing may pass just now, None when it may.
            tell: told, in a sentence, when that begins and when it ends.
            clock: in seconds.
        """
        self._rate = rate_per_second
        self._hold = hold
        self._tell = tell
        self._held = False
        self._clock = clock
        self._lock = threading.Condition()
        self._next = clock()
        self._paused = False
        self._stopped = False
        #: What the gate waits for, for the progress line.
        self.waiting_for: str | None = None

    @property
    def is_paused(self) -> bool:
        """Whether `pause` holds."""
        return self._paused

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def pause(self) -> None:
        """Lets nothing through until `go`."""
        with self._lock:
            self._paused = True

    def go(self) -> None:
        """Ends a pause."""
        with self._lock:
            self._paused = False
            self._lock.notify_all()

    def stop(self) -> None:
        """Turns everybody away, now and later."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()

    def chunks(self, chunks: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """The chunks, each when it may pass.

        Raises:
            StoppedError: the gate was stopped.
        """
        for chunk in chunks:
            self.pass_through(len(chunk))
            yield chunk

    def pass_through(self, commands: int) -> None:
        """Returns when so many commands may be applied.

        Raises:
            StoppedError: the gate was stopped.
        """
        with self._lock:
            while not self._stopped and self._must_wait():
                self._lock.wait(_LOOK_SECONDS)
            if self._rate:
                self._next = max(self._next, self._clock())
                mine = self._next
                self._next += commands / self._rate
                while not self._stopped and (left := mine - self._clock()) > 0:
                    self._lock.wait(min(left, _LOOK_SECONDS))
            if self._stopped:
                raise StoppedError("stopped")

    def _must_wait(self) -> bool:
        held = self._hold()
        # While it waits no progress is shown, and nobody would know why.
        if held is not None and not self._held:
            self._tell(f"waiting: {held}")
        elif held is None and self._held:
            self._tell("going on")
        self._held = held is not None
        self.waiting_for = "paused" if self._paused else held
        return self.waiting_for is not None
