"""The HTTP server of the stage, with the gateway's own routes below `/_gateway/`.

`GET /_gateway/health` answers whether the API is deployed, `GET /_gateway/stats` the cache's
counters, and `POST /_gateway/flush` empties the cache (on AWS: FlushStageCache of the control
plane). A stage can't have this name, see ADMIN_SEGMENT.
"""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from multidict import CIMultiDict

from local.gateway.cache import StageCache
from local.gateway.compression import BodyTooLargeError
from local.gateway.errors import EmulatorUnreachableError, GatewayError, NotDeployedError
from local.gateway.foreign import refuse_foreign
from local.gateway.forward import Emulator
from local.gateway.malformed import Runner, refuse_expectation, refuse_unrouted
from local.gateway.messages import Answer, Incoming
from local.gateway.reader import ApiReader
from local.gateway.stage import MAX_BODY_BYTES, BodyBrokenOffError, Stage
from local.origins import Policy

_logger = logging.getLogger(__name__)
access_logger = logging.getLogger("local.gateway.access")

# The command line refuses a stage of this name, so these routes can't hide a stage.
ADMIN_SEGMENT = "_gateway"
HOST = "127.0.0.1"

_WATCH_SECONDS = 1.0
_SHUTDOWN_SECONDS = 5.0
# Above API Gateway's limits for URL and headers, so that the stage answers 414 or 431 for longer
# values, instead of the server's plain 400.
_MAX_FIELD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 1024 * 1024


class PortTakenError(GatewayError):
    """Another process listens on the clients' port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a gateway."""

    #: The clients' port; 0 selects a free port.
    port: int
    #: Host names, in lower case, that are accepted besides the loopback names.
    hosts: frozenset[str] = frozenset()
    emulator_url: str
    emulator_key: str
    region: str
    #: The API's id, or its name with `by_name`.
    api: str
    by_name: bool
    stage: str
    max_cache_bytes: int


class Gateway:
    """The HTTP application of a stage, with a watch over its deployment."""

    def __init__(self, stage: Stage, reader: ApiReader, *, hosts: frozenset[str]) -> None:
        """Store the parts; `run_gateway` starts them."""
        self._stage = stage
        self._reader = reader
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

    async def load(self) -> None:
        """Read the deployed API; raises NotDeployedError or EmulatorUnreachableError."""
        self._stage.replace(await asyncio.to_thread(self._reader.read))

    async def watch(self) -> None:
        """Follow redeployments until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self._follow()
            except EmulatorUnreachableError as exc:
                # The cached answers are still valid, and the emulator may recover.
                _logger.warning("%s", exc)

    async def _follow(self) -> None:
        deployed = self._stage.deployed
        try:
            if deployed is not None:
                now = await asyncio.to_thread(self._reader.fingerprint, deployed.api_id)
                if now == deployed.fingerprint:
                    return
            await self.load()
        except NotDeployedError as exc:
            if deployed is not None:
                _logger.warning("%s", exc)
                self._stage.replace(None)
        else:
            _logger.info("serving a new deployment", extra={"action": "deployment_followed"})

    async def _forward(self, request: web.Request) -> web.Response:
        start = time.monotonic()
        incoming = Incoming.parse(
            request.method,
            _parse_target(request.raw_path),
            request.headers.items(),
            peer=request.remote or HOST,
        )

        async def read_body() -> bytes:
            try:
                return await request.read()
            except web.HTTPRequestEntityTooLarge as exc:
                raise BodyTooLargeError from exc
            except (ConnectionError, web.RequestPayloadError) as exc:
                raise BodyBrokenOffError from exc

        answer = await self._stage.answer(incoming, read_body)
        access_logger.info(
            "%s %s %d %.1f ms %s",
            incoming.method,
            incoming.path,
            answer.status,
            (time.monotonic() - start) * 1000,
            answer.header("x-cache") or "-",
        )
        return _build_response(answer)

    async def _serve_health(self, _request: web.Request) -> web.Response:
        deployed = self._stage.deployed
        if deployed is None:
            return _build_json({"status": "not_deployed"}, status=503)
        return _build_json(
            {
                "status": "ok",
                "api_id": deployed.api_id,
                "stage": deployed.stage,
                "deployment_id": deployed.deployment_id,
            }
        )

    async def _serve_stats(self, _request: web.Request) -> web.Response:
        return _build_json(asdict(self._stage.cache.read_stats()))

    async def _serve_flush(self, _request: web.Request) -> web.Response:
        return _build_json({"flushed": self._stage.cache.flush()})


@asynccontextmanager
async def run_gateway(settings: Settings) -> AsyncIterator[int]:
    """Run a gateway; yields its port.

    Raises:
        EmulatorUnreachableError: the emulator does not answer at the start.
        NotDeployedError: the emulator has no such API or stage at the start.
        PortTakenError: the port is in use.
    """
    reader = await asyncio.to_thread(
        ApiReader,
        settings.emulator_url,
        key=settings.emulator_key,
        region=settings.region,
        api=settings.api,
        by_name=settings.by_name,
        stage=settings.stage,
    )
    cache = StageCache(max_bytes=settings.max_cache_bytes)
    with _bind(settings.port) as listener:
        port: int = listener.getsockname()[1]
        async with Emulator(
            settings.emulator_url, key=settings.emulator_key, region=settings.region, port=port
        ) as emulator:
            stage = Stage(emulator, cache, name=settings.stage)
            gateway = Gateway(stage, reader, hosts=settings.hosts)
            await gateway.load()
            async with _run_server(gateway, listener):
                yield port


@asynccontextmanager
async def _run_server(gateway: Gateway, listener: socket.socket) -> AsyncIterator[None]:
    runner = Runner(
        gateway.application(),
        access_log=None,
        # The stage decompresses bodies itself, with a size limit.
        auto_decompress=False,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    watch = asyncio.create_task(gateway.watch())
    watch.add_done_callback(_tell_end)
    try:
        yield
    finally:
        watch.cancel()
        await runner.cleanup()


def _tell_end(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled():
        _logger.critical("new deployments are not followed any more", exc_info=watching.exception())


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


def _build_json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
