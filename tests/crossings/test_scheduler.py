"""The scheduler runs threads in the seed's order; locks in Postgres don't block other threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import psycopg
import pytest

from tests.crossings.histories import Arena, HistoryFailedError, history
from tests.crossings.links import connect
from tests.crossings.scheduler import Actor, Chances, CrashedError, Fault, Scheduler

CALM = Chances(faults=0, pause=0.0)


def update(arena: Arena, scheduler: Scheduler, actor: Actor, owners: Sequence[str]) -> None:
    """Update owners in one transaction."""
    try:
        with connect(arena.live.url, scheduler, actor) as connection, connection.transaction():
            for owner in owners:
                connection.execute("UPDATE owners SET note = %s WHERE name = %s", [owner, owner])
    except psycopg.errors.DeadlockDetected:
        scheduler.trace.append(f"{actor.name}: is the victim of a deadlock")
    except CrashedError:
        scheduler.trace.append(f"{actor.name}: has crashed")
    for link in actor.links:
        link.close()


def run(
    arena: Arena,
    seed: int,
    owners: Mapping[str, Sequence[str]],
    chances: Chances = CALM,
    faults: tuple[Fault, ...] = (),
) -> list[str]:
    """The trace of actors that update owners concurrently."""
    arena.live.empty()
    arena.live.admin.execute(
        "INSERT INTO owners SELECT name, NULL, gen_random_uuid(), false"
        " FROM unnest('{ann,bob}'::text[]) AS name"
    )
    scheduler = Scheduler(seed, arena.monitor, chances)
    threads = [
        threading.Thread(target=update, args=[arena, scheduler, Actor(name, faults), names])
        for name, names in owners.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return scheduler.trace


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_gives_the_same_order_again(arena: Arena, seed: int) -> None:
    owners = {"a": ["ann", "bob"], "b": ["ann"], "c": ["bob"]}
    assert run(arena, seed, owners) == run(arena, seed, owners)


def test_seeds_give_different_orders(arena: Arena) -> None:
    owners = {"a": ["ann"], "b": ["bob"]}
    assert len({tuple(run(arena, seed, owners)) for seed in range(8)}) > 2


def test_a_process_that_waits_for_a_lock_does_not_stop_the_others(arena: Arena) -> None:
    traces = [run(arena, seed, {"a": ["ann"], "b": ["ann"]}) for seed in range(12)]
    waited = [trace for trace in traces if any("waits for a lock" in point for point in trace)]
    assert waited
    for trace in waited:
        assert sum(point.endswith("commit or roll back") for point in trace) == 2


def test_a_deadlock_ends_as_postgres_ends_it(arena: Arena) -> None:
    owners = {"a": ["ann", "bob"], "b": ["bob", "ann"]}
    traces = [run(arena, seed, owners) for seed in range(20)]
    assert any("victim" in point for trace in traces for point in trace)


def test_a_crash_rolls_back_uncommitted_changes(arena: Arena) -> None:
    often = Chances(fault=0.3, faults=1)
    for seed in range(10):
        trace = run(arena, seed, {"a": ["ann", "bob"]}, often, ("crash",))
        written = arena.live.rows("SELECT count(note) FROM owners")
        has_crashed = any("has crashed" in point for point in trace)
        assert written == [(0,)] if has_crashed else [(2,)]


def live_and_fail(arena: Arena) -> None:
    with history(arena, 7) as lived:
        lived.note("something is done")
        raise ValueError("the reason")


def test_a_failure_names_the_seed_and_the_steps(arena: Arena) -> None:
    with pytest.raises(HistoryFailedError) as failed:
        live_and_fail(arena)
    message = str(failed.value)
    assert "ValueError: the reason" in message
    assert "seed 7; the steps:\n  something is done" in message
