"""Values of options that no command can mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import run
from ops.exit_codes import ExitCode

EMPTY = ("--from", "2026-11-21T04:29", "--to", "2026-11-21T04:29Z")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBAY_ARCHIVE_BUCKET", f"file://{tmp_path}")
    monkeypatch.delenv("FOREBAY_DATABASE_URL", raising=False)
    (tmp_path / "commands").mkdir()
    return tmp_path


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    "command",
    [
        ("archive",),
        ("replay", "--plan"),
        ("revert", "--by", "x"),
        ("history", "cities", "5"),
        ("outdate", "cities"),
        ("rejections", "list"),
        ("rejections", "discard", "--reason", "x"),
        ("rejections", "retry"),
    ],
)
def test_a_range_of_no_time_is_refused(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, *EMPTY]) == ExitCode.USAGE
    assert "--from 2026-11-21T04:29 is not before --to 2026-11-21T04:29Z" in capsys.readouterr().err


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            ("history", "cities", "5", "--as-of", "2999-01-01"),
            "--as-of 2999-01-01 is in the future",
        ),
        (("verify", "--at", "2999-01-01"), "--at 2999-01-01 is in the future"),
        (("rebuild", "--until", "2999-01-01"), "--until 2999-01-01 is in the future"),
        (("rejections", "discard", "--all", "--reason", " "), "--reason is empty"),
        (("archive", "--source", "/some/folder"), "write a folder as file:///folder"),
        (("archive", "--source", "./folder"), "write a folder as file:///folder"),
    ],
)
def test_a_value_that_selects_nothing_is_refused_with_the_next_step(
    command: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == ExitCode.USAGE
    assert text in capsys.readouterr().err
