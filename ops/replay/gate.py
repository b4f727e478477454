"""The gate that delays each chunk of a replay: by the rate, by a pause, or until a stop.

A worker waits here between two chunks, when it has no open transaction and holds no lock. So the
wait does not block other sessions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from forebay.archive.lines import Entry
from ops.errors import StoppedError

_LOOK_SECONDS = 0.5


class Gate:
    """Admits the chunks of several workers."""

    def __init__(
        self,
        *,
        rate_per_second: float | None = None,
        find_delay: Callable[[], str | None] = lambda: None,
        notify: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an open gate.

        Args:
            rate_per_second: the maximum number of commands per second, over all workers.
            find_delay: returns the reason why chunks must wait, or None.
            notify: receives a message when `find_delay` begins and ends to return a reason.
            clock: returns a monotonic time in seconds.
        """
        self._rate = rate_per_second
        self._find_delay = find_delay
        self._notify = notify
        self._is_delayed = False
        self._clock = clock
        self._lock = threading.Condition()
        self._next = clock()
        self._paused = False
        self._stopped = False
        #: The reason for the wait, for the progress bar; None without a wait.
        self.waiting_for: str | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the gate is paused."""
        return self._paused

    @property
    def is_stopped(self) -> bool:
        """Whether the gate was stopped."""
        return self._stopped

    def pause(self) -> None:
        """Let chunks wait until `go`."""
        with self._lock:
            self._paused = True

    def go(self) -> None:
        """End a pause."""
        with self._lock:
            self._paused = False
            self._lock.notify_all()

    def stop(self) -> None:
        """Let all present and later waits fail with StoppedError."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()

    def chunks(self, chunks: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Yield each chunk when it may pass.

        Raises:
            StoppedError: the gate was stopped.
        """
        for chunk in chunks:
            self.pass_through(len(chunk))
            yield chunk

    def pass_through(self, commands: int) -> None:
        """Wait until this number of commands may be applied.

        Raises:
            StoppedError: the gate was stopped.
        """
        with self._lock:
            while not self._stopped and self._must_wait():
                self._lock.wait(_LOOK_SECONDS)
            if self._rate:
                self._next = max(self._next, self._clock())
                start = self._next
                self._next += commands / self._rate
                while not self._stopped and (remaining := start - self._clock()) > 0:
                    self._lock.wait(min(remaining, _LOOK_SECONDS))
            if self._stopped:
                raise StoppedError("stopped")

    def _must_wait(self) -> bool:
        reason = self._find_delay()
        # The progress bar does not move during the wait, so the operator needs the reason.
        if reason is not None and not self._is_delayed:
            self._notify(f"waiting: {reason}")
        elif reason is None and self._is_delayed:
            self._notify("continuing")
        self._is_delayed = reason is not None
        self.waiting_for = "paused" if self._paused else reason
        return self.waiting_for is not None
