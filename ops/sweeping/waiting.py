"""Wait until the objects that a sweep has found are applied."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.sweep import Survey
from ops.console import Console
from ops.sweeping.explain import MOST, Unapplied

_LOOK_SECONDS = 2.0
#: Reasons that do not change by waiting.
_LASTING = frozenset({"dead_letter", "held", "unreadable"})


def wait_until_applied(
    console: Console,
    survey: Callable[[], Survey],
    explain: Callable[[], list[Unapplied]],
    *,
    seconds: float,
    look_seconds: float = _LOOK_SECONDS,
) -> Survey:
    """Return when every object is applied, when waiting can't help, or when the time is over.

    Args:
        console: shows the progress.
        survey: counts the objects.
        explain: returns the first unapplied objects, each with its reason.
        seconds: the longest time to wait.
        look_seconds: the time between two surveys.

    Returns:
        The last survey.
    """
    deadline = time.monotonic() + seconds
    result = survey()
    total = result.missed + result.young
    with console.progress("wait", unit="objects", total=total) as meter:
        applied = 0
        while (remaining := result.missed + result.young) and time.monotonic() < deadline:
            meter.advance(max(0, total - remaining - applied))
            applied = max(applied, total - remaining)
            unapplied = explain() if remaining <= MOST else []
            # Empty if the last object was applied after the survey.
            if unapplied and all(archive_object.why in _LASTING for archive_object in unapplied):
                break
            time.sleep(min(look_seconds, max(0.0, deadline - time.monotonic())))
            result = survey()
    return result
