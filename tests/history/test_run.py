"""Clients of a stack that fails all the time see no promise broken."""

import json
import sys

import pytest

from tests.fixtures.faulty import FaultyStack
from tests.history.run import run

_LEAST = 20


@pytest.mark.history
@pytest.mark.timeout(0)
def test_clients_see_no_promise_broken(
    faulty_stack: FaultyStack, seed: int, seconds: float, clients: int
) -> None:
    checked = run(faulty_stack, seconds=seconds, seed=seed, clients=clients)
    told = checked.summary()
    sys.stderr.write(f"\nseed {seed}: {json.dumps(told)}\n")
    assert not checked.violations, "\n".join(
        [str(checked.file), *map(str, checked.violations[:20])]
    )
    assert checked.verified
    # Otherwise the run has shown nothing. How much it shows depends on the machine.
    assert told["acknowledged"] > _LEAST
    assert told["reads_with_read_after"] > _LEAST
    assert told["refused"] > 0
    assert told["hazards"] > 1
