"""The first step on a machine that only has a Python."""

import subprocess
import sys
from pathlib import Path

import pytest

from devtools import bootstrap

BOOTSTRAP = Path(bootstrap.__file__)


def test_it_needs_no_package() -> None:
    """Isolated and without site-packages, as on a machine without installed packages."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='imported')"
    subprocess.run([sys.executable, "-I", "-S", "-c", code, BOOTSTRAP], check=True)


def test_a_python_that_is_too_old_is_one_sentence_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SystemExit) as ended:
        bootstrap.main()

    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("Python 3.11 or newer is required, ")
    assert "is 3.9; install it, or name it: make setup PYTHON=" in message
    assert message.count("\n") == 1


def test_a_newer_python_on_the_path_is_taken_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "python3.12"
    newer.touch(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert bootstrap.find_python() == str(newer)


def test_a_python_without_venv_is_one_sentence_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debian's python3 is an example."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'ensurepip is not available' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "OWN_UV", tmp_path / "uv")

    with pytest.raises(SystemExit):
        bootstrap.prepare_uv(str(python))

    assert "apt install python3-venv" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["plain", "private ä ß", "it's", "x" * 200])
def test_the_operators_command_runs_in_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    """A kernel splits a script's first line at blanks, and limits its length."""
    root = tmp_path / folder
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (root / "ops").mkdir()
    (root / "ops" / "cli.py").write_text("import sys\ndef main(): print(sys.argv[1:])\n")
    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap, "VENV", root / ".venv")

    bootstrap._install_forebay()

    script = root / ".venv" / "bin" / "forebay"
    done = subprocess.run([script, "a b", "c"], check=True, capture_output=True, text=True)
    assert done.stdout == "['a b', 'c']\n"
