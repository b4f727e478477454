"""`make destroy` deletes after a confirmation only."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.destroy import destroy
from devtools.errors import ToolFailedError


def run(accepted: str | None, typed: str = "") -> tuple[int, list[list[str]]]:
    commands: list[list[str]] = []

    def record(command: list[str]) -> int:
        commands.append(command)
        return 0

    return destroy(Path(), "prod", accepted, ask=lambda: typed, run=record), commands


@pytest.mark.parametrize("typed", ["", "y\n", "yes\n", "dev\n", "PROD\n"])
def test_deletion_requires_typing_the_name(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(None, typed) == (1, [])
    assert "nothing is deleted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prdo", r"'prdo' does not exist; choose one of: .*dev.*prod"),
        ("local", "make reset"),
    ],
)
def test_a_wrong_name_is_refused_before_the_question(name: str, message: str) -> None:
    with pytest.raises(ToolFailedError, match=message):
        destroy(Path(), name, None, ask=lambda: pytest.fail("it has asked"))


def test_the_name_on_the_command_line_must_be_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("dev") == (1, [])
    assert "'dev' is not 'prod'" in capsys.readouterr().err


@pytest.mark.parametrize(("accepted", "typed"), [("prod", ""), (None, "prod\n")])
def test_the_typed_name_deletes_the_environment_s_stacks(accepted: str | None, typed: str) -> None:
    code, (command,) = run(accepted, typed)
    assert code == 0
    assert command[2:] == ["destroy", "--all", "--force", "-c", "env=prod"]
