"""The tutorial runs as written, and its commands print the output that it shows."""

import pytest

from local.postgres.throwaway import open_folder
from tests.fixtures.make_run import free_base_port
from tests.fixtures.pages import text_of
from tests.fixtures.tutorial import open_terminals

pytestmark = [pytest.mark.runbook, pytest.mark.timeout(1200)]


def test_the_tutorial_runs_as_written() -> None:
    with open_folder() as folder, open_terminals(folder, free_base_port()) as terminals:
        terminals.follow(text_of("docs/tutorial.md"))
