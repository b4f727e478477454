"""The tables of figures match the stored results, and ratios are computed within a round."""

from __future__ import annotations

from importlib import import_module

import pytest

from bench import report, results
from bench.comparisons import NAMES
from bench.comparisons.growth import fit_exponent
from bench.harness import Aim, Contender, Series, duration, measure, speed


def series(name: str, items: int, *seconds: float) -> Series:
    return Series(name, items, seconds)


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    """If this fails, run `make bench-report`."""
    results_by_name = {result["comparison"]: result for result in results.read_all()}
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.render(page, results_by_name) == page


def test_every_comparison_has_kept_results_and_a_place_on_the_page() -> None:
    kept = list(results.read_all())
    assert {result["comparison"] for result in kept} == set(NAMES)
    assert [result["comparison"] for result in kept if result["quick"]] == []
    page = report.PAGE.read_text(encoding="utf-8")
    shown = {name for marked in report.MARKED.finditer(page) for name in marked[2].split()}
    assert shown == {*NAMES, "machine"}


def test_a_table_that_was_edited_by_hand_is_generated_again() -> None:
    results_by_name = {result["comparison"]: result for result in results.read_all()}
    page = "a\n<!-- bench: assets -->\nby hand\n<!-- /bench -->\nb\n"
    rendered_page = report.render(page, results_by_name)
    assert "by hand" not in rendered_page
    assert rendered_page.startswith("a\n<!-- bench: assets -->\n| What |")
    assert rendered_page.endswith("|\n<!-- /bench -->\nb\n")


def test_a_ratio_is_taken_within_each_round() -> None:
    """A disturbance slows both contenders of a round, and must not change the ratio."""
    measured = [series("ours", 100, 1.0, 10.0, 1.2), series("limit", 50, 1.0, 10.0, 1.0)]
    figure = speed("x", measured, "ours", "limit", Aim(at_least=1.9))
    assert (figure.value, figure.high) == (2.0, 2.0)
    assert figure.low == pytest.approx(100 / 1.2 / 50)
    assert figure.aim is not None
    assert figure.aim.is_met(figure.value)
    taken = duration("x", measured, "ours", "limit", Aim(at_most=0.4))
    assert taken.value == 0.5
    assert taken.aim is not None
    assert not taken.aim.is_met(taken.value)


def test_contenders_take_turns_and_are_prepared_before_each_round() -> None:
    done: list[str] = []

    def contender(name: str) -> Contender:
        def prepare() -> None:
            done.append(f"prepare {name}")

        def run() -> float:
            done.append(name)
            return 0.5

        return Contender(name, run, 1, prepare)

    measurements = measure([contender("a"), contender("b")], rounds=2)
    assert done == ["prepare a", "a", "prepare b", "b", "prepare b", "b", "prepare a", "a"]
    assert [one.seconds for one in measurements] == [(0.5, 0.5), (0.5, 0.5)]


def test_a_power_law_is_found_again() -> None:
    points = [series(str(n), n, 0.001 * n**1.5) for n in (10, 100, 1000)]
    assert fit_exponent(points) == pytest.approx(1.5)


@pytest.mark.parametrize("name", ["apply", "growth", "assets", "pages", "connections", "rebuild"])
def test_a_comparison_that_needs_no_peer_can_be_imported(name: str) -> None:
    assert callable(import_module(f"bench.comparisons.{name}").compare)
