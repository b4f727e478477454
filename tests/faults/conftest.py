"""Mark all tests here: they share a stack, so `make test-faults` runs them one after another."""

from collections.abc import Sequence
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before tests are selected by marker
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of this folder; pytest calls the hook with the tests of all folders."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.fault)
            # Enough for a fault of a minute and the time after which commands count as lost.
            item.add_marker(pytest.mark.timeout(600))
            item.add_marker(pytest.mark.xdist_group("fault"))
