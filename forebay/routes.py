"""Every route of the API, and every part of a request that a cached route may read.

The API Gateway routes, their cache keys and the read function's view of a request all derive from
this list, so the function can't read anything that is missing in the cache key (law 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from forebay.keys import decode_segment
from forebay.query.grammar import FORM_HEADERS, FORM_PAGES, LIST_HEADERS, list_parameters
from forebay.resource.relations import Relation, find_relations
from forebay.resource.spec import ResourceSpec

Action = Literal[
    "list", "query", "item", "status",
    "post", "put", "patch", "patch_many", "delete", "delete_many", "commands",
    "upload", "download",
    "index", "openapi", "docs", "asset", "health",
]  # fmt: skip
Location = Literal["path", "query", "header"]

API_PREFIX = "/v1"

#: Prefix of the paths that take a list's query as a form; `Resource` reserves it.
QUERY_PATH = "/query"

#: Headers that an item's route reads.
ITEM_HEADERS = ("Accept", "If-None-Match", "Read-After")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One part of a request that a route declares."""

    location: Location
    name: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """The declared parts of one request; absent parts are left out."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    #: By lower-case name.
    headers: Mapping[str, str]
    #: `requestContext` of the event, for `Access.require`; empty unless the route `names_others`.
    caller: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)  # without slots: cached_property needs a __dict__
class Route:
    """One method on one path template."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    #: Below the stage, in API Gateway's syntax: `/cities/{key}`.
    path: str
    #: `status` is the read function's code with a concurrency of its own, for requests that wait.
    function: Literal["read", "status", "write", "about"]
    action: Action
    #: The resource's path; empty for routes about the API itself.
    resource: str
    #: For a cached route: the complete cache key.
    parameters: tuple[Parameter, ...]
    cached: bool
    #: True if a request may name further resources, so that the function checks the caller's
    #: scopes. If the route is cached, the caller is then part of the cache key.
    names_others: bool = False
    #: The resource's `scope_group`; empty for routes about the API itself.
    scope_group: str = ""
    #: Answered without an API key everywhere: a browser that opens a page can't send a key.
    public: bool = False
    #: The attachment of an upload or a download.
    field: str = ""

    @cached_property
    def name(self) -> str:
        """A short unique name: `cities.item`, `cities.item.head`, `photos.image.upload`."""
        names = (self.resource or self.function, self.field, self.action)
        name = ".".join(filter(None, names))
        return f"{name}.head" if self.method == "HEAD" else name

    @property
    def reads_query(self) -> bool:
        """True if a request may have only the route's declared parameters.

        The edge checks that. The function itself checks the address of a form: it is not cached.
        """
        return self.action in {"list", "item"}

    @property
    def reads_rows(self) -> bool:
        """True if an answer may take as long as a database query."""
        return self.reads_query or self.action in {"query", "download"}

    def view(self, event: Mapping[str, Any]) -> RequestView:
        """The declared parts of an API Gateway proxy event."""
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        path = event.get("pathParameters") or {}
        query = event.get("queryStringParameters") or {}
        return RequestView(
            path={
                name: decode_segment(path[name])
                for name in self._path_names
                if path.get(name) is not None
            },
            query={name: query[name] for name in self._query_names if query.get(name) is not None},
            headers={
                name: headers[name] for name in self._header_names if headers.get(name) is not None
            },
            caller=(event.get("requestContext") or {}) if self.names_others else {},
        )

    @cached_property
    def _path_names(self) -> tuple[str, ...]:
        return self._list_names("path")

    @cached_property
    def _query_names(self) -> tuple[str, ...]:
        return self._list_names("query")

    @cached_property
    def _header_names(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self._list_names("header"))

    def _list_names(self, location: Location) -> tuple[str, ...]:
        return tuple(
            parameter.name for parameter in self.parameters if parameter.location == location
        )


def _build_about(path: str, action: Action, *parameters: Parameter, public: bool = True) -> Route:
    return Route(
        method="GET",
        path=path,
        function="about",
        action=action,
        resource="",
        parameters=parameters,
        cached=False,
        public=public,
    )


#: Routes about the API itself. `Resource` reserves their paths.
_ABOUT = (
    _build_about("/", "index"),
    _build_about("/openapi.json", "openapi", Parameter("header", "If-None-Match")),
    _build_about("/docs", "docs"),
    _build_about(
        "/docs/{version}/{file}", "asset", Parameter("path", "version"), Parameter("path", "file")
    ),
    _build_about("/status", "health", public=False),
)


#: Operations on any resource: the function checks the scope of each.
_COMMANDS = Route(
    method="POST",
    path="/commands",
    function="write",
    action="commands",
    resource="",
    parameters=(),
    cached=False,
    names_others=True,
)


def routes(
    resources: Mapping[str, ResourceSpec], *, dotted_parameters: bool = True
) -> tuple[Route, ...]:
    """Every route, in a stable order.

    Args:
        resources: the declarations, by path.
        dotted_parameters: False if no route has query parameters as in `drop_dotted`.
    """
    relations_by_path = find_relations(resources)
    resource_routes = (
        route
        for spec in resources.values()
        for route in _build_routes(spec, relations_by_path[spec.path])
    )
    every = (*_ABOUT, _COMMANDS, *resource_routes)
    return every if dotted_parameters else drop_dotted(every)


def drop_dotted(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes without query parameters with a dot in their names: `not.and`, `country.name`.

    No document of AWS settles whether API Gateway accepts such names next to `and` and `name`.
    """
    return tuple(
        replace(
            route,
            parameters=tuple(
                parameter
                for parameter in route.parameters
                if parameter.location != "query" or "." not in parameter.name
            ),
        )
        for route in routes
    )


def _build_routes(spec: ResourceSpec, relations: Sequence[Relation]) -> Iterator[Route]:
    collection, item = f"/{spec.path}", f"/{spec.path}/{{key}}"
    key = Parameter("path", "key")
    names_others = any(relation.target is not spec for relation in relations)
    list_route = Route(
        method="GET",
        path=collection,
        function="read",
        action="list",
        resource=spec.path,
        parameters=(
            *(Parameter("query", name) for name in list_parameters(spec, relations)),
            *(Parameter("header", name) for name in LIST_HEADERS),
        ),
        cached=True,
        names_others=names_others,
        scope_group=spec.scope_group,
    )
    item_route = Route(
        method="GET",
        path=item,
        function="read",
        action="item",
        resource=spec.path,
        parameters=(key, *(Parameter("header", name) for name in ITEM_HEADERS)),
        cached=True,
        scope_group=spec.scope_group,
    )
    for route in (list_route, item_route):
        yield route
        # HEAD is not cached: the cache separates methods, so HEAD could not reuse GET's entry.
        yield replace(route, method="HEAD", cached=False)
    yield Route(
        method="POST",
        path=f"{QUERY_PATH}{collection}",
        function="read",
        action="query",
        resource=spec.path,
        parameters=(
            *(Parameter("query", name) for name in FORM_PAGES),
            *(Parameter("header", name) for name in FORM_HEADERS),
        ),
        cached=False,
        names_others=names_others,
        scope_group=spec.scope_group,
    )
    yield Route(
        method="GET",
        path=f"{item}/commands/{{id}}",
        function="status",
        action="status",
        resource=spec.path,
        parameters=(key, Parameter("path", "id"), Parameter("header", "Prefer")),
        cached=False,
        scope_group=spec.scope_group,
    )
    yield from _build_attachments(spec, item)
    yield _build_write(spec, "POST", collection, "post", ())
    yield _build_write(spec, "PUT", item, "put", (key,))
    yield _build_write(spec, "PATCH", item, "patch", (key,))
    yield _build_write(spec, "DELETE", item, "delete", (key,))
    filters = tuple(Parameter("query", column.name) for column in spec.columns)
    yield _build_write(spec, "PATCH", collection, "patch_many", filters)
    yield _build_write(spec, "DELETE", collection, "delete_many", filters)


def _build_attachments(spec: ResourceSpec, item: str) -> Iterator[Route]:
    key = Parameter("path", "key")
    for attachment in spec.attachments:
        path = f"{item}/{attachment.name}"
        upload = _build_write(spec, "POST", path, "upload", (key,))
        yield replace(upload, field=attachment.name)
        yield Route(
            method="GET",
            path=path,
            function="read",
            action="download",
            resource=spec.path,
            parameters=(key, Parameter("header", "Read-After")),
            # Each answer has a signature that ends after minutes.
            cached=False,
            field=attachment.name,
        )


def _build_write(
    spec: ResourceSpec,
    method: Literal["POST", "PUT", "PATCH", "DELETE"],
    path: str,
    action: Action,
    parameters: tuple[Parameter, ...],
) -> Route:
    return Route(
        method=method,
        path=path,
        function="write",
        action=action,
        resource=spec.path,
        parameters=parameters,
        cached=False,
        scope_group=spec.scope_group,
    )
