"""Tests of the harness: `judge` finds lost and hurt commands, the proxy cuts where it must."""

from typing import Any

import psycopg
import pytest

from tests.fixtures.commands import CITY, city
from tests.fixtures.faults import Fault, Results, Sent, judge
from tests.fixtures.proxies import Where, postgres_proxy
from tests.fixtures.tables import Database, open_connection

pytestmark = pytest.mark.quick
KEYS = (1, 2, 3)


def sent(key: int) -> Sent:
    """An acknowledged write of a city."""
    body: dict[str, Any] = {**CITY, "geonameid": key, "name": f"version {key}"}
    return Sent(0.0, body, 202, 0.1, city(key, key=key).id)


def judged(database: Database) -> Fault:
    """The result of `judge` for three writes."""
    fault = Fault(name="a", how="b", part="consumer", rig="d")
    judge(fault, [sent(key) for key in KEYS], database.url)
    return fault


@pytest.fixture
def applied(database: Database) -> Database:
    """A database with these three writes applied."""
    database.apply([city(key, key=key) for key in KEYS])
    return database


def test_a_row_as_it_was_sent_is_neither_lost_nor_hurt(applied: Database) -> None:
    fault = judged(applied)
    assert (fault.acknowledged, fault.lost, fault.hurt) == (3, 0, 0)


def test_a_missing_row_is_lost(applied: Database) -> None:
    applied.connection.execute("DELETE FROM cities WHERE geonameid = 2")
    fault = judged(applied)
    assert (fault.lost, fault.hurt) == (1, 0)
    with pytest.raises(AssertionError):
        Results(None).add(fault)


def test_a_row_with_another_value_is_hurt(applied: Database) -> None:
    applied.connection.execute("UPDATE cities SET population = 7 WHERE geonameid = 2")
    fault = judged(applied)
    assert (fault.lost, fault.hurt) == (0, 1)


def test_a_good_command_that_was_rejected_is_lost_and_hurt(database: Database) -> None:
    database.apply([city(1, key=1), city(2, key=2, name="x" * 300), city(3, key=3)])
    fault = judged(database)
    assert (fault.lost, fault.hurt) == (1, 1)


def test_a_run_without_a_comparison_is_not_a_result() -> None:
    with pytest.raises(AssertionError, match="nothing was accepted"):
        Results(None).add(Fault(name="a", how="b", part="c", rig="d", verified=True))


@pytest.mark.parametrize(("where", "kept"), [("before", 0), ("after", 1)])
def test_a_connection_is_cut_before_a_statement_or_after_it(
    database: Database, where: Where, kept: int
) -> None:
    with postgres_proxy(database.connection.info.port) as proxy:
        connection = open_connection(proxy.url(database.url))
        connection.execute("CREATE TABLE public.things (number int)")
        proxy.cut_at(2, where)
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("INSERT INTO public.things VALUES (1)")
        connection.close()
        # The server ends a session only after it has executed everything that it received.
        database.connection.execute(
            "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database() AND application_name = 'test') "
            "LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$"
        )
        assert database.rows("SELECT count(*)::int FROM public.things") == [(kept,)]
