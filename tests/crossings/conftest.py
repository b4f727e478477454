"""The databases of the histories, made once per test process."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres.config import SUPERUSER
from tests.crossings.databases import new_database
from tests.crossings.histories import Arena
from tests.crossings.processes import small_and_impatient
from tests.fixtures.postgres import PostgresServer


@pytest.fixture(scope="session")
def arena_of_session(postgres_cluster: PostgresServer) -> Iterator[Arena]:
    with (
        new_database(postgres_cluster) as live,
        new_database(postgres_cluster) as scratch,
        psycopg.connect(postgres_cluster.url(SUPERUSER, "postgres"), autocommit=True) as monitor,
    ):
        yield Arena(live, scratch, monitor)


@pytest.fixture
def arena(arena_of_session: Arena) -> Iterator[Arena]:
    """Two databases, which each history empties at its start."""
    with small_and_impatient():
        yield arena_of_session
