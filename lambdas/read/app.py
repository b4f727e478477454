"""The read function without Lambda: from a proxy event to a response."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from forebay.http import Response, build_problem_response
from forebay.log import Log
from forebay.metrics import READS_ANSWERED, READS_REFUSED
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, RequestView, Route, routes
from lambdas.read.cached import CachedAnswers
from lambdas.read.downloads import DownloadReader, describe_attachments_disabled
from lambdas.read.forms import read_form
from lambdas.read.items import ItemReader
from lambdas.read.lists import ListReader
from lambdas.read.statuses import StatusReader

_Reader = Callable[[ResourceSpec, RequestView], Response]


class ReadApp:
    """Answers read requests from their declared parts alone (law 5).

    A transient failure is raised, not answered: if the function fails, the gateway answers 503,
    which no cache stores.
    """

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        items: ItemReader,
        lists: ListReader,
        statuses: StatusReader,
        log: Log,
        cache: CachedAnswers | None = None,
        dotted_parameters: bool = True,
        downloads: DownloadReader | None = None,
    ) -> None:
        self._resources = resources
        self._routes: dict[tuple[str, str], Route] = {
            (route.method, route.path): route
            for route in routes(resources, dotted_parameters=dotted_parameters)
            if route.function in {"read", "status"}
        }
        self._readers: Mapping[str, _Reader] = {
            "item": items.read,
            "list": lists.read,
            "query": lists.read_form,
            "status": statuses.read,
        }
        self._downloads = downloads
        self._log = log
        self._cache = cache

    def handle(self, event: Mapping[str, Any]) -> Response:
        """Answer a proxy event.

        Raises:
            psycopg.Error: the database could not answer.
            forebay.errors.NotYetVisibleError: the version in `Read-After` is not visible yet.
        """
        started = time.perf_counter()
        # The route is part of every cache key, so it may be used in addition to the parameters.
        route = self._routes.get((event["httpMethod"], event["resource"]))
        if route is None:
            problem = Problem("unknown_resource", "nothing is read here")
            return build_problem_response(problem, API_PREFIX)
        view = route.view(event)
        instance = API_PREFIX + route.path.format(**view.path)
        try:
            if route.action == "query":
                view = replace(view, query=read_form(event))
            response = self._read(route, view)
        except ProblemError as exc:
            response = build_problem_response(exc.problem, instance)
        self._log.event(
            "read_answered",
            metrics={
                READS_REFUSED if response.is_error else READS_ANSWERED: 1,
                **(self._cache.take_counts() if self._cache is not None else {}),
            },
            # A download reads an item.
            kind="item" if route.action == "download" else route.action,
            path=ascii(instance)[1:-1],
            route=route.name,
            status=response.status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )
        return response.to_head() if event["httpMethod"] == "HEAD" else response

    def _read(self, route: Route, view: RequestView) -> Response:
        spec = self._resources[route.resource]
        if route.action == "download":
            if self._downloads is None:
                raise ProblemError(describe_attachments_disabled())
            return self._downloads.read(spec, view, route.field)
        return self._readers[route.action](spec, view)
