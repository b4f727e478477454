"""The deployed API as the gateway needs it: routes requests to methods and their settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from local.gateway.messages import Headers

Location = Literal["path", "querystring", "header"]


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
    #: The only parts of a request that distinguish entries: the declared parts, and credentials.
    key: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of a resource."""

    #: Template: `/cities/{key}`.
    resource_path: str
    #: `GET` … or `ANY`.
    http_method: str
    #: All declared request parameters, cached or not.
    declared: frozenset[Parameter]
    timeout_seconds: float
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
    #: Headers with a fixed text, the only kind that the API declares.
    headers: Headers
    #: Template of the body, or None for the response type's own body.
    template: str | None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The method that serves a request, with the values of its path parameters."""

    method: Method
    #: Percent-encoded, as a REST API passes them to the function.
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A stage of an API."""

    api_id: str
    stage: str
    responses: Mapping[str, CustomResponse]
    #: The smallest size of answers that are compressed; None if the API doesn't compress.
    min_compression_bytes: int | None
    #: Methods by HTTP method, of each resource; the most specific resource first (`rank`).
    resources: Sequence[tuple[tuple[str, ...], Mapping[str, Method]]]

    @property
    def first_segments(self) -> frozenset[str]:
        """The first segments of all paths."""
        return frozenset(parts[0] for parts, _ in self.resources if parts)

    def find(self, http_method: str, path: str) -> RouteMatch | None:
        """Return the method that API Gateway would choose, or None (it then answers 403).

        The path is below the stage and percent-encoded: `/cities/5`.
        """
        segments = split_path(path)
        matches = [
            (parts, values, methods.get(http_method) or methods.get("ANY"))
            for parts, methods in self.resources
            if (values := _match(parts, segments)) is not None
        ]
        if matches and (method := matches[0][2]) is not None:
            return RouteMatch(method, matches[0][1])
        # API Gateway routes on path and method together: a method that the resource lacks goes to
        # the greedy resource with the longest path that has it.
        greedy = [
            (len(parts), RouteMatch(method, values))
            for parts, values, method in matches
            if parts and parts[-1].endswith("+}") and method is not None
        ]
        return max(greedy, key=lambda match: match[0])[1] if greedy else None


def split_path(path: str) -> tuple[str, ...]:
    """Split a path into segments as API Gateway does; empty segments are dropped."""
    return tuple(segment for segment in path.split("/") if segment)


def rank(parts: Sequence[str]) -> list[int]:
    """Rank a literal segment before `{name}`, and that before the greedy `{name+}`."""
    return [2 if part.endswith("+}") else int(part.startswith("{")) for part in parts]


def _match(parts: Sequence[str], segments: Sequence[str]) -> Mapping[str, str] | None:
    """Return the path parameters of a resource that the segments match, or None."""
    values: dict[str, str] = {}
    for index, part in enumerate(parts):
        if index == len(segments):
            return None
        if part.endswith("+}"):
            return {**values, part[1:-2]: "/".join(segments[index:])}
        if part.startswith("{"):
            values[part[1:-1]] = segments[index]
        elif part != segments[index]:
            return None
    return values if len(parts) == len(segments) else None
