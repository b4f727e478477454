"""Writes the CloudFront Function that refuses requests which the caches can't distinguish."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from forebay.edge import HINT_JSON, HINT_RELATED, HINT_REPEATED
from forebay.errors import SettingsError
from forebay.problem import CATALOGUE, TYPE_PREFIX
from forebay.routes import API_PREFIX, Route

_SOURCE: Final = Path(__file__).with_suffix(".js")
_MAX_BYTES: Final = 10 * 1024  # CloudFront's quota for the code of a function
_CODES: Final = ("unknown_parameter", "repeated_parameter", "payload_too_large", "PGRST205")


def build_edge_function(
    routes: Sequence[Route], *, max_body_bytes: int, cors_allow_origin: str
) -> str:
    """The function's code for these routes.

    Raises:
        SettingsError: the code would be larger than CloudFront accepts.
    """
    shared_names = _find_shared_names(routes)
    values = {
        "ROUTES": {
            route.path: _join_own_names(route, shared_names)
            for route in routes
            if route.method == "GET"
        },
        "SHARED": sorted(shared_names),
        "CHECKED": [
            f"{route.method} {route.path}"
            for route in routes
            if route.method != "GET" and route.reads_query
        ],
        "NAMES": sorted({_take_first_segment(route) for route in routes} - {""}),
        "STAGE": API_PREFIX.removeprefix("/"),
        "PROBLEMS": {
            code: {
                "type": TYPE_PREFIX + code,
                "title": CATALOGUE[code][1],
                "status": CATALOGUE[code][0],
            }
            for code in _CODES
        },
        "HINT_JSON": HINT_JSON,
        "HINT_RELATED": HINT_RELATED,
        "HINT_REPEATED": HINT_REPEATED,
        "MAX_BODY_BYTES": max_body_bytes,
        "ORIGIN": cors_allow_origin,
    }
    code = _shorten(_SOURCE.read_text(encoding="utf-8"))
    for name, value in values.items():
        code = code.replace(f"__{name}__", json.dumps(value, separators=(",", ":")))
    size = len(code.encode())
    if size > _MAX_BYTES:
        raise SettingsError(
            f"the edge's function has {size} bytes, but CloudFront accepts {_MAX_BYTES}: the "
            "resources have too many query parameters; remove `edge` or filterable columns"
        )
    return code


def _take_first_segment(route: Route) -> str:
    return route.path.split("/")[1]


def _collect_names(route: Route) -> frozenset[str]:
    return frozenset(
        parameter.name for parameter in route.parameters if parameter.location == "query"
    )


def _find_shared_names(routes: Sequence[Route]) -> frozenset[str]:
    """The query parameters common to all routes with any; writing them once halves the table."""
    name_sets = [
        names for route in routes if route.reads_query and (names := _collect_names(route))
    ]
    return frozenset.intersection(*name_sets) if name_sets else frozenset()


def _join_own_names(route: Route, shared_names: frozenset[str]) -> str | None:
    names = _collect_names(route) if route.reads_query else frozenset()
    return " ".join(sorted(names - shared_names)) if names else None


def _shorten(source: str) -> str:
    """The source without comments and indentation, which count for CloudFront's quota."""
    return re.sub(r"\n\s*", "\n", re.sub(r"^\s*//.*\n", "", source, flags=re.MULTILINE))
