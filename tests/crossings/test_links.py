"""A closed connection leaves no trace in its session, which is used again."""

from __future__ import annotations

import psycopg
import pytest

from tests.crossings.histories import Arena
from tests.crossings.links import connect
from tests.crossings.scheduler import Actor, Chances, Scheduler

_STATE = """
    SELECT current_setting('application_name'), current_setting('lock_timeout'),
           current_setting('work_mem'), to_regclass('pg_temp.extra'),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM public.owners)
"""


@pytest.fixture
def scheduler(arena: Arena) -> Scheduler:
    arena.live.empty()
    return Scheduler(0, arena.monitor, Chances())


@pytest.mark.parametrize("is_failed", [False, True])
def test_a_session_is_used_again_as_a_new_session(
    arena: Arena, scheduler: Scheduler, *, is_failed: bool
) -> None:
    first = connect(arena.live.url, scheduler, Actor("first"))
    before = first.execute(_STATE.encode()).fetchall()
    first.execute("SET work_mem = 64")
    first.execute("SET lock_timeout = 1")
    first.execute("CREATE TEMP TABLE extra (id int)")
    first.execute("SELECT pg_advisory_lock(1)")
    pid = first.info.backend_pid
    first.execute("BEGIN")
    first.execute("INSERT INTO public.owners VALUES ('a', NULL, gen_random_uuid(), false)")
    if is_failed:
        with pytest.raises(psycopg.errors.DivisionByZero):
            first.execute("SELECT 1 / 0")
    first.close()

    second = connect(arena.live.url, scheduler, Actor("second"))

    assert second.info.backend_pid == pid
    (state,) = second.execute(_STATE.encode()).fetchall()
    assert [("first", *state[1:])] == before
    assert state[0] == "second"
    second.close()


def test_a_closed_connection_is_closed(arena: Arena, scheduler: Scheduler) -> None:
    link = connect(arena.live.url, scheduler, Actor("first"))
    link.close()
    assert link.closed
    with pytest.raises(psycopg.OperationalError, match="closed"):
        link.execute("SELECT")


def test_a_session_that_was_ended_is_not_used_again(arena: Arena, scheduler: Scheduler) -> None:
    link = connect(arena.live.url, scheduler, Actor("first"))
    pid = link.info.backend_pid
    link.close()
    scheduler.end_backends(pid)

    other = connect(arena.live.url, scheduler, Actor("second"))

    assert other.info.backend_pid != pid
    assert other.execute("SELECT 1").fetchone() == (1,)
    other.close()
