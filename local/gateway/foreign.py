"""Refuse requests from pages of other origins that the API does not allow."""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from forebay.problem import Problem
from local.callers import find_refusal
from local.gateway.messages import build_problem_answer, make_request_id
from local.origins import Policy


def refuse_foreign(policy: Callable[[str], Policy]) -> Middleware:
    """Make a middleware that answers 403 before any other processing of the request.

    Args:
        policy: returns the policy for a path.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        reason = find_refusal(policy(request.path), request)
        if reason is None:
            return await handler(request)
        # Without CORS headers: the page must not read this answer either.
        answer = build_problem_answer(Problem("forbidden", reason), f"urn:uuid:{make_request_id()}")
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)

    return middleware
