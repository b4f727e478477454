"""The comparisons that need neither peers nor packages run to their end.

The full benchmarks run rarely. The packages, their sizes and starts are tested in tests/infra.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from bench.comparisons import apply, bulk_post, write_warm
from bench.stage import open_stage

#: Of the usual number of items: 1,000 commands still contain all kinds of poison.
_DIVISOR = 100


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "comparison",
    [apply, bulk_post, write_warm],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_a_comparison_ends_with_its_ratios(comparison: ModuleType) -> None:
    with open_stage(quick=True, rounds=1, divisor=_DIVISOR) as stage:
        findings = comparison.compare(stage)
    assert findings.ratios
    assert all(ratio.value > 0 for ratio in findings.ratios)
