"""Pages of all cities during changes: every unchanged row is seen once, in both directions."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from loader.data import read_cities
from local.postgres.config import OWNER
from tests.fixtures.geonames import CITIES, copy_items
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, linked_query, reader_of

LIMIT = 1000
CHURN = 120  # rows deleted, and as many inserted, between two pages


@dataclass
class Crowd:
    """All cities, and a connection that deletes and inserts rows between pages."""

    reader: Reader
    connection: psycopg.Connection[Any]
    rng: random.Random = field(default_factory=lambda: random.Random(4))
    next_key: int = 2**30

    def keys(self) -> set[int]:
        return {key for (key,) in self.connection.execute("SELECT geonameid FROM cities")}

    def churn(self) -> None:
        """Delete and insert rows all over the order, and near every border of a page."""
        leaving = self.rng.sample(sorted(self.keys()), CHURN)
        self.connection.execute("DELETE FROM cities WHERE geonameid = ANY(%s)", [leaving])
        # New rows tie with existing rows, so that they are sorted next to them.
        self.connection.execute(
            """
            INSERT INTO cities
            SELECT %s + row_number() OVER (), name, country_code, population, latitude, longitude,
                   timezone, _version, _by_create
            FROM cities TABLESAMPLE BERNOULLI (2) REPEATABLE (%s) LIMIT %s
            """,
            [self.next_key, self.rng.random(), CHURN],
        )
        self.next_key += CHURN

    def walk(self, query: dict[str, str], relation: str) -> tuple[list[int], dict[str, str]]:
        """Follow the links; return the keys of all remaining pages, and the last page's query."""
        seen: list[int] = []
        for _ in range(2 * CITIES // LIMIT):
            response = self.reader.get("cities", query=query)
            assert response.status == 200, response.body
            seen += [row["geonameid"] for row in json.loads(response.body)]
            following = linked_query(response, relation)
            if following is None:
                return seen, query
            assert "cursor" in following
            query = following
            self.churn()
        raise AssertionError("the pages have no end")


@pytest.fixture(scope="module")
def crowd(postgres_cluster: PostgresServer) -> Iterator[Crowd]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        reader = reader_of(url, url)
        with psycopg.connect(url, autocommit=True) as connection:
            copy_items(connection, read_cities())
            connection.execute("ANALYZE cities")
            yield Crowd(reader, connection)
        close(reader)


@pytest.mark.parametrize(
    "order", ["", "population.desc,name", "country_code", "timezone.desc.nullslast,latitude"]
)
def test_a_row_that_stays_is_seen_once_while_others_come_and_go(crowd: Crowd, order: str) -> None:
    query = {"select": "geonameid", "limit": str(LIMIT), **({"order": order} if order else {})}
    before = crowd.keys()
    assert len(before) > 0.9 * CITIES
    seen, last = crowd.walk(query, "next")
    assert_once(seen, before & crowd.keys())

    before = crowd.keys()
    seen, first = crowd.walk(last, "prev")
    assert_once(seen, before & crowd.keys())
    assert "cursor" in first


def assert_once(seen: list[int], stayed: set[int]) -> None:
    assert max(Counter(seen).values()) == 1
    assert len(stayed) > 0.8 * CITIES
    assert stayed <= set(seen)
