"""The histogram of lags: every command is counted once, and quantiles are exact to one bucket."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.ids import IdSource
from forebay.lag import BUCKETS, FIRST_SECONDS, RATIO, histogram, quantile

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000


def ids_of(lags_ms: list[int]) -> list[str]:
    return sorted(
        IdSource(now_ms=lambda lag=lag: NOW_MS - lag).make(create=False)  # type: ignore[misc]
        for lag in lags_ms
    )


@given(st.lists(st.integers(-DAY_MS, 400 * DAY_MS), max_size=50))
def test_every_command_is_in_one_bucket(lags_ms: list[int]) -> None:
    counts = histogram(ids_of(lags_ms), NOW_MS)
    assert sum(counts) == len(lags_ms)
    assert len(counts) <= BUCKETS
    assert not counts or counts[-1] > 0


@pytest.mark.parametrize("lag_ms", [-5000, 0, 1, 99, 100, 101, 1000, 15_000, 3_600_000, DAY_MS])
def test_a_command_is_in_the_bucket_of_its_lag(lag_ms: int) -> None:
    counts = histogram(ids_of([lag_ms]), NOW_MS)
    bucket = len(counts) - 1
    ends = 1000 * FIRST_SECONDS * RATIO**bucket
    begins = 0 if bucket == 0 else 1000 * FIRST_SECONDS * RATIO ** (bucket - 1)
    assert begins - 1 <= max(lag_ms, 0) <= ends + 1


@given(st.lists(st.integers(200, DAY_MS), min_size=1, max_size=60), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_that_of_the_commands_within_one_bucket(
    lags_ms: list[int], share: float
) -> None:
    estimate = quantile(histogram(ids_of(lags_ms), NOW_MS), share)
    assert estimate is not None
    ordered = sorted(lags_ms)
    true = ordered[max(0, -(-round(share * 100) * len(ordered) // 100) - 1)] / 1000
    assert true / RATIO * 0.99 <= estimate <= true * RATIO * 1.01


def test_histograms_add_up() -> None:
    first, second = [300, 500, 900], [400, 20_000]
    longer = histogram(ids_of(second), NOW_MS)
    shorter = histogram(ids_of(first), NOW_MS)
    shorter += [0] * (len(longer) - len(shorter))
    together = histogram(ids_of(first + second), NOW_MS)
    assert [a + b for a, b in zip(shorter, longer, strict=True)] == together
    assert quantile(together, 0.5) == pytest.approx(
        statistics.median(first + second) / 1000, rel=0.1
    )


def test_no_commands_have_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([0, 0], 0.5) is None


def test_a_quantile_in_the_last_bucket_is_its_lower_bound() -> None:
    counts = histogram(ids_of([400 * DAY_MS]), NOW_MS)
    assert len(counts) == BUCKETS
    assert quantile(counts, 0.99) == pytest.approx(FIRST_SECONDS * RATIO ** (BUCKETS - 2))
