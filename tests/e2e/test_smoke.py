"""`make smoke` against the whole stack."""

from __future__ import annotations

import json

import pytest

from infra.smoke.__main__ import main
from tests.fixtures.stack import RunningStack, new_city


def run(
    stack: RunningStack, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str]]:
    url = f"http://127.0.0.1:{stack.settings.ports.gateway}/v1"
    code = main([url, *arguments], {})
    return code, capsys.readouterr().out.splitlines()


def test_a_running_stack_passes_and_nothing_is_written(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.settle()
    before = stack.keys("")

    code, lines = run(stack, capsys)

    assert code == 0, lines
    checks = {line[9:].partition(":")[0] for line in lines}
    assert checks == {
        *("root", "description", "health", "problem", "list", "cors", "cache", "stranger")
    }
    assert any(line.startswith("ok       list: /cities: readable") for line in lines)
    assert any(line.startswith("warning  stranger: ") for line in lines)
    stack.settle()
    assert stack.keys("") == before


def test_a_written_item_is_gone_afterwards(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    ((before,),) = stack.rows("SELECT count(*) FROM announcements")

    code, lines = run(stack, capsys, "--write", "announcements")

    assert code == 0, lines
    assert "applied after" in lines[-2]
    assert "deleted after" in lines[-1]
    assert stack.rows("SELECT count(*) FROM announcements") == [(before,)]


def test_an_item_that_exists_is_neither_changed_nor_deleted(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    stack.wait_for_status(stack.accepted("PUT", path, city))

    code, lines = run(stack, capsys, "--write", "cities", "--item", json.dumps(city))

    assert code == 1
    assert "nothing is written" in lines[-1]
    stack.flush_cache()
    assert stack.send("GET", path).status == 200


def test_a_command_that_is_rejected_is_a_failed_step(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    city = new_city(country_code="no such country")

    code, lines = run(stack, capsys, "--write", "cities", "--item", json.dumps(city))

    assert code == 1
    assert lines[-1].startswith("failed   write: /cities: 422")


def test_a_wrong_path_fails_with_the_next_step(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([f"http://127.0.0.1:{stack.settings.ports.gateway}/v2"], {})

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert "compare URL with the outputs ApiId" in lines[0]


def test_an_address_without_the_stage_is_refused_with_the_right_one(
    stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{stack.settings.ports.gateway}"

    code = main([url], {})

    assert (code, f"make smoke URL={url}/v1" in capsys.readouterr().err) == (2, True)
