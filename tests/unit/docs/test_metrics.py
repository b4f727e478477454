"""The page of the metrics lists exactly the declared metrics."""

from __future__ import annotations

import re

from forebay.metrics import METRICS, Metric
from tests.fixtures.pages import rows, text_of

PAGE = text_of("docs/metrics.md")


def row_of(metric: Metric) -> dict[str, str]:
    split = f"`{metric.split_by}`: {', '.join(metric.values)}" if metric.split_by else ""
    return {
        "Metric": f"`{metric.name}`",
        "Service": metric.service,
        "Unit": metric.unit,
        "Dimension": split,
        "Counts": metric.meaning,
    }


def test_the_page_lists_each_declared_metric_with_its_unit_and_meaning() -> None:
    assert [row.cells for row in rows(PAGE)] == [row_of(metric) for metric in METRICS]


def test_a_metric_has_its_name_alone() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_queries_of_the_page_name_declared_metrics() -> None:
    names = re.findall(r"\bsum\((\w+)\)", PAGE)
    assert names
    assert set(names) <= {metric.name for metric in METRICS}
