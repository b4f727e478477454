"""Marks everything here: run by `make test-faults`, one after the other, as they share a stack."""

from collections.abc import Sequence
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Called with the tests of all folders."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.fault)
            item.add_marker(pytest.mark.xdist_group("fault"))
