"""The violations that were first found by hand, each as its shortest history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from forebay.apply import Habits, Source, apply
from forebay.apply.chunk import ChunkApplier
from forebay.apply.prepare import prepare
from forebay.codec import encode
from forebay.command import Command
from tests.crossings import checks
from tests.crossings.commands import accepted_at
from tests.crossings.databases import widening
from tests.crossings.histories import TAMPERS, Arena, History, history
from tests.crossings.releases import RELEASES, WIDE
from tests.crossings.scheduler import Actor, Chances, Fault
from tests.fixtures.tables import MemoryStore, followed_log, open_connection

#: No random events: no faults, no pauses, and an actor runs as long as it can.
CALM = Chances(stay=1.0, pause=0.0, fault=0.0, faults=0)
#: An election number that is never reached: the actor runs only when no other actor can.
NEVER = 10**9
REPLAY = ("replay", "--yes", "--workers", "1")


def thing(lived: History, number: int, op: Any = "put", **changes: Any) -> Command:
    """A valid command to a thing, with a unique code."""
    body = {"code": f"own {number}", "label": "fine", "owner": None, "size": 1}
    return lived.draw.make(op, "things", number, {**body, **changes})


def statuses(lived: History) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """The versions of rows and the codes of rejections in the live database."""
    return lived.world.live.versions(), lived.world.live.rejections()


@pytest.mark.parametrize("case", ["unknown_resource", "upcast_failed"])
def test_a_replay_by_another_release_does_not_reject_applied_commands(
    arena: Arena, case: str
) -> None:
    """Case 1: release 2 lacks `extras`, and its upcaster fails."""
    with history(arena, 1, CALM) as lived:
        command = (
            lived.draw.make("put", "extras", 1, {"note": "one"})
            if case == "unknown_resource"
            else thing(lived, 1, label="unlucky")
        )
        lived.deliver([encode(command)])
        lived.run(1, faults=())
        lived.call(*REPLAY, release=2, faults=())

        lived.check()
        assert statuses(lived) == ({(command.resource, "1"): command.id}, {})
        lived.finish()


def test_a_replay_by_another_release_through_the_queue_rejects_nothing_that_is_applied(
    arena: Arena,
) -> None:
    """Case 1, with a replay by the consumers."""
    with history(arena, 1, CALM) as lived:
        command = lived.draw.make("put", "extras", 1, {"note": "one"})
        lived.deliver([encode(command)])
        lived.run(1, faults=())
        lived.new_release(2)
        lived._replay_by_queue()
        lived.run(1, faults=())

        lived.check()
        lived.finish()


def test_work_on_another_database_adds_nothing_to_the_archive(arena: Arena) -> None:
    """Case 2: the other database refuses the command, which is superseded in the live database."""
    with history(arena, 1, CALM) as lived:
        refused = thing(lived, 1, label="much too long a label")
        newer = thing(lived, 1)
        lived.deliver([encode(newer)])
        lived.run(1, faults=())
        lived.deliver([encode(refused)], name="a-first")
        lived.run(1, faults=())
        lived.call(*REPLAY, database=arena.scratch, faults=())

        checks.check_writers(lived.world.s3, "scratch operator")
        lived.finish()


def test_a_rejection_holds_in_every_object_that_has_the_command(arena: Arena) -> None:
    """Case 3: rejected in one object, delivered in another, replayed into an empty database.

    There the command finds its unique value free, because the value's owner came later.
    """
    with history(arena, 1, CALM) as lived:
        holder = thing(lived, 1, code="c1")
        rejected = thing(lived, 2, code="c1")
        lived.deliver([encode(holder)], name="z-holder")
        lived.run(1, faults=())
        lived.deliver([encode(rejected)], name="y-rejected")
        lived.run(1, faults=())
        lived.deliver([encode(rejected)], name="a-again")
        lived.run(1, faults=())
        assert statuses(lived)[1] == {rejected.id: "unique_violation"}

        lived.finish()


def test_a_consumer_that_is_overtaken_rejects_nothing_that_the_other_one_applies(
    arena: Arena,
) -> None:
    """Case 4: two consumers have the same object, and a unique value becomes free between them."""
    with history(arena, 1, CALM) as lived:
        holder = thing(lived, 1, code="c1")
        lived.deliver([encode(holder)])
        lived.run(1, faults=())
        contested = thing(lived, 2, code="c1")
        frees = thing(lived, 1, code="c2")
        key = lived.deliver([encode(contested)])
        _overtake(lived, key, frees)

        lived.check()
        lived.finish()


def _overtake(lived: History, key: str, frees: Command) -> None:
    """Stop the first consumer just before it stores its rejection.

    The other consumer then applies the command that frees the value, and after it the same object.
    """
    scheduler, queue = lived.world.scheduler, lived.world.queue
    enter = scheduler.enter
    stopped: list[Actor] = []
    waiting: list[Actor] = []

    def enter_and_stop(actor: Actor, what: str) -> Fault | None:
        if actor.name == "consumer-1" and not stopped:
            actor.paused_until = NEVER - 1
            waiting.append(actor)
        elif not stopped and what.startswith(("s3 put_object rejections/", "s3 put_object decis")):
            stopped.append(actor)
            actor.paused_until = NEVER
            for other in waiting:
                other.paused_until = 0
            lived.deliver([encode(frees)])
        elif actor not in stopped and what == "sqs receive" and len(stopped) == 1:
            is_free = lived.world.live.versions()["things", "1"] == frees.id
            if is_free:
                queue.send_object(key)
                stopped.append(actor)
        return enter(actor, what)

    with patch.object(scheduler, "enter", enter_and_stop):
        lived.run(2, faults=())


def test_a_warm_connection_applies_values_for_a_widened_column(arena: Arena) -> None:
    """Case 10: a consumer has staged rows before the column became wider."""
    with history(arena, 1, CALM) as lived:
        lived.deliver([encode(thing(lived, 1))])
        lived.run(1, faults=())
        lived.deliver([encode(thing(lived, 1))])
        lived.run(1, faults=())  # the same instance: its staging table exists
        lived.world.live.set_label(WIDE)
        lived.world.scratch.set_label(WIDE)
        lived.draw.is_wide = True
        lived.note(widening(WIDE))
        longer = thing(lived, 1, label="a label for the wide column")
        lived.deliver([encode(longer)])
        lived.run(1, faults=())

        lived.check()
        assert statuses(lived)[0] == {("things", "1"): longer.id}
        lived.finish()


@pytest.mark.parametrize("tool", ["verify", "rebuild"])
def test_rejections_made_while_the_archive_is_read_are_not_drift(arena: Arena, tool: str) -> None:
    """Case 13: a consumer rejects a command after the tool has listed the rejections.

    A later chunk of the same object frees the value, so a rebuild meets no conflict.
    """
    with history(arena, 1, CALM) as lived:
        lived.deliver([encode(thing(lived, 1, code="c1"))])
        lived.run(1, faults=())
        rejected = thing(lived, 2, code="c1")
        others = [lived.draw.make("put", "extras", number, {"note": None}) for number in (1, 2, 3)]
        frees = thing(lived, 1, code="c2")
        lived.deliver([encode(command) for command in (rejected, *others, frees)])
        _while_reading(lived, lived._verify if tool == "verify" else lambda: _rebuild(lived))

        checks.check_outcomes(arena.scratch, "rebuild", lived.world.s3)
        lived.finish()


@pytest.mark.parametrize("late", ["create", "delete"])
def test_a_command_that_has_lost_does_not_free_the_value_of_an_outdated_row(
    arena: Arena, late: str
) -> None:
    """Case 15: before the replay, a late command of the row's key arrives, then a claim."""
    with history(arena, 1, CALM) as lived:
        loser = thing(lived, 1, late, code="c2")
        holder = thing(lived, 1, code="c1")
        lived.deliver([encode(holder)])
        lived.run(1, faults=())
        when = ("--from", accepted_at(0).isoformat(), "--to", accepted_at(9).isoformat())
        lived.call("outdate", "things", *when, "--yes", faults=())
        lived.deliver([encode(loser)])
        lived.run(1, faults=())
        claim = thing(lived, 2, code="c1")
        lived.deliver([encode(claim)])
        lived.run(1, faults=())
        lived.call(*REPLAY, faults=())

        lived.check()
        assert statuses(lived) == (
            {("things", "1"): holder.id},
            {claim.id: "unique_violation"},
        )
        lived.finish()


@pytest.mark.parametrize("what", TAMPERS)
def test_verify_finds_tampered_rows(arena: Arena, what: str) -> None:
    """Case 14: each kind of change on its own."""
    with history(arena, 1, CALM) as lived:
        lived.deliver([encode(thing(lived, number)) for number in (1, 2)])
        bad = thing(lived, 3, label="much too long a label")
        lived.deliver([encode(bad), encode(thing(lived, 4, "delete"))])
        lived.run(1, faults=())
        patch = lived.draw.make("patch", "things", 1, {"label": "fair"})
        total = lived.draw.make("patch", "things", 2, {"size": {"$increment": 1}})
        lived.deliver([encode(patch), encode(total)])
        lived.run(1, faults=())
        lived.finish()
        lived.tamper(what)


def test_a_command_that_is_applied_by_its_decision_sees_the_patches_since(arena: Arena) -> None:
    """Another consumer patches the key between the two transactions of a chunk."""
    with history(arena, 1, CALM) as lived, open_connection(lived.world.live.url) as connection:
        decision_log = followed_log(connection, MemoryStore(), RELEASES[1])
        holder, late = thing(lived, 1, code="x"), thing(lived, 3, code="x")
        gives_up = thing(lived, 1, code="y")
        patch = lived.draw.make("patch", "things", 3, {"label": "patched"})

        def apply_first(*commands: Command) -> None:
            source = Source(f"commands/{commands[0].id}.gz")
            apply(connection, [commands], source, resources=RELEASES[1], decision_log=decision_log)

        apply_first(holder)
        applier = ChunkApplier(
            connection, Source("commands/a.gz"), RELEASES[1], decision_log, Habits()
        )
        with connection.transaction():
            applied = applier.apply_without_decisions(prepare([late], RELEASES[1]))
        apply_first(gives_up, patch)
        assert applied.candidates is not None
        with connection.transaction():
            applier.decide_candidates(applied.candidates)

        query = "SELECT label FROM things WHERE number = 3"
        assert lived.world.live.rows(query) == [("patched",)]


def test_a_rebuild_takes_references_to_a_table_that_sorts_before(arena: Arena) -> None:
    """`things` refers to `owners`: the key of `owners` can't be dropped before the reference."""
    with history(arena, 1, CALM) as lived:
        owner = lived.draw.make("put", "owners", "ann", {"note": None})
        lived.deliver([encode(owner), encode(thing(lived, 1, owner="ann"))])
        lived.run(1, faults=())
        lived.finish()


def _rebuild(lived: History) -> None:
    lived._scratch_is_used = True
    lived.call("rebuild", "--yes", "--processes", "1", database=lived.empty_scratch(), faults=())


def _while_reading(lived: History, tool: Callable[[], None]) -> None:
    """Run a tool; a consumer does all its work before the tool reads its first command object."""
    scheduler = lived.world.scheduler
    enter = scheduler.enter
    held: list[Actor] = []
    reading: list[Actor] = []

    def enter_and_wait(actor: Actor, what: str) -> Fault | None:
        if "operator" in actor.name and "s3 get_object commands/" in what and not reading:
            reading.append(actor)
            actor.paused_until = NEVER
            for consumer in held:
                consumer.paused_until = 0
        elif actor.name.startswith("consumer") and not reading:
            actor.paused_until = NEVER - 1
            held.append(actor)
        return enter(actor, what)

    with patch.object(scheduler, "enter", enter_and_wait):
        lived.run(1, tool, faults=())
