"""The pause before a retry: exponential backoff with full jitter.

Source: AWS Builders' Library, "Timeouts, retries, and backoff with jitter". Libraries such as
stamina and tenacity would be a large part of the smaller Lambda packages; what is retried, and how
often, differs between the callers anyway.
"""

from __future__ import annotations

import random
from typing import Final

# Not the module's own generator: functions that are restored from one snapshot (SnapStart) would
# all pause for the same time.
_CHANCE: Final = random.SystemRandom()


def compute_backoff_seconds(attempt: int, *, first: float, greatest: float = float("inf")) -> float:
    """Return a random pause, in seconds: at most `first * 2 ** (attempt - 1)`.

    Args:
        attempt: the number of failed attempts, from 1.
        first: the longest pause after the first attempt.
        greatest: the longest pause after any attempt.
    """
    return _CHANCE.uniform(0, min(greatest, first * 2 ** (attempt - 1)))
