"""The item that `make smoke` writes, and its usage."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from devtools.openapi import render_file
from forebay.errors import SettingsError
from infra.smoke.__main__ import main
from infra.smoke.client import SmokeClient, parse_url
from infra.smoke.token import fetch_token
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


def test_a_server_that_does_not_answer_is_not_a_failed_step(
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


@contextmanager
def serve_tokens(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The address of a token service with one answer, and the requests that it has got."""
    requests: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            requests.append((self.headers["Authorization"], self.rfile.read(length).decode()))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/oauth2/token", requests
        finally:
            server.shutdown()
            thread.join()


def test_a_token_is_fetched_with_the_client_s_secret() -> None:
    with serve_tokens(200, b'{"access_token": "abc", "expires_in": 900}') as (url, requests):
        env = {"TOKEN_URL": url, "CLIENT_ID": "me", "CLIENT_SECRET": "x"}
        assert fetch_token(env) == "abc"
    assert requests == [("Basic bWU6eA==", "grant_type=client_credentials")]


def test_no_token_is_fetched_without_the_address_of_the_service() -> None:
    assert fetch_token({"TOKEN_URL": "", "CLIENT_ID": "", "CLIENT_SECRET": ""}) is None


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": "invalid_client"}', "400.*invalid_client.*CLIENT_SECRET"),
        (200, b"<html>", "without an access token"),
    ],
)
def test_a_refused_client_is_a_wrong_setting(status: int, body: bytes, message: str) -> None:
    with (
        serve_tokens(status, body) as (url, _),
        pytest.raises(SettingsError, match=message),
    ):
        fetch_token({"TOKEN_URL": url, "CLIENT_ID": "me", "CLIENT_SECRET": "x"})


def test_a_missing_secret_of_a_client_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"TOKEN_URL": "https://example.org/token", "CLIENT_ID": "me"}
    assert main(["https://example.org/v1"], env) == 2
    assert "CLIENT_SECRET is not" in capsys.readouterr().err
