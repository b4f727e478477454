"""Pauses between attempts: exponential, jittered, at least what the server asks for, bounded."""

import asyncio
import random
import time

from local.load.errors import UnreachableError

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


class Backoff:
    """The pauses of one piece of work that is tried until it succeeds or patience ends."""

    def __init__(self, patience_seconds: float) -> None:
        """Nothing has failed yet; the patience begins with the first failure after a success."""
        self._patience_seconds = patience_seconds
        self._failures = 0
        self._deadline = 0.0

    def succeeded(self) -> None:
        """Something went through: what fails from now on fails for the first time."""
        self._failures = 0

    async def pause(self, reason: str, *, at_least_seconds: float = 0.0) -> None:
        """Waits after a failure.

        Args:
            reason: what failed and how, for the error.
            at_least_seconds: what the server asked for with `Retry-After`.

        Raises:
            UnreachableError: it has been failing for longer than the patience lasts.
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
