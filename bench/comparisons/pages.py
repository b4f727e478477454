"""The cost of a list's page by its depth: with the previous page's cursor, and by offset."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bench import cities
from bench.events import build_proxy_event, unheard
from bench.harness import Aim, Contender, Findings, duration, measure
from bench.stage import Stage
from lambdas.read.app import ReadApp

COPIES = 10  # of the 34,006 cities
REQUESTS = 50
ROUNDS = 5
LIMIT = 100


def compare(stage: Stage) -> Findings:
    """Read pages of 100 rows, ordered by a column that is not unique, at several depths."""
    with stage.database() as database:
        rows = cities.fill(database, times=stage.size(COPIES))
        app = cities.reader(database)
        depths = [0, rows // 100, rows // 10, rows * 9 // 10]
        contenders = []
        with unheard():
            for depth in depths:
                by_offset = {"order": "population.desc", "limit": str(LIMIT), "offset": str(depth)}
                previous = {**by_offset, "offset": str(max(0, depth - LIMIT))}
                by_cursor = _find_next(app, previous) if depth else by_offset
                contenders += [
                    Contender(_name("cursor", depth), _get(app, by_cursor), REQUESTS),
                    Contender(_name("offset", depth), _get(app, by_offset), REQUESTS),
                ]
            series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    findings = Findings(series)
    deepest = depths[-1]
    start = _name("cursor", 0)
    findings.ratios = [
        duration(f"{method}, behind {deepest:,} rows", series, _name(method, deepest), start, aim)
        for method, aim in (("cursor", Aim(at_most=1.25)), ("offset", None))
    ]
    findings.facts = {
        "rows": rows,
        "milliseconds": {
            timing.name: round(1000 * min(timing.seconds) / timing.items, 2) for timing in series
        },
    }
    return findings


def _name(method: str, depth: int) -> str:
    return f"{method} at {depth:,}"


def _get(app: ReadApp, query: dict[str, str]) -> Callable[[], None]:
    event = build_proxy_event("GET", "/cities", query=query)

    def run() -> None:
        for _ in range(REQUESTS):
            _get_answer(app, event)

    return run


def _get_answer(app: ReadApp, event: dict[str, Any]) -> dict[str, Any]:
    answer = app.handle(event).to_proxy("*")
    if answer["statusCode"] != 200:  # noqa: PLR2004
        raise AssertionError(answer)
    return answer


def _find_next(app: ReadApp, query: dict[str, str]) -> dict[str, str]:
    """The query of the next page, from the `Link` of this page."""
    link = _get_answer(app, build_proxy_event("GET", "/cities", query=query))["headers"]["Link"]
    match = re.search(r'<([^>]*)>; rel="next"', link)
    if match is None:
        raise AssertionError(link)
    return dict(parse_qsl(urlsplit(match[1]).query))
