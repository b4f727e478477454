"""Writes the CloudFront Function that refuses requests which the caches can't distinguish."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forebay.edge import HINT_JSON, HINT_RELATED, HINT_REPEATED
from forebay.errors import SettingsError
from forebay.problem import CATALOGUE, TYPE_PREFIX
from forebay.routes import API_PREFIX, Route

_SOURCE: Final = Path(__file__).with_suffix(".js")
_MAX_BYTES: Final = 10 * 1024  # CloudFront's quota for the code of a function
#: CloudFront's quotas of a key-value store: 5 MB, and 1 KB for a key with its value.
_MAX_TABLE_BYTES: Final = 5 * 1024 * 1024
_MAX_VALUE: Final = 900
#: Above so many names, a misspelt one is compared with none: a function has about a millisecond.
_MAX_NAMES: Final = 50
#: In the place of names: the resource has no such path; the path has no query parameters.
_LACKS: Final = "-"
_NONE: Final = "!"
_CODES: Final = ("unknown_parameter", "repeated_parameter", "payload_too_large", "PGRST205")


@dataclass(frozen=True, slots=True)
class EdgeFunction:
    """A function and the table that it reads."""

    code: str
    #: The parameters of each resource, in pairs of a store.
    table: Mapping[str, str]


def build_edge_function(
    routes: Sequence[Route], *, max_body_bytes: int, cors_allow_origin: str
) -> EdgeFunction:
    """The function for these routes.

    Raises:
        SettingsError: the code or the table would be larger than CloudFront accepts.
    """
    shared_names = _find_shared_names(routes)
    shapes = list(dict.fromkeys(_find_shape(route) for route in routes if _is_in_table(route)))
    values = {
        **_describe_routes(routes, shared_names),
        "SHAPES": shapes,
        "SHARED": sorted(shared_names),
        "PROBLEMS": {
            code: {
                "type": TYPE_PREFIX + code,
                "title": CATALOGUE[code][1],
                "status": CATALOGUE[code][0],
            }
            for code in _CODES
        },
        "STAGE": API_PREFIX.removeprefix("/"),
        "HINT_JSON": HINT_JSON,
        "HINT_RELATED": HINT_RELATED,
        "HINT_REPEATED": HINT_REPEATED,
        "MAX_BODY_BYTES": max_body_bytes,
        "ORIGIN": cors_allow_origin,
    }
    code = _shorten(_SOURCE.read_text(encoding="utf-8"))
    for name, value in values.items():
        code = code.replace(f"__{name}__", json.dumps(value, separators=(",", ":")))
    table = _build_table(routes, shapes, shared_names)
    _check_sizes(code, table)
    return EdgeFunction(code, table)


def _describe_routes(
    routes: Sequence[Route], shared_names: frozenset[str]
) -> Mapping[str, Sequence[str] | Mapping[str, str]]:
    """The code's constants about paths, which do not grow with the resources."""
    names = sorted({_take_first_segment(route) for route in routes} - {""})
    checked = {
        f"{route.method} {_find_shape(route)}"
        for route in routes
        if route.method != "GET" and route.reads_query
    }
    return {
        "ROUTES": {
            route.path: _join_own_names(route, shared_names)
            for route in routes
            if route.method == "GET" and not _is_in_table(route)
        },
        "CHECKED": sorted(checked),
        "OWN": sorted({_take_first_segment(route) for route in routes if not _is_of(route)} - {""}),
        "NAMES": names if len(names) <= _MAX_NAMES else [],
    }


def _check_sizes(code: str, table: Mapping[str, str]) -> None:
    size = len(code.encode())
    if size > _MAX_BYTES:
        raise SettingsError(
            f"the edge's function has {size} bytes, but CloudFront accepts at most {_MAX_BYTES}, "
            "and AWS does not raise this quota: remove `edge`, or fields that all resources have"
        )
    size = sum(len(key) + len(value) for key, value in table.items())
    if size > _MAX_TABLE_BYTES:
        raise SettingsError(
            f"the table of the edge's function has {size} bytes, but a store of CloudFront has at "
            f"most {_MAX_TABLE_BYTES}, and AWS does not raise this quota: remove `edge`, or fields"
        )


def _build_table(
    routes: Sequence[Route], shapes: Sequence[str], shared_names: frozenset[str]
) -> Mapping[str, str]:
    """The parameters by resource: a line for each shape."""
    by_resource: dict[str, dict[str, str]] = {}
    for route in routes:
        if _is_in_table(route):
            rows = by_resource.setdefault(route.resource, {})
            rows[_find_shape(route)] = _join_own_names(route, shared_names)
    return {
        key: value
        for resource, rows in by_resource.items()
        for key, value in _cut(resource, "\n".join(rows.get(shape, _LACKS) for shape in shapes))
    }


def _cut(key: str, text: str) -> Iterator[tuple[str, str]]:
    """The text in parts that a store accepts; the first begins with the number of the others."""
    parts = [text[at : at + _MAX_VALUE] for at in range(0, max(len(text), 1), _MAX_VALUE)]
    yield key, f"{len(parts) - 1}\n{parts[0]}"
    for number, part in enumerate(parts[1:], start=1):
        yield f"{key} {number}", part


def _is_of(route: Route) -> bool:
    """True if the route's path begins with its resource."""
    return bool(route.resource) and route.path.split("/")[1] == route.resource


def _is_in_table(route: Route) -> bool:
    return route.method == "GET" and _is_of(route)


def _find_shape(route: Route) -> str:
    """The path, with a parameter in the place of the resource."""
    return (
        route.path.replace(f"/{route.resource}", "/{resource}", 1) if _is_of(route) else route.path
    )


def _take_first_segment(route: Route) -> str:
    return route.path.split("/")[1]


def _collect_names(route: Route) -> frozenset[str]:
    return frozenset(
        parameter.name for parameter in route.parameters if parameter.location == "query"
    )


def _find_shared_names(routes: Sequence[Route]) -> frozenset[str]:
    """The query parameters common to all routes with any."""
    name_sets = [
        names for route in routes if route.reads_query and (names := _collect_names(route))
    ]
    return frozenset.intersection(*name_sets) if name_sets else frozenset()


def _join_own_names(route: Route, shared_names: frozenset[str]) -> str:
    names = _collect_names(route) if route.reads_query else frozenset()
    return " ".join(sorted(names - shared_names)) if names else _NONE


def _shorten(source: str) -> str:
    """The source without comments and indentation, which count for CloudFront's quota."""
    return re.sub(r"\n\s*", "\n", re.sub(r"^\s*//.*\n", "", source, flags=re.MULTILINE))
