"""The HTTP server: Firehose's API on `POST /`, and the controls.

POST /         signed PutRecord, PutRecordBatch; other operations go to the emulator
GET  /_health  {"status": "ok"} once the server accepts puts
GET  /_status  per stream: buffered and delivered records, and the last error
POST /_flush   deliver all now; answers when S3 has it, or 504 after ?timeout= seconds (30)
GET  /_faults  the faults in force; PUT replaces them all (400 for an unknown fault)
"""

import asyncio
import datetime as dt
import logging
import math
import uuid
from itertools import compress

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from local.credentials import OWN_KEY_HEADER, derive_own_key
from local.firehose.delivery import Firehose
from local.firehose.faults import Faults, FaultSettings
from local.firehose.spool import SpoolWriteError
from local.firehose.streams import ControlPlaneError, StreamError, StreamNotFoundError
from local.firehose.wire import (
    BATCH_MAX_BYTES,
    CONTENT_TYPE,
    REQUEST_MAX_BYTES,
    TARGET_PREFIX,
    Put,
    WireError,
    build_internal_failure,
    build_slow_down,
    parse_put,
    put_record_answer,
    put_record_batch_answer,
)
from local.origins import Policy
from local.signatures import Request, SignatureError, check, parse

logger = logging.getLogger(__name__)

PUT_OPERATIONS = frozenset({"PutRecord", "PutRecordBatch"})
FLUSH_TIMEOUT_SECONDS = 30.0
_RELAYED_HEADERS = ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")


class FirehoseServer:
    """The routes of the server."""

    def __init__(self, firehose: Firehose, faults: Faults, *, endpoint_url: str, key: str) -> None:
        """Accept puts that are signed with the secret access key `key`."""
        self._firehose = firehose
        self._faults = faults
        self._endpoint_url = endpoint_url
        self._key = key

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(
            client_max_size=REQUEST_MAX_BYTES, middlewares=[_refuse_foreign]
        )
        application.add_routes(
            [
                web.post("/", self._serve_api),
                web.get("/_health", self._serve_health),
                web.get("/_status", self._serve_status),
                web.post("/_flush", self._serve_flush),
                web.get("/_faults", self._get_faults),
                web.put("/_faults", self._put_faults),
            ]
        )
        return application

    # Firehose's API

    async def _serve_api(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except WireError as error:
            return _build_answer(error.body(), error.status)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = request.headers.get("X-Amz-Target", "")
        if not target.startswith(TARGET_PREFIX):
            raise WireError("UnknownOperationException", f"not a Firehose target: {target!r}")
        body = await _read(request)
        self._check_signature(request, body)
        operation = target.removeprefix(TARGET_PREFIX)
        if operation not in PUT_OPERATIONS:
            return await self._relay(request, body)
        self._maybe_be_down(request)
        if self._faults.happens(self._faults.settings.throttle):
            raise build_slow_down()
        answer = await self._store(parse_put(operation, body))
        if self._faults.happens(self._faults.settings.lost_ack):
            raise build_internal_failure()
        return _build_answer(answer)

    def _check_signature(self, request: web.Request, body: bytes) -> None:
        path, _, query = request.raw_path.partition("?")
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        signed = Request(request.method, path, query, headers)
        try:
            check(signed, parse(signed), key=self._key, body=body, now=dt.datetime.now(dt.UTC))
        except SignatureError as error:
            text = f"{error}; `make credentials` prints the stack's."
            raise WireError("AccessDeniedException", text, 403) from error

    async def _store(self, put: Put) -> bytes:
        probability = self._faults.settings.partial_failure if put.is_batch else 0.0
        is_accepted = [not self._faults.happens(probability) for _ in put.records]
        try:
            await self._firehose.put(put.stream, list(compress(put.records, is_accepted)))
        except StreamError as error:
            raise _translate_stream_error(put.stream, error) from error
        except SpoolWriteError as error:
            raise build_slow_down() from error
        return put_record_batch_answer(is_accepted) if put.is_batch else put_record_answer()

    def _maybe_be_down(self, request: web.Request) -> None:
        mode = self._faults.settings.down
        if mode == "reset" and request.transport is not None:
            request.transport.abort()
        if mode != "no":
            raise build_internal_failure()

    async def _relay(self, request: web.Request, body: bytes) -> web.Response:
        """Relay a control plane operation to the emulator, which holds the streams."""
        headers = {
            name: request.headers[name] for name in _RELAYED_HEADERS if name in request.headers
        }
        # The client's signature is for this server's address, and has been checked already.
        headers[OWN_KEY_HEADER] = derive_own_key(self._key)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(self._endpoint_url, data=body, headers=headers) as answer,
            ):
                return _build_answer(await answer.read(), answer.status)
        except aiohttp.ClientError as error:
            logger.warning("the emulator does not answer: %s", error)
            raise build_slow_down() from error

    # Controls

    async def _serve_health(self, _request: web.Request) -> web.Response:
        return _build_json({"status": "ok"})

    async def _serve_status(self, _request: web.Request) -> web.Response:
        return _build_json(
            {"faults": self._faults.settings.model_dump(), "streams": self._firehose.status()}
        )

    async def _serve_flush(self, request: web.Request) -> web.Response:
        try:
            timeout = float(request.query.get("timeout", FLUSH_TIMEOUT_SECONDS))
        except ValueError:
            timeout = math.nan
        if not 0 < timeout < math.inf:
            return _build_json({"error": "timeout must be a positive number of seconds"}, 400)
        try:
            async with asyncio.timeout(timeout):
                await self._firehose.flush()
        except TimeoutError:
            error = f"S3 does not have everything after {timeout:g} s"
            return _build_json({"error": error, "streams": self._firehose.status()}, 504)
        return _build_json({"streams": self._firehose.status()})

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return _build_json(self._faults.settings.model_dump())

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.replace(FaultSettings.model_validate_json(await request.read()))
        except ValidationError as error:
            return _build_json({"error": str(error)}, 400)
        return _build_json(self._faults.settings.model_dump())


@web.middleware
async def _refuse_foreign(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests from pages of other origins; this server has no pages of its own."""
    reason = Policy().find_refusal_of(request)
    return await handler(request) if reason is None else _build_json({"error": reason}, 403)


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise WireError(
            "InvalidArgumentException",
            f"Records size exceeds {BATCH_MAX_BYTES // 1024**2} MB limit",
        ) from error


def _translate_stream_error(name: str, error: StreamError) -> WireError:
    if isinstance(error, StreamNotFoundError):
        return WireError(
            "ResourceNotFoundException", f"Firehose {name} not found under account 000000000000."
        )
    if isinstance(error, ControlPlaneError):
        logger.warning("stream %s: %s", name, error)
        return build_slow_down()
    return WireError("InvalidArgumentException", f"Firehose {name}: {error}")


def _build_answer(body: bytes, status: int = 200) -> web.Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return web.Response(body=body, status=status, content_type=CONTENT_TYPE, headers=headers)


def _build_json(value: object, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    return web.Response(body=body, status=status, content_type="application/json")
