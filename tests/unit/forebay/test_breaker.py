"""The circuit breaker."""

from __future__ import annotations

from forebay.breaker import CircuitBreaker


def test_the_breaker_is_open_for_longer_after_each_failure_up_to_a_limit() -> None:
    now = 0.0
    breaker = CircuitBreaker(first_seconds=1, greatest_seconds=3, clock=lambda: now)
    seen = [breaker.is_open]
    for pause in (1, 2, 3, 3):
        breaker.record_failure()
        now += pause - 0.1
        seen.append(breaker.is_open)
        now += 0.2
        seen.append(breaker.is_open)
    assert seen == [False, *[True, False] * 4]


def test_a_success_makes_the_next_pause_short_again() -> None:
    now = 0.0
    breaker = CircuitBreaker(first_seconds=1, greatest_seconds=60, clock=lambda: now)
    for _ in range(5):
        breaker.record_failure()
    now += 60
    breaker.record_success()
    breaker.record_failure()
    now += 1.1
    assert not breaker.is_open
