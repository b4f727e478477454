"""A condition that names an earlier command of the client's own waits until that one is settled."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.apply import Source, apply
from forebay.command import Command
from forebay.conditions import MAX_DEPENDENCY_AGE_SECONDS, SETTLING_SECONDS
from resources import load
from tests.fixtures.commands import city
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.tables import Database, open_connection
from tests.integration.apply.test_edits import read_decisions

_SOURCES = itertools.count()


def write(number: int, op: Any = "put", *, age: float = 0, key: int = 1, **body: Any) -> Command:
    """A command that was accepted `age` seconds ago, and `number` seconds after the first one."""
    digits = f"{round((time.time() - age + number) * 1000):012x}"
    id_ = f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
    command = city(1, op, key, **body)
    return command._replace(id=id_, body=body if op == "patch" else command.body)


def decided(command: Command, *, after: Command | None = None, **condition: Any) -> Command:
    """The command as a decided command; `after` is the one that it depends on."""
    members = condition | ({"after": [after.id]} if after is not None else {})
    return command._replace(id=command.id[:-6] + "dec1de", condition=members or None)


def increment(number: int, by: int, *, age: float = 0, after: Command | None = None) -> Command:
    return decided(write(number, "patch", age=age, population={"$increment": by}), after=after)


def deliver(database: Database, *commands: Command, source: str | None = None) -> str:
    """Apply an object; return what it waits for, or an empty text."""
    outcome = database.apply(commands, source=source or f"commands/{next(_SOURCES)}")
    return outcome.unsettled_reason or ""


def population(database: Database, key: int = 1) -> int | None:
    rows = database.rows("SELECT population FROM cities WHERE geonameid = %s", key)
    return rows[0][0] if rows else None


def test_an_increment_waits_for_the_item_that_it_names(database: Database) -> None:
    item = write(1, population=10)
    later, neighbour = increment(2, 5, after=item), write(3, key=9)

    waiting = deliver(database, later, neighbour, source="late")

    assert later.id in waiting
    assert item.id in waiting
    assert (population(database), population(database, 9)) == (None, 265208)
    assert database.rejections() == {}
    assert database.rows("SELECT completed_at FROM forebay.ledger WHERE object = 'late'") == [
        (None,)
    ]
    assert deliver(database, item) == ""
    assert deliver(database, later, neighbour, source="late") == ""
    assert population(database) == 15
    counts = database.rows("SELECT applied, superseded, duplicates, rejected FROM forebay.ledger")
    assert sum(map(sum, counts)) == 3


def test_a_condition_on_an_own_write_waits_for_it(database: Database) -> None:
    first, second = write(1, population=1), write(2, population=2)
    last = decided(write(3, population=3), after=second, match=[second.id])
    deliver(database, first)
    assert deliver(database, last, source="late") != ""
    deliver(database, second)
    assert deliver(database, last, source="late") == ""
    assert population(database) == 3


def test_a_tag_alone_does_not_wait(database: Database) -> None:
    """It may be of another item."""
    deliver(database, write(1, population=1))
    last = decided(write(3, population=3), match=[write(2).id])
    assert deliver(database, last) == ""
    assert database.rejections() == {last.id: "precondition_failed"}


def test_a_command_waits_for_a_bounded_time_only(database: Database) -> None:
    never = write(1, age=SETTLING_SECONDS + 31)
    late = write(2, "patch", age=SETTLING_SECONDS + 30, population=7)
    deliver(database, write(1, age=9999))
    assert deliver(database, decided(late, after=never)) == ""
    ((code, detail),) = database.rows("SELECT code, detail FROM forebay.rejections")
    assert code == "precondition_failed"
    assert never.id in detail


def test_a_command_does_not_wait_for_one_from_long_ago(database: Database) -> None:
    """It is lost, or a client has invented it."""
    deliver(database, write(1, age=99_999))
    never = write(1, age=MAX_DEPENDENCY_AGE_SECONDS + 10)
    late = decided(write(2, "patch", population=7), after=never)
    assert deliver(database, late) == ""
    assert database.rejections() == {late.id: "precondition_failed"}


def test_rejected_and_superseded_commands_are_settled(database: Database) -> None:
    newest, older = write(9, population=9), write(1, population=1)
    refused = write(2, name="x" * 300)
    failed = decided(write(3, population=3), where=[["population", "lt", 0]])
    deliver(database, newest)
    deliver(database, refused, failed, source="refused")
    for number, settled in enumerate((older, refused, failed)):
        assert deliver(database, increment(10 + number, 1, after=settled)) == ""
    assert population(database) == 12
    tag = decided(write(20, population=0), match=[failed.id])
    assert deliver(database, tag) == ""
    assert tag.id in database.rejections()


def test_a_patch_that_waits_for_its_item_is_not_settled(database: Database) -> None:
    item, waiting = write(1, population=1), write(2, "patch", name="two")
    addition = increment(3, 1, after=waiting)
    deliver(database, waiting)
    assert deliver(database, addition, source="late") != ""
    deliver(database, item)
    assert deliver(database, addition, source="late") == ""
    assert database.rows("SELECT name, population FROM cities") == [("two", 2)]


def test_the_time_counts_from_the_first_delivery(database: Database) -> None:
    """After an outage, the object of the other command may be just behind in the queue."""
    item = write(1, age=9_000, population=1)
    addition = increment(2, 1, age=9_000, after=item)
    now_ms = round(time.time() * 1000)
    for delivered_ms, waits in ((now_ms, True), (now_ms - 1000 * SETTLING_SECONDS, False)):
        outcome = apply(
            database.connection,
            [[addition]],
            Source("late", delivered_ms=delivered_ms),
            resources=load(),
            decision_log=database.decision_log(),
        )
        assert (outcome.unsettled_reason is not None) == waits
        if waits:
            deliver(database, write(3, age=9_000, key=7))
    assert database.rejections() == {addition.id: "precondition_failed"}


def test_a_refusal_that_another_key_resolves_is_not_settled(database: Database) -> None:
    """Its row is written after that of the other key, and only then is the increment decided."""
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (name)")
    deliver(database, write(1, name="one", population=1), write(2, key=2, name="taken"))
    taking = decided(write(3, "patch", name="taken", population=10), match=["*"])
    addition = increment(4, 5, after=taking)
    freeing = decided(write(5, "patch", key=2, name="free"), match=["*"])
    assert deliver(database, taking, addition, freeing) == ""
    assert database.rejections() == {}
    assert population(database) == 15


def test_an_operation_after_a_refused_one_of_the_same_object_is_decided(
    database: Database,
) -> None:
    first = write(1, population=1)
    failed = decided(write(2, population=2), where=[["population", "lt", 0]])
    last = decided(write(3, population=3), after=failed, match=["*"])
    assert deliver(database, first, failed, last) == ""
    assert population(database) == 3


def test_the_id_of_a_decided_command_stands_for_the_state_after_it(database: Database) -> None:
    """It took a later place, because a newer command had been applied before it."""
    newest, addition = write(9, population=9), increment(2, 1)
    deliver(database, newest)
    deliver(database, addition)
    assert read_decisions(database).passed[addition.id][0] > newest.id
    last = decided(write(20, population=0), match=[addition.id])
    assert deliver(database, last) == ""
    assert population(database) == 0
    stale = decided(write(21, population=1), match=[addition.id])
    assert deliver(database, stale) == ""
    assert stale.id in database.rejections()


def test_a_replay_waits_for_nothing(database: Database) -> None:
    item = write(1, population=10)
    later = increment(2, 5, after=item)
    deliver(database, later, source="late")
    outcome = database.apply([later], source="late", replay=True, decides=False)
    assert [refusal.code for refusal in outcome.undecided] == ["undecided"]


def _chain(length: int, kinds: Sequence[str]) -> list[Command]:
    """Commands of which each depends on the one before it."""
    commands = [write(1, population=0)]
    for number, kind in zip(range(2, length + 2), kinds, strict=False):
        previous = commands[-1]
        if kind == "after":
            commands.append(increment(number, 1, after=previous))
        else:
            change = write(number, "patch", population={"$increment": 1})
            commands.append(decided(change, after=previous, match=[previous.id]))
    return commands


@given(
    kinds=st.lists(st.sampled_from(["after", "match"]), min_size=1, max_size=5),
    data=st.data(),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_chain_of_own_writes_passes_in_any_order_of_delivery(
    postgres_cluster: PostgresServer, kinds: list[str], data: st.DataObject
) -> None:
    commands = _chain(len(kinds), kinds)
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=len(commands)))
    objects: list[list[Command]] = []
    remaining = list(commands)
    for size in sizes:
        if remaining:
            objects.append(remaining[:size])
            remaining = remaining[size:]
    order = data.draw(st.permutations(range(len(objects))))
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(database=name)
        with open_connection(url) as connection:
            database = Database(url, connection)
            queue = list(order)
            for _ in range(len(objects)):
                queue = [n for n in queue if deliver(database, *objects[n], source=f"o{n}")]
            assert queue == []
            assert database.rejections() == {}
            assert population(database) == len(kinds)
