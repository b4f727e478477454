"""The commands that a start prints are made from what is declared, and work when pasted."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any
from urllib.parse import unquote

import pytest
from pydantic import Field

from forebay.resource import Key, References, Resource
from forebay.resource.spec import ResourceSpec
from local.hints import build_commands

COMMAND_ID = "01a1fc5d-903c-779d-961e-d3f40d76fc6e"
Name = Annotated[str, Field(max_length=40, examples=["l'Aube & co"]), Key()]
Digits = Annotated[str, Field(pattern="^[0-9]{4}$", max_length=4)]


class Stream(Resource, path="streams"):
    """Its example's key has what a shell and a URL would misread."""

    name: Name
    note: Annotated[str, Field(max_length=40, examples=['it\'s "$HOME" \\ `id`'])]
    length: Annotated[int, Field(ge=5000)]


class Gauge(Resource, path="gauges"):
    """The server makes its key."""

    level: float


class Lock(Resource, path="locks"):
    """Refers to what must be there."""

    number: Annotated[int, Key()]
    stream: Annotated[str, Field(max_length=40), References("streams", enforced=True)]


class Permit(Resource, path="permits"):
    """No example is given, and none is found."""

    number: Annotated[int, Key()]
    code: Digits


@dataclass
class Api:
    """An API that accepts everything and remembers it."""

    port: int
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            new_api.seen.append((self.command, self.path, headers, body))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(json.dumps({"command_id": COMMAND_ID}, separators=(",", ":")).encode())

        do_PUT = do_GET  # noqa: N815 - as the class wants it

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        new_api = Api(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield new_api
        server.shutdown()


def declared(*classes: type[Resource]) -> dict[str, ResourceSpec]:
    return {resource.spec_.path: resource.spec_ for resource in classes}


def paste(api: Api, *classes: type[Resource]) -> None:
    """Runs what is printed, as a user that pastes it."""
    text = build_commands(declared(*classes), api.url)
    subprocess.run(["sh", "-eu"], input=text, text=True, capture_output=True, check=True)


def written(api: Api) -> tuple[str, dict[str, Any]]:
    """The path and the item of the write, which the other two requests follow."""
    put, status, read = api.seen
    method, path, headers, body = put
    assert (method, headers["content-type"], headers["if-none-match"]) == (
        "PUT",
        "application/json",
        "*",
    )
    assert status[:2] == ("GET", f"{path}/commands/{COMMAND_ID}")
    assert (read[:2], read[2]["read-after"]) == (("GET", path), COMMAND_ID)
    return path, json.loads(body)


def test_the_printed_commands_write_and_read_declared_resources(api: Api) -> None:
    paste(api, Stream)
    path, item = written(api)
    assert path.startswith("/v1/streams/")
    assert unquote(path.removeprefix("/v1/streams/")) == "l'Aube & co"
    assert item == {"note": 'it\'s "$HOME" \\ `id`', "length": 5000}


@pytest.mark.parametrize("others", [[Gauge, Stream], [Lock, Permit, Stream]])
def test_an_item_whose_key_people_can_read_and_that_needs_no_other_is_chosen(
    api: Api, others: list[type[Resource]]
) -> None:
    paste(api, *others)
    assert written(api)[0].startswith("/v1/streams/")


def test_a_key_that_the_server_makes_is_given_in_the_path(api: Api) -> None:
    paste(api, Permit, Gauge)
    path, item = written(api)
    spec = Gauge.spec_
    assert spec.body.read_key(path.removeprefix("/v1/gauges/"))
    assert item == {"level": 1.5}


def test_without_an_example_that_is_taken_only_a_read_is_printed(api: Api) -> None:
    paste(api, Lock, Permit)
    ((method, path, _, _),) = api.seen
    assert (method, path) == ("GET", "/v1/locks?limit=2")


def test_without_a_resource_the_start_explains_how_to_declare_one() -> None:
    assert "docs/resources.md" in build_commands({}, "http://127.0.0.1:8080/v1")
