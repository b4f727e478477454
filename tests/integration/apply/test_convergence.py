"""Law 2: the tables are a pure function of the set of commands, however they are delivered."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.apply import Habits
from forebay.command import Command, Op
from forebay.db.connect import Connection
from tests.fixtures.commands import city
from tests.fixtures.tables import Database, cut_after, end_session, open_connection

OPS: tuple[Op, ...] = ("create", "put", "delete")
# Each example opens several connections, which is slow if Postgres runs in a container.
EXAMPLES = int(os.environ.get("FOREBAY_DELIVERIES", "100"))
MANY_EXAMPLES = 5000
State = tuple[dict[int, tuple[str, bool, str]], dict[tuple[str, str], str]]


def model(commands: Sequence[Command]) -> State:
    """Compute the final rows and tombstones: law 2, in ten lines."""
    rows, tombstones = {}, {}
    for key in {command.key for command in commands}:
        of_key = [command for command in commands if command.key == key]
        strong = [command for command in of_key if command.op != "create"]
        by_id = {command.id: command for command in strong or of_key}
        winner = by_id[max(by_id) if strong else min(by_id)]
        if winner.body is None:
            tombstones["cities", str(key)] = winner.id
        else:
            rows[int(key)] = (winner.id, winner.op == "create", str(winner.body["name"]))
    return rows, tombstones


@dataclass(frozen=True)
class Delivery:
    """One way of delivering a set of commands to two consumers."""

    #: Archive objects; each is a list of chunks.
    objects: list[list[list[Command]]]
    #: For each consumer, the indices of its objects in the order of delivery.
    hands: list[list[int]]
    #: For each consumer, the numbers of statements after which its first connections are cut.
    cuts: list[list[int]]
    replayed: list[int]
    #: For each consumer.
    habits: list[Habits]


@st.composite
def sets_of_commands(draw: st.DrawFn) -> list[Command]:
    drawn = draw(st.lists(st.tuples(st.sampled_from(OPS), st.integers(1, 3)), max_size=12))
    numbers = draw(st.permutations(range(len(drawn))))
    return [city(number, op, key) for number, (op, key) in zip(numbers, drawn, strict=True)]


@st.composite
def deliveries(draw: st.DrawFn, commands: list[Command]) -> Delivery:
    rng = random.Random(draw(st.integers(0, 2**32)))
    order = commands + [rng.choice(commands) for _ in range(rng.randint(0, 4)) if commands]
    rng.shuffle(order)
    objects: list[list[list[Command]]] = [[[]] for _ in range(rng.randint(1, 4))]
    for command in order:
        chunks = rng.choice(objects)
        if rng.random() < 0.4:
            chunks.append([])
        chunks[-1].append(command)
    hands: list[list[int]] = [[], []]
    for index in range(len(objects)):
        for hand in hands:
            hand.extend([index] * rng.choice([0, 1, 1, 2]))
        if not any(index in hand for hand in hands):
            rng.choice(hands).append(index)
    for hand in hands:
        rng.shuffle(hand)
    cuts = [[rng.randint(0, 25) for _ in range(rng.choice([0, 0, 1, 2]))] for _ in hands]
    replayed = [rng.randrange(len(objects)) for _ in range(rng.randint(0, 3))]
    habits = [Habits(needed=rng.choice([0, 0, 1, 3])) for _ in hands]
    return Delivery(objects, hands, cuts, replayed, habits)


def deliver(database: Database, delivery: Delivery) -> None:
    """Run both consumers concurrently, each with its cuts; a failed object is delivered again."""
    with psycopg.connect(database.url, autocommit=True) as killer:
        guard = threading.Lock()

        def kill(pid: int) -> None:
            with guard:
                end_session(killer, pid)

        failures: list[BaseException] = []

        def consume(number: int) -> None:
            try:
                _consume(database, delivery, number, kill)
            except BaseException as exc:  # noqa: BLE001 - re-raised in the test's own thread
                failures.append(exc)

        threads = [
            threading.Thread(target=consume, args=[number]) for number in range(len(delivery.hands))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def _consume(
    database: Database, delivery: Delivery, number: int, kill: Callable[[int], None]
) -> None:
    connection: Connection | None = None
    cuts = list(delivery.cuts[number])
    for index in delivery.hands[number]:
        while True:
            if connection is None or connection.closed:
                connection = open_connection(database.url)
                if cuts:
                    cut_after(connection, cuts.pop(), kill)
            try:
                database.apply(
                    *delivery.objects[index],
                    source=f"commands/{index}",
                    connection=connection,
                    habits=delivery.habits[number],
                )
                break
            except psycopg.OperationalError:
                connection.close()
    if connection is not None:
        connection.close()


def check(database: Database, data: st.DataObject) -> None:
    commands = data.draw(sets_of_commands())
    delivery = data.draw(deliveries(commands))
    database.empty()
    deliver(database, delivery)
    expected = model(commands)
    assert (database.cities(), database.tombstones()) == expected
    for index in delivery.replayed:
        database.apply(*delivery.objects[index], source=f"commands/{index}", replay=True)
    assert (database.cities(), database.tombstones()) == expected
    ledger = database.ledger()
    assert set(ledger) == {f"commands/{index}" for index in range(len(delivery.objects))}
    for index, chunks in enumerate(delivery.objects):
        row = ledger[f"commands/{index}"]
        counted = sum(row[name] for name in ("applied", "superseded", "duplicates", "rejected"))
        assert counted == row["lines"] == sum(map(len, chunks))
        assert row["completed_at"] is not None


def examples(count: int) -> settings:
    """Return settings for tests that share one database, which each example empties first."""
    return settings(
        max_examples=count,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@examples(EXAMPLES)
@given(data=st.data())
def test_any_delivery_of_a_set_of_commands_gives_the_state_of_the_model(
    database: Database, data: st.DataObject
) -> None:
    """Any permutation, duplicates, chunk borders, two consumers, cuts between any statements."""
    check(database, data)


@pytest.mark.long
@pytest.mark.timeout(7200)
@examples(MANY_EXAMPLES)
@given(data=st.data())
def test_many_more_deliveries_give_the_state_of_the_model(
    database: Database, data: st.DataObject
) -> None:
    """The same with more examples; takes about an hour."""
    check(database, data)


@pytest.mark.parametrize("first", OPS)
@pytest.mark.parametrize("second", OPS)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("needed", [0, 3])
def test_two_commands_of_one_key_end_alike_in_either_order(
    database: Database, first: Op, second: Op, needed: int, *, swapped: bool
) -> None:
    commands = [city(1, first), city(2, second)]
    for number, command in enumerate(reversed(commands) if swapped else commands):
        database.apply([command], source=f"commands/{number}", habits=Habits(needed=needed))
    assert (database.cities(), database.tombstones()) == model(commands)
