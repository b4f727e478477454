"""The figures of a load, and its definition of complete."""

import pytest

from loader.report import Report, Spread

NOTHING = Spread.of([])
COMPLETE = Report(
    items=3,
    accepted=3,
    refused=0,
    repeated=0,
    accepting_seconds=0.5,
    accepted_per_second=6.0,
    visible_seconds=Spread.of([0.25, 0.5]),
    watched=2,
    look_seconds=Spread.of([0.125]),
    applied=2,
    superseded=1,
    rejected=0,
    missing=0,
    asked=2,
    complaint=None,
)


def test_percentiles_are_durations_that_were_measured() -> None:
    assert Spread.of(range(1, 101)) == Spread(50, 99, 100)
    assert Spread.of([3, 1, 2]) == Spread(2, 3, 3)
    assert Spread.of([7]) == Spread(7, 7, 7)


def test_no_measurements_have_no_percentiles() -> None:
    assert Spread(None, None, None) == NOTHING


def test_a_superseded_item_can_be_read_all_the_same() -> None:
    assert COMPLETE.is_complete


@pytest.mark.parametrize("fault", ["refused", "rejected", "missing"])
def test_one_item_that_can_not_be_read_makes_the_load_incomplete(fault: str) -> None:
    values = {name: getattr(COMPLETE, name) for name in COMPLETE.__slots__}
    assert not Report(**values | {fault: 1}).is_complete


def test_the_text_states_how_each_status_is_known() -> None:
    text = COMPLETE.text()
    assert "3 of 3 accepted in 0.5 s, 6 a second" in text
    assert "p50 0.25 s, p99 0.50 s, max 0.50 s" in text
    assert "2 by single requests, 1 in lists" in text
