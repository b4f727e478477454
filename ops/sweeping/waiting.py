"""Waits until what a sweep has found is applied."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.sweep import Survey
from ops.console import Console
from ops.sweeping.explain import MOST, Unapplied

_LOOK_SECONDS = 2.0
#: Reasons that no waiting changes.
_LASTING = frozenset({"dead_letter", "held", "unreadable"})


def wait_until_applied(
    console: Console,
    survey: Callable[[], Survey],
    explain: Callable[[], list[Unapplied]],
    *,
    seconds: float,
    look_seconds: float = _LOOK_SECONDS,
) -> Survey:
    """Returns when every object is applied, when waiting can't help, or when the time is over.

    Args:
        console: for the progress.
        survey: counts the objects.
        explain: says of the first of those that are not applied, why.
        seconds: the longest time.
        look_seconds: the time between two looks.

    Returns:
        The last survey.
    """
    deadline = time.monotonic() + seconds
    found = survey()
    total = found.missed + found.young
    with console.progress("wait", unit="objects", total=total) as meter:
        applied = 0
        while (left := found.missed + found.young) and time.monotonic() < deadline:
            meter.advance(max(0, total - left - applied))
            applied = max(applied, total - left)
            unapplied = explain() if left <= MOST else []
            # None of them, where the last was applied since the survey.
            if unapplied and all(one.why in _LASTING for one in unapplied):
                break
            time.sleep(min(look_seconds, max(0.0, deadline - time.monotonic())))
            found = survey()
    return found
