"""`make check` judges a user's own declarations and migrations by what can't work, not by style."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from local.settings import ROOT

#: In nobody's style, and without a type; it works.
RIVERS = """\
from forebay.resource import *
from typing import Annotated,Any
import os
from pydantic import Field
def up(b): return { **b , 'length_km' : 0 }
class River(Resource,path='rivers',schema_version=2,upcasters={1:up}):
  name:Annotated[str,Field(max_length=100),Key()]
  length_km : int=0; notes :   dict[str,Any]={}        # and a comment that goes beyond the hundred
"""
MIGRATION = """\
from alembic import op
revision='a1'; down_revision=None
def upgrade(): op.execute("CREATE VIEW v AS SELECT 1")
"""
MISTAKES = {
    "syntax": "class River(:\n",
    "undefined name": "from forebay.resource import Resource\nx = Decimal('1')\n",
    "a field twice": "class River:\n    name: str = 'a'\n    name: str = 'b'\n",
    "a class twice": "import os\n\n\ndef f(): pass\n\n\ndef f(): pass\n",
    "comparison with a literal": "x = 1\ny = x is 'a'\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The settings of the checks, and a user's files."""
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    for name, text in (
        ("resources/__init__.py", '"""Ours."""\n'),
        ("resources/rivers.py", RIVERS),
        ("migrations/versions/20261129_1200_add_a_view.py", MIGRATION),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def commands(tool: str) -> list[list[str]]:
    """The calls of a tool by `make check`."""
    process = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in process.stdout.splitlines()]
    return [words for words in lines if words and words[0] == f".venv/bin/{tool}"]


def complaints(checkout: Path, tool: str, *more: str) -> str:
    """What the tool says about the checkout; empty if nothing is wrong."""
    output = ""
    for program, *options in commands(tool):
        process = subprocess.run(
            [ROOT / program, *options, *more],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        output += f"{process.stdout}{process.stderr}" if process.returncode else ""
    return output


def types(checkout: Path) -> str:
    # What they import is not looked at, which would take a minute.
    return complaints(
        checkout,
        "mypy",
        "--follow-imports=skip",
        f"--cache-dir={checkout / 'cache'}",
        "resources",
        "migrations/versions/20261129_1200_add_a_view.py",
    )


def test_files_in_another_style_and_without_types_are_let_through(checkout: Path) -> None:
    assert len(commands("ruff")) == 3
    assert complaints(checkout, "ruff") == ""
    assert types(checkout) == ""


@pytest.mark.parametrize("folder", ["resources", "migrations/versions"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_declarations_that_cannot_work_are_found(checkout: Path, folder: str, mistake: str) -> None:
    (checkout / folder / "lakes.py").write_text(MISTAKES[mistake])
    assert "lakes.py" in complaints(checkout, "ruff")


def test_the_product_s_own_files_keep_all_rules(checkout: Path) -> None:
    (checkout / "resources/__init__.py").write_text("import os\ndef load(): return {}\n")
    assert "resources/__init__.py" in complaints(checkout, "ruff")
    assert "resources/__init__.py" in types(checkout)
