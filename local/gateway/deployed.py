"""The deployed API as the gateway needs it: routes requests to methods and their settings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

Location = Literal["path", "querystring", "header"]

# How to treat `Cache-Control: max-age=0` (AWS: "Invalidate an API Gateway cache entry"). The last
# three apply to a caller without the InvalidateCache permission.
Refresh = Literal[
    "ALLOWED",
    "FAIL_WITH_403",
    "SUCCEED_WITH_RESPONSE_HEADER",
    "SUCCEED_WITHOUT_RESPONSE_HEADER",
]


@dataclass(frozen=True, slots=True, order=True)
class Parameter:
    """One part of a request: `method.request.querystring.limit`."""

    location: Location
    #: Lower case for a header.
    name: str


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How a method's answers are cached."""

    ttl_seconds: int
    #: Methods of one namespace share entries; by default it is the resource's id.
    namespace: str
    #: The only parts of a request that distinguish entries.
    key: tuple[Parameter, ...]
    refresh: Refresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of a resource."""

    resource_id: str
    #: Template: `/cities/{key}`.
    resource_path: str
    #: `GET` … or `ANY`.
    http_method: str
    #: A Lambda proxy integration; the emulator reports its failures in its own way.
    is_function: bool
    #: All declared request parameters, cached or not.
    declared: frozenset[Parameter]
    timeout_seconds: float
    authorization: str
    needs_api_key: bool
    #: None if answers are not cached.
    cache: CacheRule | None

    @property
    def query_names(self) -> frozenset[str]:
        """Names of the declared query parameters."""
        return frozenset(
            parameter.name for parameter in self.declared if parameter.location == "querystring"
        )


@dataclass(frozen=True, slots=True)
class CustomResponse:
    """A gateway response that the API customizes."""

    #: None keeps the status of the response type.
    status: int | None
    #: Maps `gatewayresponse.header.X` to the source of its value.
    parameters: Mapping[str, str]
    #: Template of the body, or None for the response type's own body.
    template: str | None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The method that serves a request, with the values of its path parameters."""

    method: Method
    #: Percent-encoded, as a REST API passes them to the function.
    path: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    """A resource in the tree of path segments."""

    children: dict[str, "_Node"] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)

    def serving(self, http_method: str) -> Method | None:
        return self.methods.get(http_method) or self.methods.get("ANY")


def _rank_segment(part: str) -> int:
    """Rank a literal segment before `{name}`, and that before the greedy `{name+}`."""
    if not part.startswith("{"):
        return 0
    return 2 if part.endswith("+}") else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A stage of an API."""

    api_id: str
    stage: str
    deployment_id: str
    #: Differs after every redeployment and every update of the stage.
    fingerprint: str
    responses: Mapping[str, CustomResponse]
    #: The smallest size of answers that are compressed; None if the API doesn't compress.
    min_compression_bytes: int | None
    _root: _Node

    @classmethod
    def of(
        cls,
        *,
        api_id: str,
        stage: str,
        deployment_id: str,
        fingerprint: str,
        responses: Mapping[str, CustomResponse],
        methods: Iterable[Method],
        min_compression_bytes: int | None = None,
    ) -> Self:
        """Build the stage from its methods."""
        root = _Node()
        for method in methods:
            node = root
            for part in split_path(method.resource_path):
                node = node.children.setdefault(part, _Node())
            node.methods[method.http_method] = method
        return cls(
            api_id=api_id,
            stage=stage,
            deployment_id=deployment_id,
            fingerprint=fingerprint,
            responses=responses,
            min_compression_bytes=min_compression_bytes,
            _root=root,
        )

    @property
    def first_segments(self) -> frozenset[str]:
        """The first segments of all paths."""
        return frozenset(self._root.children)

    def find(self, http_method: str, path: str) -> RouteMatch | None:
        """Return the method that API Gateway would choose, or None (it then answers 403).

        Args:
            http_method: of the request.
            path: below the stage, percent-encoded: `/cities/5`.
        """
        segments = split_path(path)
        resource = _descend(self._root, segments, {})
        if resource is not None:
            node, values = resource
            method = node.serving(http_method)
            if method is not None:
                return RouteMatch(method, values)
        # API Gateway routes on path and method together: a method that the resource lacks goes to
        # the greedy resource with the longest path that has it.
        candidates = list(_find_greedy(self._root, segments, http_method, {}))
        return max(candidates, key=lambda pair: pair[0])[1] if candidates else None


def split_path(path: str) -> tuple[str, ...]:
    """Split a path into segments as API Gateway does; empty segments are dropped."""
    return tuple(segment for segment in path.split("/") if segment)


def _descend(
    node: _Node, segments: tuple[str, ...], values: Mapping[str, str]
) -> tuple[_Node, Mapping[str, str]] | None:
    """Return the most specific resource for the segments, regardless of its methods."""
    if not segments:
        return node, values
    head, remaining = segments[0], segments[1:]
    for part in sorted(node.children, key=_rank_segment):
        child = node.children[part]
        if part.endswith("+}"):
            return child, {**values, part[1:-2]: "/".join(segments)}
        if part == head:
            resource = _descend(child, remaining, values)
        elif part.startswith("{"):
            resource = _descend(child, remaining, {**values, part[1:-1]: head})
        else:
            continue
        if resource is not None:
            return resource
    return None


def _find_greedy(
    node: _Node,
    segments: tuple[str, ...],
    http_method: str,
    values: Mapping[str, str],
    depth: int = 0,
) -> Iterator[tuple[int, RouteMatch]]:
    """Yield every `{name+}` resource that could serve the request, with its depth."""
    if not segments:
        return
    head, remaining = segments[0], segments[1:]
    for part in sorted(node.children, key=_rank_segment):
        child = node.children[part]
        if part.endswith("+}"):
            method = child.serving(http_method)
            if method is not None:
                yield depth, RouteMatch(method, {**values, part[1:-2]: "/".join(segments)})
        elif part == head:
            yield from _find_greedy(child, remaining, http_method, values, depth + 1)
        elif part.startswith("{"):
            path_values = {**values, part[1:-1]: head}
            yield from _find_greedy(child, remaining, http_method, path_values, depth + 1)
