"""The pages with commands run as written, and the commands print the output that is shown."""

import pytest

from local.postgres.throwaway import open_folder
from tests.fixtures.make_run import free_base_port
from tests.fixtures.pages import text_of
from tests.fixtures.tutorial import PAGES, open_terminals

pytestmark = [pytest.mark.runbook, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs_as_written(name: str) -> None:
    with open_folder() as folder, open_terminals(folder, free_base_port()) as terminals:
        terminals.follow(text_of(name))
