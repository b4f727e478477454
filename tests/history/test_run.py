"""Clients of a constantly failing stack observe no broken promise."""

import json
import sys
from typing import Any

import pytest

from tests.fixtures.faulty import FaultyStack
from tests.history.run import Checked, run

_LEAST = 20
_SHORT_SECONDS = 12.0
_FEW_CLIENTS = 6
_SEED = 1  # gives the same plan in each run; the timing still depends on the machine


@pytest.mark.history
@pytest.mark.timeout(0)
def test_clients_see_no_promise_broken(
    faulty_stack: FaultyStack, seed: int, seconds: float, clients: int
) -> None:
    checked = run(faulty_stack, seconds=seconds, seed=seed, clients=clients)
    summary = look_into(checked, seed)
    # Otherwise the run proves too little. The numbers depend on the machine.
    assert summary["acknowledged"] > _LEAST
    assert summary["reads_with_read_after"] > _LEAST
    assert summary["refused"] > 0
    assert summary["hazards"] > 1
    assert summary["patches"] > 0
    assert summary["decided"] > 0


@pytest.mark.history
@pytest.mark.timeout(600)
def test_a_few_clients_see_no_promise_broken_for_a_few_seconds(faulty_stack: FaultyStack) -> None:
    """A short run with a few faults; it need not be conclusive."""
    checked = run(faulty_stack, seconds=_SHORT_SECONDS, seed=_SEED, clients=_FEW_CLIENTS)
    summary = look_into(checked, _SEED)
    assert summary["acknowledged"] > 0
    assert summary["hazards"] > 0


def look_into(checked: Checked, seed: int) -> dict[str, Any]:
    """Fail if a promise was broken; return the run's numbers."""
    summary = checked.summary()
    sys.stderr.write(f"\nseed {seed}: {json.dumps(summary)}\n")
    assert not checked.violations, "\n".join(
        [str(checked.file), *map(str, checked.violations[:20])]
    )
    assert checked.verified
    return summary
