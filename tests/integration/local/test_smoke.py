"""`make smoke` against an API that requires tokens and keys."""

from __future__ import annotations

import pytest

from infra.smoke.__main__ import main
from tests.fixtures.guarded import Guarded


def run(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], env: dict[str, str]
) -> tuple[int, list[str]]:
    code = main([f"http://127.0.0.1:{guarded.client.port}/v1"], env)
    return code, capsys.readouterr().out.splitlines()


def test_an_unknown_caller_is_refused_and_a_caller_reads_within_its_scopes(
    guarded: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"KEY": guarded.api_key(), "TOKEN": guarded.token("reader")}

    _, lines = run(guarded, capsys, env)

    assert any(line.startswith("ok       list: /cities: readable") for line in lines), lines
    assert any(line.startswith("warning  list: /announcements: ") for line in lines)
    assert any(line.startswith("ok       stranger: ") for line in lines)


def test_without_credentials_the_step_names_the_missing_option(
    guarded: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = run(guarded, capsys, {})

    assert code == 1
    (health,) = [line for line in lines if "health: " in line]
    assert health.startswith("failed   ")
    assert "pass KEY, or TOKEN, or both" in health
