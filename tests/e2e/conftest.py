"""Mark all tests here: the tests of a group share one stack, so one worker must run them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

#: The files with a stack of their own. They take as long as all others, so that another worker can
#: run them at the same time.
_SECOND_GROUP: Final = frozenset(
    {"test_cache.py", "test_description.py", "test_reload.py", "test_restart.py"}
)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of this folder; pytest calls the hook with the tests of all folders."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)
            group = "e2e-2" if item.path.name in _SECOND_GROUP else "e2e"
            item.add_marker(pytest.mark.xdist_group(group))
