"""The documentation page and its files: self-hosted, at addresses that depend on the content."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lambdas.about.pages import ASSETS, OWN_FOLDER, Pages
from local.settings import ROOT

SWAGGER_UI = ROOT / "node_modules" / "swagger-ui-dist"
PAGES = Pages(SWAGGER_UI)


def test_the_page_loads_its_own_files_only_and_all_of_them_are_there() -> None:
    page = PAGES.page()
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page.body)
    assert loaded
    for address in loaded:
        assert address.startswith("/v1/")
        if "/docs/" in address:
            _, _, version, name = address[1:].split("/")
            asset = PAGES.asset(version, name)
            assert asset is not None
            assert asset.body
    assert "//" not in re.sub(r"<!doctype html>", "", page.body)
    assert "{" not in page.body


def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline() -> None:
    policy = dict(
        part.strip().split(" ", 1)
        for part in PAGES.page().headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "<script>" not in PAGES.page().body
    assert "style=" not in PAGES.page().body


def test_files_may_be_kept_for_ever_and_the_page_may_not() -> None:
    for name, content_type in ASSETS.items():
        asset = PAGES.asset(PAGES.version, name)
        assert asset is not None
        assert "immutable" in asset.headers["Cache-Control"]
        assert asset.content_type == content_type
    assert PAGES.page().headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["../handler.py", "index.html", "nothing.js", "", "swagger-ui.css/"]
)
def test_only_the_files_of_the_page_are_served(name: str) -> None:
    assert PAGES.asset(PAGES.version, name) is None


def test_another_version_is_not_here() -> None:
    assert PAGES.asset("0" * 16, "init.js") is None


def test_the_address_changes_with_the_content(tmp_path: Path) -> None:
    own = tmp_path / "page"
    shutil.copytree(OWN_FOLDER, own)
    assert Pages(SWAGGER_UI, own).version == PAGES.version
    (own / "init.js").write_text("// another\n")
    assert Pages(SWAGGER_UI, own).version != PAGES.version
