"""The page of the metrics lists exactly the declared metrics, and functions emit all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from forebay import metrics
from forebay.metrics import METRICS, Metric
from local.settings import ROOT
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


def used_in(files: Iterable[Path]) -> set[str]:
    """The metrics of the constants that the code of some files uses, apart from its imports."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    code = re.sub(r"^from \S+ import (\([^)]*\)|.*)$", "", text, flags=re.MULTILINE)
    words = set(re.findall(r"\b[A-Z_]+\b", code))
    return {
        value.name
        for name, value in vars(metrics).items()
        if isinstance(value, Metric) and name in words
    }


def test_a_function_emits_each_declared_metric() -> None:
    assert used_in((ROOT / "lambdas").rglob("*.py")) == {metric.name for metric in METRICS}


def test_each_metric_is_in_a_graph_or_an_alarm_or_the_page_lists_it_as_unused() -> None:
    used = used_in(ROOT / "infra/components" / name for name in ("dashboard.py", "alarms.py"))
    (unused,) = re.findall(r"^No graph and no alarm uses ([^.]+)\.", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", unused)) == {metric.name for metric in METRICS} - used
