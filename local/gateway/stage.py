"""The processing of one request: limits, edge, cache, integration, gateway response, in order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from forebay.problem import Problem
from local.gateway.cache import StageCache, build_cache_key
from local.gateway.compression import BodyTooLargeError, UndecodableError, compress, inflate
from local.gateway.deployed import Deployed, RouteMatch
from local.gateway.edge import find_refusal, find_unknown_resource
from local.gateway.forward import (
    Emulator,
    EmulatorUnreachableError,
    HungUpError,
    IntegrationTimeoutError,
)
from local.gateway.messages import Answer, Incoming, build_problem_answer, make_request_id
from local.gateway.responses import (
    BROKEN_OFF,
    HEADERS_TOO_LARGE,
    TIMED_OUT,
    TOO_LARGE,
    UNDECODABLE,
    URL_TOO_LONG,
    Fault,
    render,
    select_cross_origin_headers,
)

_logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024  # API Gateway's payload limit
MAX_HEADER_BYTES = 10_240  # its limit for all headers together
MAX_URL_CHARACTERS = 10_240  # its limit for the URL of a regional API
_UNMATCHED_TIMEOUT_SECONDS = 29.0
_ALLOW_ORIGIN = "access-control-allow-origin"
_RETRY_AFTER_SECONDS = "5"
# These differ per request, so they are not cached with an answer.
_OF_ONE_REQUEST = frozenset({"x-amzn-requestid", "x-amzn-trace-id", "x-amz-apigw-id"})


class BodyBrokenOffError(Exception):
    """A client's body ended early; raised by the body reader."""


class Stage:
    """A stage that answers like the deployed stage."""

    def __init__(
        self,
        emulator: Emulator,
        cache: StageCache,
        deployed: Deployed,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve a deployed stage, with an empty cache."""
        self._emulator = emulator
        self._clock = clock
        self.cache = cache
        self.deployed = deployed

    @property
    def declared_origin(self) -> str | None:
        """The origin that may use the API: the errors' `Access-Control-Allow-Origin`."""
        headers = select_cross_origin_headers(self.deployed.responses)
        return next((value for name, value in headers if name.lower() == _ALLOW_ORIGIN), None)

    async def answer(self, request: Incoming, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Answer a request; failures are answered, too.

        Args:
            request: without its body.
            read_body: reads the body, and is called only if it is needed; raises
                BodyTooLargeError or BodyBrokenOffError.
        """
        deployed = self.deployed
        name, _, tail = request.path.removeprefix("/").partition("/")
        if name != deployed.stage:
            return _build_forbidden()
        match = deployed.find(request.method, f"/{tail}")
        refusal = _refuse(request, deployed, match, f"/{tail}")
        if isinstance(refusal, Answer):
            return refusal
        request_or_fault = refusal or await _read_body(request, read_body)
        if isinstance(request_or_fault, Fault):
            return render(deployed.responses, request_or_fault, make_request_id())
        answer = await self._answer_request(request_or_fault, match)
        # In a thread: compressing megabytes would delay all other clients.
        return await asyncio.to_thread(
            compress,
            answer,
            request.headers.get("accept-encoding"),
            min_bytes=deployed.min_compression_bytes,
        )

    async def _answer_request(self, request: Incoming, match: RouteMatch | None) -> Answer:
        """Answer from the cache, if the method has one, or ask the emulator."""
        rule = match.method.cache if match else None
        if match is None or rule is None or request.method != "GET":
            return await self._ask(request, match)
        key, now = build_cache_key(rule, match, request), self._clock()
        entry = self.cache.get(key, now=now)
        if entry is not None:
            return entry.adding(("x-amzn-RequestId", make_request_id()), ("X-Cache", "Hit"))
        ticket = self.cache.count_miss(key, now=now)
        answer = await self._ask(request, match)
        if not answer.is_of_function:
            return answer
        cached = answer.without(_OF_ONE_REQUEST)
        self.cache.store(ticket, cached, ttl_seconds=rule.ttl_seconds, now=self._clock())
        return answer.adding(("X-Cache", "Miss"))

    async def _ask(self, request: Incoming, match: RouteMatch | None) -> Answer:
        """Return the answer of the emulator, or an error if there is none in time."""
        deployed = self.deployed
        seconds = match.method.timeout_seconds if match else _UNMATCHED_TIMEOUT_SECONDS
        try:
            return await self._emulator.send(deployed.api_id, request, timeout_seconds=seconds)
        except IntegrationTimeoutError:
            return render(deployed.responses, TIMED_OUT, make_request_id())
        except (EmulatorUnreachableError, HungUpError) as exc:
            _logger.warning("%s %s: %s", request.method, request.path, exc)
            answer = _build_unavailable(request, exc)
            return answer.adding(*select_cross_origin_headers(deployed.responses))


def _refuse(
    request: Incoming, deployed: Deployed, match: RouteMatch | None, path: str
) -> Answer | Fault | None:
    """Return the answer if the request is refused before its body is read, else None."""
    if request.header_bytes > MAX_HEADER_BYTES:
        return HEADERS_TOO_LARGE
    if len(request.path) + len(request.query_string) > MAX_URL_CHARACTERS:
        return URL_TOO_LONG
    if match is None:
        answer = find_unknown_resource(deployed, request, path)
    else:
        answer = find_refusal(match.method, request)
    return answer and answer.adding(*select_cross_origin_headers(deployed.responses))


async def _read_body(
    request: Incoming, read_body: Callable[[], Awaitable[bytes]]
) -> Incoming | Fault:
    """Return the request with its body as the function gets it, or the fault of the body."""
    coding = request.headers.get("content-encoding", "").strip()
    try:
        body = await read_body()
        if not body or coding.lower() in {"", "identity"}:
            return replace(request, body=body)
        content = await asyncio.to_thread(inflate, coding, body, max_bytes=MAX_BODY_BYTES)
    except BodyTooLargeError:
        return TOO_LARGE
    except BodyBrokenOffError:
        _logger.info("%s %s: the client left during its body", request.method, request.path)
        return BROKEN_OFF
    except UndecodableError:
        return UNDECODABLE
    # API Gateway leaves the header in place, but the emulator would decompress the body again.
    headers = {name: value for name, value in request.headers.items() if name != "content-encoding"}
    return replace(request, headers=headers, body=content)


def _build_forbidden() -> Answer:
    """Return AWS's answer outside any stage, where gateway responses don't apply."""
    return Answer(
        403,
        (
            ("Content-Type", "application/json"),
            ("x-amzn-ErrorType", "ForbiddenException"),
            ("x-amzn-RequestId", make_request_id()),
        ),
        b'{"message":"Forbidden"}',
    )


def _build_unavailable(request: Incoming, cause: EmulatorUnreachableError | HungUpError) -> Answer:
    """Return the API's own 503 problem `unavailable`."""
    detail = "The emulator does not respond; the request was not accepted. Try again."
    if isinstance(cause, HungUpError):
        detail = "The emulator closed the connection; the request may have been executed."
    problem = Problem("unavailable", detail, headers={"Retry-After": _RETRY_AFTER_SECONDS})
    return build_problem_answer(problem, request.path)
