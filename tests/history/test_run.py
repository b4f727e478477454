"""Clients of a stack that fails all the time see no promise broken."""

import json
import sys
from typing import Any

import pytest

from tests.fixtures.faulty import FaultyStack
from tests.history.run import Checked, run

_LEAST = 20
_SHORT_SECONDS = 12.0
_FEW_CLIENTS = 8
_SEED = 1  # the same plan each time; what meets what still depends on the machine


@pytest.mark.history
@pytest.mark.timeout(0)
def test_clients_see_no_promise_broken(
    faulty_stack: FaultyStack, seed: int, seconds: float, clients: int
) -> None:
    checked = run(faulty_stack, seconds=seconds, seed=seed, clients=clients)
    told = look_into(checked, seed)
    # Otherwise the run has shown nothing. How much it shows depends on the machine.
    assert told["acknowledged"] > _LEAST
    assert told["reads_with_read_after"] > _LEAST
    assert told["refused"] > 0
    assert told["hazards"] > 1


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("fault")
def test_a_few_clients_see_no_promise_broken_for_a_few_seconds(faulty_stack: FaultyStack) -> None:
    """For `make test`: a short run with a few hazards; it need not show much."""
    checked = run(faulty_stack, seconds=_SHORT_SECONDS, seed=_SEED, clients=_FEW_CLIENTS)
    told = look_into(checked, _SEED)
    assert told["acknowledged"] > 0
    assert told["hazards"] > 0


def look_into(checked: Checked, seed: int) -> dict[str, Any]:
    """Fails where a promise was broken; what the run came to."""
    told = checked.summary()
    sys.stderr.write(f"\nseed {seed}: {json.dumps(told)}\n")
    assert not checked.violations, "\n".join(
        [str(checked.file), *map(str, checked.violations[:20])]
    )
    assert checked.verified
    return told
