"""The page about faults shows exactly the measurements of the last full run."""

import json

from tests.faults.report import PAGE, RESULTS, with_tables


def test_the_tables_are_those_of_the_results() -> None:
    assert PAGE.read_text() == with_tables(PAGE.read_text(), json.loads(RESULTS.read_text()))


def test_published_results_are_of_a_full_run_without_losses() -> None:
    results = json.loads(RESULTS.read_text())
    assert results["run"]["longest_fault_seconds"] == 60
    for fault in results["faults"]:
        assert (fault["lost"], fault["hurt"], fault["verified"]) == (0, 0, True), fault["name"]
