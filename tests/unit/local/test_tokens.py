"""Why there is no token, in a sentence with the next step; that there is one: test_guarded_api."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.__main__ import main
from local.credentials import make_secret
from local.settings import LocalSettings, Ports

DEPLOYED: dict[str, Any] = {"forebay-local-data": {"ArchiveBucketName": "the-archive"}}
IDENTITY = {"UserPoolId": "p", "ClientIdLoader": "1", "ClientIdPeople": "2"}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack that was started once."""
    monkeypatch.setenv("FOREBAY_STATE", str(tmp_path))
    make_secret(LocalSettings(tmp_path, Ports.from_base(8080)).secret)
    return tmp_path


def deployed(state: Path, outputs: dict[str, Any]) -> None:
    (state / "emulator" / "deployed").mkdir(parents=True)
    (state / "emulator" / "deployed" / "outputs.json").write_text(json.dumps(outputs))


def test_before_the_first_start_there_is_no_token(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "loader"]) == 1
    assert "make run" in capsys.readouterr().err


def test_without_required_tokens_the_setting_is_named(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(state, DEPLOYED)
    assert main(["token", "loader"]) == 1
    message = capsys.readouterr().err
    assert "api.authorization" in message
    assert "infra/environments/local.toml" in message


def test_an_unknown_program_is_refused_with_a_list_of_all(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(state, {**DEPLOYED, "forebay-local-identity": IDENTITY})
    assert main(["token", "people"]) == 1
    assert main(["token", "load"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("it contains: Loader") for line in lines)


def test_the_credentials_name_the_archive_of_the_last_start(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["credentials"]) == 0
    before = capsys.readouterr()
    assert ("ARCHIVE_BUCKET=" in before.out, "ARCHIVE_BUCKET" in before.err) == (False, True)
    deployed(state, DEPLOYED)
    assert main(["credentials"]) == 0
    assert "export ARCHIVE_BUCKET=the-archive\n" in capsys.readouterr().out
