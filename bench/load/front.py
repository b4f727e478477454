"""A plain HTTP server around one function: `python -m bench.load.front MODE PORT`.

It replaces API Gateway and Lambda, because otherwise their emulator would be measured. `forebay` is
the write function as deployed. `synchronous` is the same function except for the last step. Instead
of a call to the delivery stream, this is an INSERT of one row, in its own transaction, over
connections that stay open. `read` is the read function. The environment variables are those of the
deployed function.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import psycopg
from aiohttp import web

import resources
from forebay.access import Access
from forebay.http import Response
from forebay.ids import IdSource, is_create_id
from forebay.intake.acceptance import Acceptance
from forebay.intake.commands import Line
from forebay.log import Log
from lambdas.read import bootstrap as reading
from lambdas.read.settings import ReadSettings
from lambdas.write import bootstrap as writing
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from lambdas.write.settings import WriteSettings

#: Concurrent requests, each with a connection of its own to the function's backend.
THREADS = 10
HOST = "127.0.0.1"


class App(Protocol):
    """A function without Lambda."""

    def handle(self, event: Mapping[str, Any]) -> Response:
        """Answer an event of API Gateway."""


class Inserting:
    """Accepts a command by inserting its row; each thread has its own connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = threading.local()

    def accept(self, lines: Sequence[Line]) -> Acceptance:
        """Insert the lines, each in a transaction of its own."""
        accepted: list[Line] = []
        not_accepted: list[Line] = []
        for line in lines:
            (accepted if self._insert(line) else not_accepted).append(line)
        return Acceptance(accepted, not_accepted)

    def _insert(self, line: Line) -> bool:
        command = line.command
        spec = resources.load()[command.resource]
        values = {spec.key.name: command.key, **(command.body or {})}
        values |= {"_version": command.id, "_by_create": is_create_id(command.id)}
        marks = ", ".join(["%s"] * len(values))
        statement = f"INSERT INTO {spec.table} ({', '.join(values)}) VALUES ({marks})"  # noqa: S608 - names of ours
        try:
            self._open_connection().execute(statement.encode(), list(values.values()))
        except psycopg.OperationalError:
            self._own.connection = None  # the next request tries a new connection
            return False
        return True

    def _open_connection(self) -> psycopg.Connection:
        # Autocommit: the statement is the transaction, without the round trips of BEGIN and COMMIT.
        connection: psycopg.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = psycopg.connect(self._url, autocommit=True)
        return connection


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    mode, port = arguments
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_MODES[mode], int(port)))


def _build_writing() -> Callable[[], App]:
    app = writing.build(WriteSettings.from_env(os.environ), Log(writing.SERVICE))
    return lambda: app


def _build_synchronous() -> Callable[[], App]:
    # WriteApp uses only `accept` of an Acceptor.
    app = WriteApp(
        resources=resources.load(),
        acceptor=Inserting(os.environ["FOREBAY_DATABASE_URL"]),  # type: ignore[arg-type]
        ids=IdSource(),
        answers=Answers(0),
        log=Log(writing.SERVICE),
        access=Access("none"),
    )
    return lambda: app


def _build_reading() -> Callable[[], App]:
    """An app for each thread: an instance of the function handles one request at a time."""
    local = threading.local()

    def app() -> App:
        if not hasattr(local, "app"):
            local.app = reading.build(ReadSettings.from_env(os.environ), Log(reading.SERVICE))
        instance: App = local.app
        return instance

    return app


_MODES = {"forebay": _build_writing, "synchronous": _build_synchronous, "read": _build_reading}


async def _serve(mode: Callable[[], Callable[[], App]], port: int) -> None:
    app, pool = mode(), ThreadPoolExecutor(THREADS)

    async def answer(request: web.Request) -> web.Response:
        event = _build_event(request, (await request.read()).decode())
        response = await asyncio.get_running_loop().run_in_executor(
            pool, lambda: app().handle(event).to_proxy("")
        )
        return web.Response(
            status=response["statusCode"], headers=response["headers"], text=response["body"]
        )

    server = web.Application()
    server.router.add_route("*", "/v1/{resource}/{key}", answer)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=1024).start()
    await asyncio.Event().wait()


def _build_event(request: web.Request, body: str) -> dict[str, Any]:
    """The event that API Gateway would make of the request."""
    resource, key = request.match_info["resource"], request.match_info["key"]
    return {
        "httpMethod": request.method,
        "path": f"/{resource}/{key}",
        "resource": f"/{resource}/{{key}}",
        "pathParameters": {"key": key},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "headers": dict(request.headers),
        "body": body or None,
        "isBase64Encoded": False,
        "requestContext": {"identity": {}},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
