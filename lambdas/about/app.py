"""The about function without Lambda: from a proxy event to a response."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import orjson

from forebay.conditional import is_known
from forebay.http import Response, build_json_response, build_problem_response
from forebay.log import Log
from forebay.openapi import describe
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, RequestView, Route, routes
from lambdas.about.health import Health
from lambdas.about.pages import Pages


class AboutApp:
    """Answers requests that concern no single resource."""

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        pages: Pages,
        health: Health,
        require_api_key: bool,
        log: Log,
        dotted_parameters: bool = True,
    ) -> None:
        self._resources = resources
        self._pages = pages
        self._health = health
        self._require_api_key = require_api_key
        self._dotted_parameters = dotted_parameters
        self._log = log
        self._routes: dict[tuple[str, str], Route] = {}
        self._methods: dict[str, list[str]] = {}
        for route in routes(resources):
            self._methods.setdefault(route.path, ["OPTIONS"]).append(route.method)
            if route.function == "about":
                self._routes[route.method, route.path] = route
        self._readers: Mapping[str, Callable[[RequestView], Response]] = {
            "index": lambda _: self._answer_index(),
            "openapi": self._answer_openapi,
            "docs": lambda _: self._pages.page(),
            "asset": self._answer_asset,
            "health": lambda _: self._health.read(),
        }

    def handle(self, event: Mapping[str, Any]) -> Response:
        """Answer a proxy event.

        The gateway also sends here the methods that a path does not have.
        """
        started = time.perf_counter()
        method, path = event["httpMethod"], event["resource"]
        # Every path with GET also has HEAD (RFC 9110 §9.1).
        route = self._routes.get(("GET" if method == "HEAD" else method, path))
        if route is None:
            return self._refuse_method(method, path, API_PREFIX + str(event.get("path") or path))
        view = route.view(event)
        instance = API_PREFIX + route.path.format(**view.path).rstrip("/")
        try:
            response = self._readers[route.action](view)
        except ProblemError as exc:
            response = build_problem_response(exc.problem, instance)
        self._log.event(
            "about_answered",
            path=ascii(instance)[1:-1],
            route=route.name,
            status=response.status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )
        return response.to_head() if method == "HEAD" else response

    def _refuse_method(self, method: str, path: str, instance: str) -> Response:
        allowed = ", ".join(sorted(self._methods.get(path, ())))
        problem = Problem(
            "method_not_allowed",
            f"{path} has no {method}; it has {allowed}",
            headers={"Allow": allowed},
        )
        return build_problem_response(problem, instance)

    def _answer_index(self) -> Response:
        """The links to the description, the documentation, the status and the resources."""
        links = {
            "description": f"{API_PREFIX}/openapi.json",
            "documentation": f"{API_PREFIX}/docs",
            "status": f"{API_PREFIX}/status",
            **{path: f"{API_PREFIX}/{path}" for path in self._resources},
        }
        return build_json_response(200, {"links": links}, {"Cache-Control": "no-cache"})

    def _answer_openapi(self, view: RequestView) -> Response:
        text, tag = self._described
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if is_known(tag, view.headers.get("if-none-match")):
            return Response(304, headers=headers)
        return Response(200, text, headers=headers)

    def _answer_asset(self, view: RequestView) -> Response:
        asset = self._pages.asset(view.path["version"], view.path["file"])
        if asset is None:
            raise ProblemError(
                Problem("unknown_resource", f"{API_PREFIX}/docs names the files that there are")
            )
        return asset

    @cached_property
    def _described(self) -> tuple[str, str]:
        """The description of the API, and its entity tag."""
        document = describe(
            self._resources,
            require_api_key=self._require_api_key,
            dotted_parameters=self._dotted_parameters,
        )
        text = orjson.dumps(document)
        return text.decode(), f'"{hashlib.sha256(text).hexdigest()[:32]}"'
