"""Pauses between attempts: exponential, jittered, at least the server's `Retry-After`, bounded."""

import asyncio
import random
import time

from loader.errors import UnreachableError

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


class Backoff:
    """The pauses of a task that is retried until it succeeds or its patience runs out."""

    def __init__(self, patience_seconds: float) -> None:
        """Begin without failures; the patience starts at the first failure after a success."""
        self._patience_seconds = patience_seconds
        self._failures = 0
        self._deadline = 0.0

    def reset(self) -> None:
        """Reset the failures: the next failure counts as the first."""
        self._failures = 0

    async def pause(self, reason: str, *, at_least_seconds: float = 0.0) -> None:
        """Wait after a failure.

        Args:
            reason: describes the failure in the error message.
            at_least_seconds: the server's `Retry-After`.

        Raises:
            UnreachableError: the failures have lasted longer than the patience.
        """
        now = time.monotonic()
        if not self._failures:
            self._deadline = now + self._patience_seconds
        exponential = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        seconds = max(at_least_seconds, exponential * random.uniform(0.5, 1.0))
        if now + seconds > self._deadline:
            raise UnreachableError(f"gave up after {self._patience_seconds:.0f} s: {reason}")
        await asyncio.sleep(seconds)
