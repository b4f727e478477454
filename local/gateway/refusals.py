"""Refuse requests before the stage sees them: malformed requests, and those of foreign pages.

The HTTP server's default answer to a malformed request is plain text that quotes the invalid bytes.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from forebay.problem import Problem
from local.gateway.messages import build_problem_answer, make_request_id
from local.origins import Policy

_logger = logging.getLogger(__name__)

_MALFORMED = Problem("bad_request", "The request is not well-formed HTTP (RFC 9112).")
_UNROUTED = Problem("bad_request", "The request target names no resource; send its path.")
_EXPECTING = Problem("bad_request", "The only supported expectation is `Expect: 100-continue`.")
_DEFECT = Problem(
    "unavailable",
    "The gateway failed; the request may have been executed.",
    headers={"Retry-After": "5"},
)


class Runner(web.AppRunner):
    """A runner with a server that answers malformed requests with problems."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(
            server.request_handler, request_factory=server.request_factory, **self._kwargs
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection with its own answers for HTTP parser errors and failures of the gateway."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the bytes, so it is not sent
    ) -> web.StreamResponse:
        """Return the answer for a failed request; the connection is closed afterwards.

        Raises:
            ConnectionError: an answer has begun already, so another can't be sent.
        """
        is_malformed = status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_malformed:  # every client can cause this, so it is not an error of the gateway
            _logger.info("malformed request from %s: %s", request.remote, type(exc).__name__)
        else:
            _logger.error("the gateway failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = _build_response(_MALFORMED if is_malformed else _DEFECT)
        response.force_close()
        return response


def refuse_foreign(choose_policy: Callable[[str], Policy]) -> Middleware:
    """Make a middleware that refuses requests from foreign pages by the policy of their path."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        reason = choose_policy(request.path).find_refusal_of(request)
        # Without CORS headers: the page must not read this answer either.
        return _build_response(Problem("forbidden", reason)) if reason else await handler(request)

    return middleware


@web.middleware
async def refuse_unrouted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse targets that are not paths, such as `*` or those of CONNECT."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _build_response(_UNROUTED)


async def refuse_expectation(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue` with 100, and refuse every other `Expect`."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        return _build_response(_EXPECTING)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # `handle_error` must not take this output for the beginning of the answer.
    request.writer.output_size = 0
    return None


def _build_response(problem: Problem) -> web.Response:
    answer = build_problem_answer(problem, f"urn:uuid:{make_request_id()}")
    return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)
