"""The HTTP server of the stage, with the gateway's own routes below `/_gateway/`.

`GET /_gateway/health` answers which API is served, `GET /_gateway/stats` the cache's counters, and
`POST /_gateway/flush` empties the cache (on AWS: FlushStageCache of the control plane).
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from multidict import CIMultiDict

from local.errors import PortTakenError
from local.gateway.cache import StageCache
from local.gateway.compression import BodyTooLargeError
from local.gateway.description import read_stage
from local.gateway.forward import Emulator
from local.gateway.messages import Answer, Incoming
from local.gateway.refusals import Runner, refuse_expectation, refuse_foreign, refuse_unrouted
from local.gateway.stage import MAX_BODY_BYTES, BodyBrokenOffError, Stage
from local.origins import Policy

# No stage has this name: infra declares it.
ADMIN_SEGMENT = "_gateway"
HOST = "127.0.0.1"

# Much less than the smallest stage cache of AWS (0.5 GB): the rest of the stack needs the machine's
# memory, too.
_MAX_CACHE_BYTES = 64 * 1024 * 1024
_SHUTDOWN_SECONDS = 5.0
# Above API Gateway's limits for URL and headers, so that the stage answers 414 or 431 for longer
# values, instead of the server's plain 400.
_MAX_FIELD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 1024 * 1024


class Gateway:
    """The HTTP application of a stage."""

    def __init__(self, stage: Stage, *, hosts: frozenset[str]) -> None:
        """Serve the stage to clients that use these host names or the loopback names."""
        self._stage = stage
        self._hosts = hosts

    def application(self) -> web.Application:
        """Build the application with its routes."""
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[refuse_foreign(self._choose_policy), refuse_unrouted],
        )
        app.router.add_get(f"/{ADMIN_SEGMENT}/health", self._serve_health)
        app.router.add_get(f"/{ADMIN_SEGMENT}/stats", self._serve_stats)
        app.router.add_post(f"/{ADMIN_SEGMENT}/flush", self._serve_flush)
        # A dot would not match the line breaks that a path may hold, percent-encoded.
        app.router.add_route(
            "*", r"/{path:[\s\S]*}", self._forward, expect_handler=refuse_expectation
        )
        return app

    def _choose_policy(self, path: str) -> Policy:
        """Return a path's policy; the gateway's own routes allow no foreign origins."""
        is_own = path.startswith(f"/{ADMIN_SEGMENT}/")
        origin = None if is_own else self._stage.declared_origin
        return Policy(hosts=self._hosts, declared_origin=origin)

    async def _forward(self, request: web.Request) -> web.Response:
        async def read_body() -> bytes:
            try:
                return await request.read()
            except web.HTTPRequestEntityTooLarge as exc:
                raise BodyTooLargeError from exc
            except (ConnectionError, web.RequestPayloadError) as exc:
                raise BodyBrokenOffError from exc

        target, headers = _parse_target(request.raw_path), request.headers.items()
        incoming = Incoming.parse(request.method, target, headers, peer=request.remote or HOST)
        answer = await self._stage.answer(incoming, read_body)
        return _build_response(answer)

    async def _serve_health(self, _request: web.Request) -> web.Response:
        deployed = self._stage.deployed
        return _build_json({"status": "ok", "api_id": deployed.api_id, "stage": deployed.stage})

    async def _serve_stats(self, _request: web.Request) -> web.Response:
        return _build_json(asdict(self._stage.cache.read_stats()))

    async def _serve_flush(self, _request: web.Request) -> web.Response:
        return _build_json({"flushed": self._stage.cache.flush()})


@asynccontextmanager
async def run_gateway(
    *, port: int, hosts: frozenset[str], emulator_url: str, key: str, api_id: str, stage: str
) -> AsyncIterator[int]:
    """Run a gateway; yields its port.

    Args:
        port: the clients' port; 0 selects a free port.
        hosts: host names, in lower case, that are accepted besides the loopback names.
        emulator_url: the address of the emulator.
        key: its secret access key.
        api_id: the id of the API in the emulator.
        stage: the name of the stage.

    Raises:
        EmulatorUnreachableError: the emulator does not answer at the start.
        NotDeployedError: the emulator has no such API or stage at the start.
        PortTakenError: the port is in use.
    """
    with _bind(port) as listener:
        port = listener.getsockname()[1]
        deployed = await asyncio.to_thread(
            read_stage, emulator_url, key=key, api_id=api_id, stage=stage
        )
        async with Emulator(emulator_url, key=key, port=port) as emulator:
            served = Stage(emulator, StageCache(max_bytes=_MAX_CACHE_BYTES), deployed)
            runner = Runner(
                Gateway(served, hosts=hosts).application(),
                access_log=None,
                # The stage decompresses bodies itself, with a size limit.
                auto_decompress=False,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_FIELD_BYTES,
                shutdown_timeout=_SHUTDOWN_SECONDS,
            )
            await runner.setup()
            try:
                await web.SockSite(runner, listener).start()
                yield port
            finally:
                await runner.cleanup()


def _bind(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        raise PortTakenError(
            f"port {port} is already in use; stop its program, or choose another --port"
        ) from exc


def _parse_target(target: str) -> str:
    """Return `/path?query` of a target that may also be a whole URL (RFC 9112 section 3.2)."""
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _build_response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body)


def _build_json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
