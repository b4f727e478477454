"""The processing of one request: limits, edge, cache, integration, gateway response, in order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from forebay.problem import Problem
from local.gateway.admission import Admissions
from local.gateway.cache import StageCache, Ticket, cache_key
from local.gateway.compression import BodyTooLargeError, UndecodableError, compress, inflate
from local.gateway.deployed import CacheRule, Deployed, RouteMatch
from local.gateway.edge import find_refusal, find_unknown_resource
from local.gateway.errors import EmulatorUnreachableError, HungUpError, IntegrationTimeoutError
from local.gateway.forward import Emulator
from local.gateway.messages import Answer, Incoming, build_problem_answer, make_request_id
from local.gateway.responses import (
    BROKEN_OFF,
    FUNCTION_FAILED,
    FUNCTION_THROTTLED,
    HEADERS_TOO_LARGE,
    MAY_NOT_REFRESH,
    TIMED_OUT,
    TOO_LARGE,
    UNDECODABLE,
    URL_TOO_LONG,
    Context,
    Fault,
    Origin,
    complete,
    find_origin,
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
_WARNING = "199 Cache-control headers were ignored because the caller was unauthorized"
# These differ per request, so they are not cached with an answer.
_OF_ONE_REQUEST = frozenset({"x-amzn-requestid", "x-amzn-trace-id", "x-amz-apigw-id"})

CacheUse = Literal["Hit", "Miss"]


class BodyBrokenOffError(Exception):
    """A client's body ended early; raised by the body reader."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A cache miss of a request to a cached method."""

    rule: CacheRule
    ticket: Ticket
    #: True if `Cache-Control: max-age=0` was ignored and the answer must contain a warning.
    warns: bool


class Stage:
    """A stage that answers like the deployed stage; `replace` changes the deployment."""

    def __init__(
        self,
        emulator: Emulator,
        cache: StageCache,
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a stage of that name, without a deployment."""
        self._emulator = emulator
        self._name = name
        self._clock = clock
        self._admissions = Admissions()
        self.cache = cache
        self.deployed: Deployed | None = None

    @property
    def declared_origin(self) -> str | None:
        """The origin that may use the API: the errors' `Access-Control-Allow-Origin`."""
        headers = select_cross_origin_headers(self.deployed.responses) if self.deployed else ()
        return next((value for name, value in headers if name.lower() == _ALLOW_ORIGIN), None)

    def replace(self, deployed: Deployed | None) -> None:
        """Serve another deployment (None: there is no deployment), with an empty cache."""
        self.deployed = deployed
        self.cache.flush()
        self._admissions.forget()

    async def answer(self, request: Incoming, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Answer a request; failures are answered, too.

        Args:
            request: without its body.
            read_body: reads the body, and is called only if it is needed; raises
                BodyTooLargeError or BodyBrokenOffError.
        """
        name, _, tail = request.path.removeprefix("/").partition("/")
        if name != self._name:
            return _build_forbidden()
        deployed = self.deployed
        if deployed is None:
            return _build_unavailable(request, "The API is not deployed at the moment; try again.")
        match = deployed.find(request.method, f"/{tail}")
        context = Context(request, make_request_id(), deployed.api_id, self._name, match)
        refusal_answer = _refuse(request, deployed, context, f"/{tail}")
        if refusal_answer is not None:
            return refusal_answer
        request_or_fault = await _read_body(request, read_body)
        if isinstance(request_or_fault, Fault):
            return render(deployed.responses, request_or_fault, context)
        answer = await self._answer_request(request_or_fault, deployed, context)
        # In a thread: compressing megabytes would delay all other clients.
        return await asyncio.to_thread(
            compress,
            answer,
            request.headers.get("accept-encoding"),
            min_bytes=deployed.min_compression_bytes,
        )

    async def _answer_request(
        self, request: Incoming, deployed: Deployed, context: Context
    ) -> Answer:
        match = context.match
        rule = match.method.cache if match else None
        if match is None or rule is None or request.method != "GET":
            answer, _ = await self._ask(request, deployed, context)
            return answer
        return await self._answer_cached(request, deployed, context, match, rule)

    async def _answer_cached(
        self,
        request: Incoming,
        deployed: Deployed,
        context: Context,
        match: RouteMatch,
        rule: CacheRule,
    ) -> Answer:
        wants_fresh = _is_refresh(request)
        if wants_fresh and rule.refresh == "FAIL_WITH_403":
            return render(deployed.responses, MAY_NOT_REFRESH, context)
        key = cache_key(rule, match, request)
        warns = wants_fresh and rule.refresh == "SUCCEED_WITH_RESPONSE_HEADER"
        refreshes = wants_fresh and rule.refresh == "ALLOWED"
        if not refreshes and self._admissions.covers(match.method, request, now=self._clock()):
            entry = self.cache.get(key, now=self._clock())
            if entry is not None:
                fresh_id = entry.adding(("x-amzn-RequestId", context.request_id))
                return _mark(fresh_id, "Hit", warns=warns)
        lookup = _Lookup(rule, self.cache.count_miss(key, now=self._clock()), warns)
        return await self._answer_miss(request, deployed, context, match, lookup)

    async def _answer_miss(
        self,
        request: Incoming,
        deployed: Deployed,
        context: Context,
        match: RouteMatch,
        lookup: _Lookup,
    ) -> Answer:
        answer, made_by = await self._ask(request, deployed, context)
        if made_by is not Origin.INTEGRATION:
            return answer
        # An answer from an old deployment must not be cached for the next.
        if deployed is self.deployed:
            now = self._clock()
            self._admissions.record(match.method, request, now=now)
            self.cache.store(
                lookup.ticket,
                answer.without(_OF_ONE_REQUEST),
                ttl_seconds=lookup.rule.ttl_seconds,
                now=now,
            )
        return _mark(answer, "Miss", warns=lookup.warns)

    async def _ask(
        self, request: Incoming, deployed: Deployed, context: Context
    ) -> tuple[Answer, Origin]:
        """Return the answer and its origin; format the errors of failed integrations."""
        match = context.match
        seconds = match.method.timeout_seconds if match else _UNMATCHED_TIMEOUT_SECONDS
        try:
            answer = await self._emulator.send(deployed.api_id, request, timeout_seconds=seconds)
        except IntegrationTimeoutError:
            return render(deployed.responses, TIMED_OUT, context), Origin.GATEWAY
        except (EmulatorUnreachableError, HungUpError) as exc:
            _logger.warning("%s %s: %s", request.method, request.path, exc)
            answer = _build_unavailable(request, _explain_failure(exc))
            return answer.adding(*select_cross_origin_headers(deployed.responses)), Origin.GATEWAY
        made_by = find_origin(answer, deployed.responses, context)
        if made_by is Origin.FUNCTION_FAILED:
            return render(deployed.responses, FUNCTION_FAILED, context), made_by
        if made_by is Origin.FUNCTION_THROTTLED:
            return render(deployed.responses, FUNCTION_THROTTLED, context), made_by
        if made_by is Origin.GATEWAY:
            return complete(answer, context), made_by
        return answer, made_by


def _refuse(request: Incoming, deployed: Deployed, context: Context, path: str) -> Answer | None:
    """Return the answer if the request is refused before its body is read, else None."""
    if request.header_bytes > MAX_HEADER_BYTES:
        return render(deployed.responses, HEADERS_TOO_LARGE, context)
    if len(request.path) + len(request.query_string) > MAX_URL_CHARACTERS:
        return render(deployed.responses, URL_TOO_LONG, context)
    if context.match is None:
        answer = find_unknown_resource(deployed, request, path)
    else:
        answer = find_refusal(context.match.method, request)
    return answer and answer.adding(*select_cross_origin_headers(deployed.responses))


async def _read_body(
    request: Incoming, read_body: Callable[[], Awaitable[bytes]]
) -> Incoming | Fault:
    """Return the request with its body as the function gets it, or the fault of the body."""
    try:
        return await _inflate(request, await read_body())
    except BodyTooLargeError:
        return TOO_LARGE
    except BodyBrokenOffError:
        return BROKEN_OFF
    except UndecodableError:
        return UNDECODABLE


async def _inflate(request: Incoming, body: bytes) -> Incoming:
    """Return the request with its body, decompressed if necessary.

    API Gateway leaves `Content-Encoding` in place, and functions expect that. Here it is removed,
    because the emulator would decompress the body again.

    Raises:
        BodyTooLargeError: the decompressed body exceeds MAX_BODY_BYTES.
        UndecodableError: the body is not in its declared coding.
    """
    coding = request.headers.get("content-encoding", "").strip()
    if not body or coding.lower() in {"", "identity"}:
        return request.with_body(body)
    content = await asyncio.to_thread(inflate, coding, body, max_bytes=MAX_BODY_BYTES)
    return request.without_header("content-encoding").with_body(content)


def _is_refresh(request: Incoming) -> bool:
    directives = request.headers.get("cache-control", "").lower().split(",")
    return any(directive.strip() == "max-age=0" for directive in directives)


def _mark(answer: Answer, use: CacheUse, *, warns: bool) -> Answer:
    result = answer.adding(("X-Cache", use))
    return result.adding(("Warning", _WARNING)) if warns else result


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


def _explain_failure(cause: EmulatorUnreachableError | HungUpError) -> str:
    if isinstance(cause, HungUpError):
        return "The emulator closed the connection; the request may have been executed."
    return "The emulator does not respond; the request was not accepted. Try again."


def _build_unavailable(request: Incoming, detail: str) -> Answer:
    """Return the API's own 503 problem `unavailable`."""
    problem = Problem("unavailable", detail, headers={"Retry-After": _RETRY_AFTER_SECONDS})
    return build_problem_answer(problem, request.path)
