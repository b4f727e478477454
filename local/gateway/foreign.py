"""Refuses what a page of another origin sends, unless the API declares that it may."""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from forebay.problem import Problem
from local.callers import refusal
from local.gateway.messages import new_request_id, problem_answer
from local.origins import Policy


def refuse_foreign(policy: Callable[[str], Policy]) -> Middleware:
    """A middleware that answers 403 before anything else looks at the request.

    Args:
        policy: gives the policy for a path.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        reason = refusal(policy(request.path), request)
        if reason is None:
            return await handler(request)
        # Without the headers of CORS: the page is not to read this either.
        answer = problem_answer(Problem("forbidden", reason), f"urn:uuid:{new_request_id()}")
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)

    return middleware
