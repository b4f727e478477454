"""The laws hold in drawn histories that combine all features."""

from __future__ import annotations

import os
import time

import pytest

from tests.crossings.histories import Arena, HistoryFailedError, live_through

_HISTORIES = int(os.environ.get("FOREBAY_HISTORIES", "60"))
_FIRST_SEED = int(os.environ.get("FOREBAY_CROSSINGS_SEED", "0"))
_SECONDS = float(os.environ.get("FOREBAY_CROSSINGS_SECONDS", "3600"))
#: Number of tests, which run on several cores.
_PARTS = 6


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(_PARTS))
def test_the_laws_hold_in_any_history(arena: Arena, part: int) -> None:
    for seed in range(_FIRST_SEED + part, _FIRST_SEED + _HISTORIES, _PARTS):
        live_through(arena, seed)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_laws_hold_in_the_histories_of_an_hour(arena: Arena) -> None:
    """Report every failed seed, not only the first; FOREBAY_CROSSINGS_SECONDS sets the duration."""
    ends = time.monotonic() + _SECONDS
    first = seed = _FIRST_SEED or 1_000_000
    failures = []
    while time.monotonic() < ends:
        try:
            live_through(arena, seed)
        except HistoryFailedError as exc:
            failures.append(str(exc))
        seed += 1
    print(f"{seed - first} histories, {len(failures)} failed")  # noqa: T201 - shown by -rP
    failed = "\n\n".join(failures)
    assert not failures, f"{len(failures)} of the histories up to {seed} failed:\n{failed}"
