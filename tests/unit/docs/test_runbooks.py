"""Every runbook is listed on the overview page; the first table's have tests that run them."""

from __future__ import annotations

import re

from local.settings import ROOT
from tests.fixtures.pages import links, text_of
from tests.fixtures.runbooks import FOLDER, blocks_of

PAGES = sorted(path.name for path in (ROOT / FOLDER).glob("*.md") if path.name != "README.md")


def test_every_runbook_is_listed_and_tested() -> None:
    assert set(PAGES) <= {link.partition("#")[0] for link in links(text_of(f"{FOLDER}/README.md"))}
    tests = (ROOT / "tests/e2e/test_runbooks.py").read_text()
    assert set(re.findall(r'run_book\(\s*"([^"]+)"', tests)) == set(PAGES)
    assert all(blocks_of(text_of(f"{FOLDER}/{page}")) for page in PAGES)


def test_every_runbook_that_no_test_runs_is_listed_too() -> None:
    untested = {path.relative_to(ROOT / FOLDER).as_posix() for path in (ROOT / FOLDER).glob("*/*")}
    assert untested
    assert untested <= set(links(text_of(f"{FOLDER}/README.md")))
