"""The tables of docs/load.md match the stored results."""

from bench import results
from bench.load.report import PAGE, render


def test_the_tables_are_made_from_the_results() -> None:
    results_by_name = {
        result["comparison"]: result for result in results.read_all(results.LOAD_FOLDER)
    }
    page = PAGE.read_text(encoding="utf-8")
    assert render(page, results_by_name) == page, "run `python -m bench.load.report`"
