"""Fills a database with real data for read benchmarks: 34,006 cities and 252 countries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.orders import command_id
from bench.postgres import Database
from forebay.db.connect import Connection
from forebay.log import Log
from forebay.resource import ResourceSpec
from lambdas.read.app import ReadApp
from lambdas.read.bootstrap import SERVICE, build
from lambdas.read.settings import ReadSettings
from loader import data
from resources import load


def fill(database: Database, *, times: int = 1) -> int:
    """Copy all countries, and all cities `times` times with new keys; return their number."""
    resources = load()
    countries = [dict(item.body) for item in data.read_countries()]
    originals = [dict(item.body) for item in data.read_cities()]
    cities = [
        city | {"geonameid": city["geonameid"] + copy * 100_000_000}
        for copy in range(times)
        for city in originals
    ]
    with database.connect() as connection:
        _copy(connection, resources["countries"], countries)
        _copy(connection, resources["cities"], cities)
        connection.execute("VACUUM (ANALYZE) countries, cities")
    return len(cities)


def reader(database: Database, *, read_cache: str = "", log: Log | None = None) -> ReadApp:
    """The read function's app over this database, and the read cache at an address."""
    environment = {
        "FOREBAY_REPLICA_URL": database.url,
        "FOREBAY_DATABASE_URL": database.url,
        "FOREBAY_AUTHORIZATION": "none",
        "FOREBAY_READ_CACHE": read_cache,
    }
    return build(ReadSettings.from_env(environment), log or Log(SERVICE))


def _copy(connection: Connection, spec: ResourceSpec, bodies: Sequence[dict[str, Any]]) -> None:
    names = [column.name for column in spec.columns]
    statement = f"COPY {spec.table} ({', '.join(names)}, _version, _by_create) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for number, body in enumerate(bodies):
            copy.write_row((*(body[name] for name in names), command_id(number), False))
