"""Links in the pages lead to existing files, and every target that a page names exists."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.settings import ROOT
from tests.fixtures.pages import anchors, links, pages, rows, section, text_of

TARGETS = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
SOURCES = (
    "forebay",
    "lambdas",
    "resources",
    "migrations",
    "infra",
    "devtools",
    "local",
    "loader",
    "tests",
)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("page", names(pages()))
def test_every_link_within_the_project_leads_somewhere(page: str) -> None:
    lost = []
    for link in links(text_of(page)):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (ROOT / page).parent / parts.path if parts.path else ROOT / page
        if not target.exists() or (
            parts.fragment and parts.fragment not in anchors(target.read_text(encoding="utf-8"))
        ):
            lost.append(link)
    assert lost == []


def test_every_page_that_a_source_names_is_there() -> None:
    lost = {
        f"{file.relative_to(ROOT)}: {page}"
        for top in SOURCES
        for file in (ROOT / top).rglob("*.py")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8"))
        if not (ROOT / page).exists()
    }
    assert lost == set()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_documented_for_users_or_contributors(target: str) -> None:
    text = text_of("README.md") + text_of("CONTRIBUTING.md")
    assert re.search(rf"`make {target}\b|^make {target}\b", text, re.MULTILINE)


@pytest.mark.parametrize("page", names(pages()))
def test_every_target_that_a_page_names_is_there(page: str) -> None:
    matches = re.findall(r"(?:`|^|\$ )make ([a-z][a-z0-9-]*)", text_of(page), re.MULTILINE)
    assert set(matches) <= set(TARGETS)


def test_every_page_of_the_documentation_is_in_the_readme() -> None:
    page_names = {link.partition("#")[0] for link in links(text_of("README.md"))}
    assert set(names(sorted((ROOT / "docs").glob("*.md")))) <= page_names


def test_the_readme_has_the_laws_in_the_words_of_the_glossary() -> None:
    """A law of the README is one sentence of that law in the glossary."""
    laws = laws_of("docs/glossary.md", "## The laws")
    short = laws_of("README.md", "## What you get")
    assert len(short) == len(laws) == 7
    for law, (name, sentence) in zip(laws, short, strict=True):
        assert law[0] == name
        assert sentence.removesuffix(".") in law[1]


def laws_of(page: str, heading: str) -> list[tuple[str, str]]:
    """The name and the text of each law on a page."""
    text = " ".join(section(text_of(page), heading).split())
    return re.findall(r"\d\. \*\*(.+?)\*\* (.+?)(?= \d\. \*\*|$)", text)


def test_every_decision_is_listed_and_has_its_four_parts() -> None:
    records = {file.name for file in (ROOT / "docs/adr").glob("[0-9]*.md")}
    assert records == set(links(text_of("docs/adr/README.md")))
    for name in records:
        text = text_of(f"docs/adr/{name}")
        parts = ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n")
        assert [part for part in parts if part not in text] == [], name


def test_every_kind_of_test_has_its_folder() -> None:
    names = {
        folder.split("/")[0]
        for row in rows(text_of("tests/README.md"))
        for folder in re.findall(r"`(\w+/[\w/]*)`", row.cells.get("Where", ""))
    }
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert names == there - {"fixtures", "project", "__pycache__"}
