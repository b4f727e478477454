"""What happens to one request: limits, edge, cache, integration, gateway response, in order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from forebay.problem import Problem
from local.gateway.admission import Admissions
from local.gateway.cache import StageCache, Ticket, cache_key
from local.gateway.compression import BodyTooLargeError, UndecodableError, compressed, inflated
from local.gateway.deployed import CacheRule, Deployed, Found
from local.gateway.edge import refusal, unheard_of
from local.gateway.errors import EmulatorUnreachableError, HungUpError, IntegrationTimeoutError
from local.gateway.forward import Emulator
from local.gateway.messages import Answer, Incoming, new_request_id, problem_answer
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
    cross_origin_headers,
    origin,
    render,
)

_logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024  # API Gateway's payload limit
MAX_HEADER_BYTES = 10_240  # its limit for all headers together
MAX_URL_CHARACTERS = 10_240  # its limit for the URL of a regional API
_UNMATCHED_TIMEOUT_SECONDS = 29.0
_ALLOW_ORIGIN = "access-control-allow-origin"
_RETRY_AFTER_SECONDS = "5"
_WARNING = "199 Cache-control headers were ignored because the caller was unauthorized"
# Made for each request, so not kept with an answer.
_OF_ONE_REQUEST = frozenset({"x-amzn-requestid", "x-amzn-trace-id", "x-amz-apigw-id"})

CacheUse = Literal["Hit", "Miss"]


class BodyBrokenOffError(Exception):
    """Raised by the reader of a body that ends before its end."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A request to a cached method that was not found in the cache."""

    rule: CacheRule
    ticket: Ticket
    #: Whether `Cache-Control: max-age=0` was ignored and the client is to be told.
    warns: bool


class Stage:
    """Answers requests as the deployed stage would; `deployed` is replaced after a redeployment."""

    def __init__(
        self,
        emulator: Emulator,
        cache: StageCache,
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A stage of that name that is not deployed yet."""
        self._emulator = emulator
        self._name = name
        self._clock = clock
        self._admissions = Admissions()
        self.cache = cache
        self.deployed: Deployed | None = None

    @property
    def declared_origin(self) -> str | None:
        """Whose pages may use the API, as its errors tell (`Access-Control-Allow-Origin`)."""
        headers = cross_origin_headers(self.deployed.responses) if self.deployed else ()
        return next((value for name, value in headers if name.lower() == _ALLOW_ORIGIN), None)

    def replace(self, deployed: Deployed | None) -> None:
        """Goes on with another deployment, and an empty cache; None while there is none."""
        self.deployed = deployed
        self.cache.flush()
        self._admissions.forget()

    async def answer(self, request: Incoming, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """The answer for the client; whatever fails has one.

        Args:
            request: without its body.
            read_body: brings the body, once it is known that it is wanted; raises
                BodyTooLargeError or BodyBrokenOffError.
        """
        stage, _, rest = request.path.removeprefix("/").partition("/")
        if stage != self._name:
            return _forbidden()
        deployed = self.deployed
        if deployed is None:
            return _unavailable(request, "The API is not deployed at the moment; try again.")
        found = deployed.find(request.method, f"/{rest}")
        context = Context(request, new_request_id(), deployed.api_id, self._name, found)
        refused = _refused(request, deployed, context, f"/{rest}")
        if refused is not None:
            return refused
        whole = await _whole(request, read_body)
        if isinstance(whole, Fault):
            return render(deployed.responses, whole, context)
        answer = await self._answer_whole(whole, deployed, context)
        # In a thread: packing megabytes would keep all other clients waiting.
        return await asyncio.to_thread(
            compressed,
            answer,
            request.headers.get("accept-encoding"),
            min_bytes=deployed.min_compression_bytes,
        )

    async def _answer_whole(
        self, request: Incoming, deployed: Deployed, context: Context
    ) -> Answer:
        found = context.found
        rule = found.method.cache if found else None
        if found is None or rule is None or request.method != "GET":
            answer, _ = await self._ask(request, deployed, context)
            return answer
        return await self._answer_cached(request, deployed, context, found, rule)

    async def _answer_cached(
        self,
        request: Incoming,
        deployed: Deployed,
        context: Context,
        found: Found,
        rule: CacheRule,
    ) -> Answer:
        wants_fresh = _wants_fresh(request)
        if wants_fresh and rule.refresh == "FAIL_WITH_403":
            return render(deployed.responses, MAY_NOT_REFRESH, context)
        key = cache_key(rule, found, request)
        warns = wants_fresh and rule.refresh == "SUCCEED_WITH_RESPONSE_HEADER"
        refreshes = wants_fresh and rule.refresh == "ALLOWED"
        if not refreshes and self._admissions.covers(found.method, request, now=self._clock()):
            kept = self.cache.get(key, now=self._clock())
            if kept is not None:
                fresh_id = kept.adding(("x-amzn-RequestId", context.request_id))
                return _marked(fresh_id, "Hit", warns=warns)
        lookup = _Lookup(rule, self.cache.miss(key, now=self._clock()), warns)
        return await self._answer_miss(request, deployed, context, found, lookup)

    async def _answer_miss(
        self,
        request: Incoming,
        deployed: Deployed,
        context: Context,
        found: Found,
        lookup: _Lookup,
    ) -> Answer:
        answer, made_by = await self._ask(request, deployed, context)
        if made_by is not Origin.INTEGRATION:
            return answer
        # What came in under one deployment is not kept for the next.
        if deployed is self.deployed:
            arrived = self._clock()
            self._admissions.note(found.method, request, now=arrived)
            self.cache.store(
                lookup.ticket,
                answer.without(_OF_ONE_REQUEST),
                ttl_seconds=lookup.rule.ttl_seconds,
                now=arrived,
            )
        return _marked(answer, "Miss", warns=lookup.warns)

    async def _ask(
        self, request: Incoming, deployed: Deployed, context: Context
    ) -> tuple[Answer, Origin]:
        """The emulator's answer, a failed integration's worded as deployed, and who made it."""
        found = context.found
        seconds = found.method.timeout_seconds if found else _UNMATCHED_TIMEOUT_SECONDS
        try:
            answer = await self._emulator.send(deployed.api_id, request, timeout_seconds=seconds)
        except IntegrationTimeoutError:
            return render(deployed.responses, TIMED_OUT, context), Origin.GATEWAY
        except (EmulatorUnreachableError, HungUpError) as exc:
            _logger.warning("%s %s: %s", request.method, request.path, exc)
            answer = _unavailable(request, _fate(exc))
            return answer.adding(*cross_origin_headers(deployed.responses)), Origin.GATEWAY
        made_by = origin(answer, deployed.responses, context)
        if made_by is Origin.FUNCTION_FAILED:
            return render(deployed.responses, FUNCTION_FAILED, context), made_by
        if made_by is Origin.FUNCTION_THROTTLED:
            return render(deployed.responses, FUNCTION_THROTTLED, context), made_by
        if made_by is Origin.GATEWAY:
            return complete(answer, context), made_by
        return answer, made_by


def _refused(request: Incoming, deployed: Deployed, context: Context, below: str) -> Answer | None:
    """The answer to a request that is refused before its body is read."""
    if request.header_bytes > MAX_HEADER_BYTES:
        return render(deployed.responses, HEADERS_TOO_LARGE, context)
    if len(request.path) + len(request.query_string) > MAX_URL_CHARACTERS:
        return render(deployed.responses, URL_TOO_LONG, context)
    if context.found is None:
        refused = unheard_of(deployed, request, below)
    else:
        refused = refusal(context.found.method, request)
    return refused and refused.adding(*cross_origin_headers(deployed.responses))


async def _whole(request: Incoming, read_body: Callable[[], Awaitable[bytes]]) -> Incoming | Fault:
    """The request with its body as the function gets it, or why there is none."""
    try:
        return await _inflated(request, await read_body())
    except BodyTooLargeError:
        return TOO_LARGE
    except BodyBrokenOffError:
        return BROKEN_OFF
    except UndecodableError:
        return UNDECODABLE


async def _inflated(request: Incoming, body: bytes) -> Incoming:
    """The request with its body, inflated if it is compressed.

    API Gateway leaves `Content-Encoding` in place, and functions know that; the emulator would
    inflate the body a second time.

    Raises:
        BodyTooLargeError: inflated, it is larger than MAX_BODY_BYTES.
        UndecodableError: it is not in the coding that it names.
    """
    coding = request.headers.get("content-encoding", "").strip()
    if not body or coding.lower() in {"", "identity"}:
        return request.with_body(body)
    plain = await asyncio.to_thread(inflated, coding, body, max_bytes=MAX_BODY_BYTES)
    return request.without_header("content-encoding").with_body(plain)


def _wants_fresh(request: Incoming) -> bool:
    directives = request.headers.get("cache-control", "").lower().split(",")
    return any(directive.strip() == "max-age=0" for directive in directives)


def _marked(answer: Answer, use: CacheUse, *, warns: bool) -> Answer:
    marked = answer.adding(("X-Cache", use))
    return marked.adding(("Warning", _WARNING)) if warns else marked


def _forbidden() -> Answer:
    """What AWS answers outside any stage, where no gateway response applies."""
    return Answer(
        403,
        (
            ("Content-Type", "application/json"),
            ("x-amzn-ErrorType", "ForbiddenException"),
            ("x-amzn-RequestId", new_request_id()),
        ),
        b'{"message":"Forbidden"}',
    )


def _fate(cause: EmulatorUnreachableError | HungUpError) -> str:
    if isinstance(cause, HungUpError):
        return "The emulator broke off; the request may or may not have been carried out."
    return "The emulator does not answer; the request was not accepted. Try again."


def _unavailable(request: Incoming, detail: str) -> Answer:
    """503 in the words of the API's own problem of that name."""
    problem = Problem("unavailable", detail, headers={"Retry-After": _RETRY_AFTER_SECONDS})
    return problem_answer(problem, request.path, to_read=request.method in {"GET", "HEAD"})
