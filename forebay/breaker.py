"""A circuit breaker: skips a service for a while after it failed to answer.

The pattern is M. Nygard's ("Release It!"). Without it, each request would wait for the time-out of
a service that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Open after a failure, for a time that doubles with each further failure."""

    def __init__(
        self,
        *,
        first_seconds: float,
        greatest_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a closed breaker.

        Args:
            first_seconds: how long it is open after the first failure.
            greatest_seconds: how long it is open after any failure.
            clock: seconds of a monotonic clock.
        """
        self._first_seconds = first_seconds
        self._greatest_seconds = greatest_seconds
        self._clock = clock
        self._open_until = 0.0
        self._failures = 0

    @property
    def is_open(self) -> bool:
        """True if the service is to be skipped."""
        return self._clock() < self._open_until

    def record_failure(self) -> None:
        """Open the breaker."""
        pause = min(self._first_seconds * 2**self._failures, self._greatest_seconds)
        self._failures += 1
        self._open_until = self._clock() + pause

    def record_success(self) -> None:
        """Forget the failures before."""
        self._failures = 0
