"""The item that `make smoke` writes, and its usage."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from devtools.openapi import render_file
from forebay.errors import SettingsError
from infra.smoke.__main__ import main
from infra.smoke.client import SmokeClient, parse_url
from infra.smoke.writing import choose_item


@pytest.fixture(scope="module")
def description() -> Any:
    return json.loads(render_file())


def test_a_resource_whose_keys_the_server_makes_needs_no_item(description: Any) -> None:
    key, item = choose_item(description, "announcements", None)
    assert key is None
    assert item["title"]


def test_a_natural_key_must_be_given(description: Any) -> None:
    with pytest.raises(SettingsError, match="a key 'code' that no client will ever use"):
        choose_item(description, "countries", None)
    with pytest.raises(SettingsError, match="must contain the key 'code'"):
        choose_item(description, "countries", {"name": "Nowhere"})
    assert choose_item(description, "countries", {"code": "XX"}) == ("XX", {"code": "XX"})


def test_an_unknown_resource_is_refused(description: Any) -> None:
    with pytest.raises(SettingsError, match="no resource 'rivers'"):
        choose_item(description, "rivers", None)


def test_a_path_below_the_stage_is_found_with_and_without_the_stage() -> None:
    client = SmokeClient(parse_url("https://example.org/v1/"))
    assert client._locate("/cities") == "https://example.org/v1/cities"
    assert client._locate("/v1/cities") == "https://example.org/v1/cities"


@pytest.mark.parametrize("arguments", [["example.org"], ["file:///etc/hosts"]])
def test_only_addresses_of_http_are_accepted(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, {}) == 2
    assert "is not the address of an API" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_no_failed_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert main([f"http://127.0.0.1:{port}/v1"], {}) == 2
    assert "does not answer" in capsys.readouterr().err


def test_an_item_that_is_not_json_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1/v1", "--write", "cities", "--item", "{"], {}) == 2
    assert "ITEM is not JSON" in capsys.readouterr().err
