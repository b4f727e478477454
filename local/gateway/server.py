"""The HTTP server around the stage, with the gateway's own few routes below `/_gateway/`.

`GET /_gateway/health` says whether the API is deployed, `GET /_gateway/stats` what the cache does,
`POST /_gateway/flush` empties it (on AWS that is FlushStageCache, a call of the control plane).
No stage can be named so, see ADMIN_SEGMENT.
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

# The command refuses a stage of this name, so the routes below it can hide nobody's.
ADMIN_SEGMENT = "_gateway"
HOST = "127.0.0.1"

_WATCH_SECONDS = 1.0
_SHUTDOWN_SECONDS = 5.0
# Above API Gateway's limits for URL and headers, so that too large ones meet our
# 414 and 431 and not a bare 400.
_MAX_FIELD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 1024 * 1024  # likewise, for too long a URL


class PortTakenError(GatewayError):
    """Somebody else listens on the clients' port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that one gateway depends on."""

    #: The clients' port; 0 takes a free one.
    port: int
    #: Names by which clients may call it besides the loopback ones, in lower case.
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
    """Connects one stage, the watch over its deployment and the HTTP routes."""

    def __init__(self, stage: Stage, reader: ApiReader, *, hosts: frozenset[str]) -> None:
        """Serves nothing until it is started by `running`."""
        self._stage = stage
        self._reader = reader
        self._hosts = hosts

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[refuse_foreign(self._policy), refuse_unrouted],
        )
        app.router.add_get(f"/{ADMIN_SEGMENT}/health", self._health)
        app.router.add_get(f"/{ADMIN_SEGMENT}/stats", self._stats)
        app.router.add_post(f"/{ADMIN_SEGMENT}/flush", self._flush)
        # A dot would not match the line breaks that a path may hold, percent-encoded.
        app.router.add_route("*", r"/{path:[\s\S]*}", self._pass, expect_handler=refuse_expectation)
        return app

    def _policy(self, path: str) -> Policy:
        """Who may use a path: the API says it for its own, the gateway's are nobody else's."""
        is_own = path.startswith(f"/{ADMIN_SEGMENT}/")
        declared = None if is_own else self._stage.declared_origin
        return Policy(hosts=self._hosts, declared_origin=declared)

    async def load(self) -> None:
        """Reads the deployed API; raises NotDeployedError or EmulatorUnreachableError."""
        self._stage.replace(await asyncio.to_thread(self._reader.read))

    async def watch(self) -> None:
        """Follows redeployments until it is cancelled."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self._follow()
            except EmulatorUnreachableError as exc:
                # What is cached is still as good as it was, and the emulator may come back.
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

    async def _pass(self, request: web.Request) -> web.Response:
        started = time.monotonic()
        incoming = Incoming.parse(
            request.method,
            _origin_form(request.raw_path),
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
            (time.monotonic() - started) * 1000,
            answer.header("x-cache") or "-",
        )
        return _response(answer)

    async def _health(self, _request: web.Request) -> web.Response:
        deployed = self._stage.deployed
        if deployed is None:
            return _json({"status": "not_deployed"}, status=503)
        return _json(
            {
                "status": "ok",
                "api_id": deployed.api_id,
                "stage": deployed.stage,
                "deployment_id": deployed.deployment_id,
            }
        )

    async def _stats(self, _request: web.Request) -> web.Response:
        return _json(asdict(self._stage.cache.stats()))

    async def _flush(self, _request: web.Request) -> web.Response:
        return _json({"flushed": self._stage.cache.flush()})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    """A gateway that serves; yields its port.

    Raises:
        EmulatorUnreachableError: the emulator does not answer at the start.
        NotDeployedError: it has no such API or stage at the start.
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
    with _bound(settings.port) as listener:
        port: int = listener.getsockname()[1]
        async with Emulator(
            settings.emulator_url, key=settings.emulator_key, region=settings.region, port=port
        ) as emulator:
            stage = Stage(emulator, cache, name=settings.stage)
            gateway = Gateway(stage, reader, hosts=settings.hosts)
            await gateway.load()
            async with _serving(gateway, listener):
                yield port


@asynccontextmanager
async def _serving(gateway: Gateway, listener: socket.socket) -> AsyncIterator[None]:
    runner = Runner(
        gateway.application(),
        access_log=None,
        # The stage inflates it, within bounds.
        auto_decompress=False,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    watching = asyncio.create_task(gateway.watch())
    watching.add_done_callback(_tell_end)
    try:
        yield
    finally:
        watching.cancel()
        await runner.cleanup()


def _tell_end(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled():
        _logger.critical("redeployments are followed no longer", exc_info=watching.exception())


def _bound(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        raise PortTakenError(
            f"port {port} is already in use; stop what listens there or choose another --port"
        ) from exc


def _origin_form(target: str) -> str:
    """`/path?query` of a request target, which may also be a whole URL (RFC 9112 section 3.2)."""
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body)


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
