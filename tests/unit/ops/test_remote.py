"""A remote command: what is sent, and how it runs at the other end."""

from __future__ import annotations

import os
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.errors import SettingsError
from local.settings import ROOT
from ops import cli
from ops.commands.remote import _list_arguments
from ops.errors import UsageError
from ops.exit_codes import ExitCode
from ops.remote.request import (
    END_MARK,
    ERROR_MARK,
    FILE_OPTIONS,
    MAX_CHARACTERS,
    VARIABLE,
    decode_request,
    encode_request,
)
from tests.unit.ops.test_context import list_options


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--at", "now"],
        ["history", "cities", "Zürich; rm -rf /", "--as-of", "2026-11-21T04:29"],
        ["status"],
    ],
)
def test_arguments_arrive_as_they_were_given(arguments: list[str], tmp_path: Path) -> None:
    assert decode_request(encode_request(arguments), tmp_path) == arguments
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("option", FILE_OPTIONS)
def test_a_file_arrives_with_its_content(option: str, tmp_path: Path, *, joined: bool) -> None:
    mine, theirs = tmp_path / "rules.toml", tmp_path / "there"
    mine.write_text("\ufeffrule = 'ü'\r\n", encoding="utf-8")
    theirs.mkdir()
    given = [f"{option}={mine}"] if joined else [option, str(mine)]

    *before, named, file, last = decode_request(
        encode_request(["rejections", "retry", *given, "--yes"]), theirs
    )
    assert (before, named, last) == (["rejections", "retry"], option, "--yes")
    assert Path(file).parent == theirs
    assert Path(file).read_text(encoding="utf-8") == "rule = 'ü'\n"


def test_a_missing_file_is_refused_before_a_build_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        encode_request(["replay", "--id-file", str(tmp_path / "missing")])


def test_a_request_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("".join(random.Random(1).choices(string.ascii_letters, k=2 * MAX_CHARACTERS)))

    with pytest.raises(UsageError, match="divide the file"):
        encode_request(["replay", "--id-file", str(file)])


def test_the_options_with_files_are_those_of_the_commands() -> None:
    import typer  # noqa: PLC0415

    assert set(FILE_OPTIONS) <= set(list_options(typer.main.get_command(cli.app)))


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["cost", "--env", "dev"], ExitCode.OK, "US dollars per month"),
        (["cost", "--env", "moon"], ExitCode.USAGE, "has no file"),
        (["verify"], ExitCode.USAGE, "is not known"),
    ],
)
def test_a_build_runs_the_command_and_reports_its_exit_code(
    arguments: list[str], code: int, output: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    build = subprocess.run(
        [sys.executable, "-m", "ops.remote.entry"],
        cwd=ROOT,
        env={**kept, VARIABLE: encode_request(arguments)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert build.returncode == code
    *lines, last = build.stdout.splitlines()
    assert last == f"{END_MARK}{code}"
    (line,) = (line for line in lines if output in line)
    assert line.startswith(ERROR_MARK) is (code != ExitCode.OK)


def test_the_runner_s_own_environment_may_be_named_in_the_command() -> None:
    """So that the commands of the runbooks can be entered as they are."""
    for named in (["--env", "prod"], ["--env=prod"]):
        command = ["status", *named, "--json"]
        assert _list_arguments(command, "prod") == ["status", "--json"]
    assert _list_arguments(["cost", "--env", "dev"], "prod") == ["cost", "--env", "dev"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "local", "status"], "run the command itself"),
        (["--env", "prod", "remote", "status"], "can't be `remote`"),
        (["--env", "prod", "verify", "--env", "dev"], "no addresses of 'dev'"),
        (["--env", "prod", "verify", "--env=dev"], "no addresses of 'dev'"),
        (["--env", "prod"], "Missing argument"),
    ],
)
def test_a_command_that_can_not_run_there_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["remote", *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
