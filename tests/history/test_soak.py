"""During half an hour of random faults, no promise is broken and no memory grows."""

import json
import os
import sys

import pytest

from bench import results
from bench.harness import Findings
from tests.fixtures.faulty import FaultyStack
from tests.history.memory import Memory
from tests.history.run import run

_SECONDS_VARIABLE = "FOREBAY_SOAK_SECONDS"
_WHOLE_SECONDS = 1800.0
#: The project's servers, which a soak never kills; functions are killed, and the emulator keeps its
#: log.
_JUDGED = ("gateway", "firehose")
_MOST_GROWTH = 1.15


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_half_an_hour_of_trouble(faulty_stack: FaultyStack) -> None:
    seconds = float(os.environ.get(_SECONDS_VARIABLE, _WHOLE_SECONDS))
    about = results.about(quick=seconds < _WHOLE_SECONDS)
    memory = Memory(faulty_stack)
    with memory.watched():
        checked = run(faulty_stack, seconds=seconds, seed=7, clients=4)
    summary = {"seconds": seconds, **checked.summary(), "memory_mebibytes": memory.summary()}
    sys.stderr.write(f"\n{json.dumps(summary)}\n")
    results.write("soak", Findings(facts=summary), folder=results.LOAD_FOLDER, about=about)
    assert not checked.violations, "\n".join(
        [str(checked.file), *map(str, checked.violations[:20])]
    )
    assert checked.verified
    for part in _JUDGED:
        growth = memory.growth(part)
        assert growth is not None, "it lasted too short a time"
        assert growth < _MOST_GROWTH, memory.summary()
