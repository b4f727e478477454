"""The read function, warm, compared with bare psycopg fetching the same text, and with an ORM.

For an item, bare psycopg sends the read function's own statement. For a list, it sends the best
statement for this page alone: without an additional row, and without values for a cursor. The
difference is the function's own work: route, query parser, links, ETag, log and answer. FastAPI
with SQLAlchemy's ORM and pydantic models returns the same 100 rows; it is called as an ASGI
application, without a server. With the read cache, the same requests are answered by Valkey.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from psycopg import sql

from bench import cities
from bench.events import build_proxy_event, unheard
from bench.harness import Aim, Contender, Findings, duration, measure, speed
from bench.peers.ormapi import OrmApi
from bench.postgres import Database
from bench.stage import Stage
from forebay.db.connect import Connection, Cursor, connect
from forebay.log import Level, Log
from forebay.metrics import CACHE_HITS, Metric
from lambdas.read.app import ReadApp
from lambdas.read.bootstrap import SERVICE
from lambdas.read.sql.members import all_members, json_pieces
from lambdas.read.sql.rows import item_query
from lambdas.read.sql.statement import Query, Scope, Values, table
from resources import load

REQUESTS = 2_000
LISTS = 1_000
ROUNDS = 7
_FILL_SECONDS = 10.0
ITEM, BARE_ITEM = "item", "item, bare psycopg"
CACHED_ITEM, CACHED_LIST = "item, read cache", "list, read cache"
LIST, BARE_LIST, ORM_LIST = "list", "list, bare psycopg", "list, FastAPI and SQLAlchemy"
ROWS = 100


def compare(stage: Stage) -> Findings:
    """Read items and lists of 100 rows, with requests in sequence."""
    requests, lists = stage.size(REQUESTS), stage.size(LISTS)
    with ExitStack() as resources:
        database = resources.enter_context(stage.database())
        cities.fill(database)
        app = cities.reader(database)
        log = _HitLog(SERVICE)
        cached = cities.reader(database, read_cache=stage.read_cache, log=log)
        orm = resources.enter_context(OrmApi(database.url))
        resources.enter_context(unheard())
        key = int(database.rows("SELECT geonameid FROM cities ORDER BY name LIMIT 1")[0][0])
        item = build_proxy_event("GET", "/cities/{key}", path={"key": str(key)})
        page = build_proxy_event("GET", "/cities", query={"limit": str(ROWS)})
        item_sql, list_sql = item_query(load()["cities"], key).compose(), _list_query()
        # One cursor for all requests, as in the function: a new one each time takes longer.
        cursor = resources.enter_context(_connect(database)).cursor()
        _fill_cache(cached, log, [item, page])
        _check(cached.handle(page).to_proxy("*")["body"], cursor, list_sql, orm)
        _check(app.handle(page).to_proxy("*")["body"], cursor, list_sql, orm)
        contenders = [
            Contender(ITEM, _send_to_app(app, item, requests), requests),
            Contender(CACHED_ITEM, _send_to_app(cached, item, requests), requests),
            Contender(BARE_ITEM, _fetch_items(cursor, item_sql, requests), requests),
            Contender(LIST, _send_to_app(app, page, lists), lists),
            Contender(CACHED_LIST, _send_to_app(cached, page, lists), lists),
            Contender(BARE_LIST, _fetch_lists(cursor, list_sql, lists), lists),
            Contender(ORM_LIST, _send_to_orm(orm, lists // 10), lists // 10),
        ]
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    # A busy machine exceeds the time budget of the cache now and then.
    if log.hits < 0.9 * (requests + lists) * (stage.rounds(ROUNDS) + 1):
        raise AssertionError("some requests were not answered by the read cache")
    findings = Findings(series)
    findings.ratios = [
        duration("read function, warm, one item", series, ITEM, BARE_ITEM, Aim(at_most=1.5)),
        duration("read function, warm, 100 rows", series, LIST, BARE_LIST, Aim(at_most=1.25)),
        duration("a hit of the read cache, one item", series, CACHED_ITEM, ITEM, Aim(at_most=0.5)),
        duration("a hit of the read cache, 100 rows", series, CACHED_LIST, LIST, Aim(at_most=0.5)),
        speed("read function, warm, 100 rows", series, LIST, ORM_LIST, Aim(at_least=5)),
    ]
    findings.facts["microseconds"] = {
        timing.name: round(1e6 * min(timing.seconds) / timing.items, 1) for timing in series
    }
    return findings


class _HitLog(Log):
    """Writes the same lines, and counts the hits of the read cache in them."""

    hits = 0

    def event(
        self,
        action: str,
        *,
        level: Level = "INFO",
        metrics: Mapping[Metric, float] | None = None,
        **fields: Any,  # noqa: ANN401 - as of the log
    ) -> None:
        self.hits += CACHE_HITS in (metrics or {})
        super().event(action, level=level, metrics=metrics, **fields)


def _fill_cache(app: ReadApp, log: _HitLog, events: Sequence[dict[str, Any]]) -> None:
    """Send the requests until the cache answers all of them."""
    deadline = time.monotonic() + _FILL_SECONDS
    while time.monotonic() < deadline:
        hits = log.hits
        for event in events:
            app.handle(event)
        if log.hits == hits + len(events):
            return
        time.sleep(0.05)
    raise AssertionError("the read cache does not answer")


def _send_to_app(app: Any, event: dict[str, Any], count: int) -> Callable[[], None]:  # noqa: ANN401
    def run() -> None:
        for _ in range(count):
            if app.handle(event).to_proxy("*")["statusCode"] != 200:  # noqa: PLR2004
                raise AssertionError(event)

    return run


def _fetch_items(cursor: Cursor, query: Query, count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            if len(cursor.execute(query.text, query.values).fetchall()) != 1:
                raise AssertionError(query)

    return run


def _fetch_lists(cursor: Cursor, query: Query, count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            if not _fetch_page(cursor, query):
                raise AssertionError(query)

    return run


def _fetch_page(cursor: Cursor, query: Query) -> str:
    rows = cursor.execute(query.text, query.values).fetchall()
    return "[" + ",\n".join([text for (text,) in rows]) + "]"


def _send_to_orm(orm: OrmApi, count: int) -> Callable[[], None]:
    def run() -> None:
        orm.get(f"/cities?limit={ROWS}", count)

    return run


def _connect(database: Database) -> Connection:
    return connect(database.url, application_name="bench-bare", statement_timeout_ms=10_000)


def _list_query() -> Query:
    """The rows of the page as text, without the read function's additional columns and row."""
    spec = load()["cities"]
    text = sql.SQL("SELECT {} FROM {} AS t ORDER BY {} LIMIT %(rows)s").format(
        json_pieces(all_members(spec.columns), Scope("t", Values())),
        table(spec),
        sql.Identifier(spec.key.name),
    )
    return Query(text, {"rows": ROWS}).compose()


def _check(text: str, cursor: Cursor, query: Query, orm: OrmApi) -> None:
    """Check that all three return the same rows, and the first two the same text."""
    if _fetch_page(cursor, query) != text:
        raise AssertionError("bare psycopg gives another text")
    rows = json.loads(text)
    if len(rows) != ROWS or json.loads(orm.get(f"/cities?limit={ROWS}", 1)) != rows:
        raise AssertionError("the ORM gives other rows")
