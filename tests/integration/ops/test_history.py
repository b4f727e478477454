"""The history of a key: every command with its status, and the row as it was at any time."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import resources
from forebay.command import Command, Op
from forebay.ids import accepted_ms
from ops.history import Entry, find_commands, find_state, read_statuses
from ops.replay.outdate import outdate
from tests.fixtures.commands import CITY, city
from tests.fixtures.site import Site

START_MS = 1_795_000_000_000
CITIES = resources.load()["cities"]


def at(second: int, op: Op = "put", key: int = 5, **changes: Any) -> Command:
    """Build a command that was accepted in that second."""
    command = city(second, op, key, **changes)
    stamp = f"{START_MS + second * 1000:012x}"
    return command._replace(id=f"{stamp[:8]}-{stamp[8:]}-{command.id[14:]}", by=f"user:{second}")


def moment(second: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(START_MS / 1000 + second, dt.UTC)


def history(site: Site, key: int = 5) -> list[Entry]:
    occurrences = find_commands(site.store, site.store.list("commands/"), "cities", key)
    return read_statuses(site.database.connection, CITIES, key, occurrences)[0]


def test_each_command_of_the_key_is_shown_once_with_its_status(site: Site) -> None:
    bad = at(3, name="x" * 201)
    first = site.put_and_apply(at(2), at(1, "create"), at(9, key=6), bad)
    second = site.put_and_apply(at(4), at(2))
    waiting = site.put(at(5, "delete"))
    summaries = [
        (entry.command.by, entry.status, entry.objects, (entry.reason or "").split(":")[0])
        for entry in history(site)
    ]
    both = sorted([first, second])
    assert [
        (by, outcome, sorted(objects), reason) for by, outcome, objects, reason in summaries
    ] == [
        ("user:1", "superseded", [first], ""),
        ("user:2", "superseded", both, ""),
        ("user:3", "rejected", [first], "string_data_right_truncation"),
        ("user:4", "applied", [second], ""),
        ("user:5", "pending", [waiting], ""),
    ]


def test_the_commands_of_an_outdated_row_have_the_outcomes_that_they_had(site: Site) -> None:
    site.put_and_apply(at(1), at(2))
    assert outdate(site.database.connection, CITIES, moment(2), moment(3)).rows == 1
    assert [entry.status for entry in history(site)] == ["superseded", "applied"]


def test_a_command_applied_in_the_ledger_but_in_no_table_is_missing(site: Site) -> None:
    site.put_and_apply(at(1))
    site.database.connection.execute("DELETE FROM cities")
    assert [entry.status for entry in history(site)] == ["missing"]


def test_the_row_as_it_was(site: Site) -> None:
    site.put_and_apply(
        at(10, "create", name="ten"),
        at(20, name="twenty"),
        at(25, name="x" * 201),
        at(30, "delete"),
        at(40, name="forty"),
    )
    entries = history(site)

    def was(second: float) -> tuple[str, str | None]:
        state = find_state(entries, CITIES, moment(second))
        return state.state, state.row["name"] if state.row else None

    assert was(9.999) == ("absent", None)
    assert was(10) == ("row", "ten")
    assert was(19.999) == ("row", "ten")
    assert was(27) == ("row", "twenty"), "what can't apply never was a row"
    assert was(30) == ("deleted", None)
    assert was(99) == ("row", "forty")
    bad = entries[2].command.id
    assert find_state(entries, CITIES, moment(27)).left_out == [bad]
    assert [entry.status for entry in entries].count("rejected") == 0, "it lost in its batch"
    row = find_state(entries, CITIES, moment(20)).row
    assert row == {"geonameid": 5, **CITY, "name": "twenty"}


def test_as_of_equals_the_tables_after_the_commands_up_to_that_time(
    site: Site,
) -> None:
    """Compare with apply itself: each prefix of the commands, shuffled, applied to empty tables."""
    rng = random.Random(7)
    ops: list[Op] = ["create", "put", "put", "delete"]
    commands = [at(second, rng.choice(ops), name=f"{second}") for second in range(1, 25)]
    site.put(*rng.sample(commands, len(commands)))
    occurrences = find_commands(site.store, site.store.list("commands/"), "cities", 5)
    entries, source = read_statuses(site.database.connection, CITIES, 5, occurrences)
    assert source.server == "primary"
    for count in range(len(commands) + 1):
        site.database.empty()
        site.database.apply(rng.sample(commands[:count], count), source=f"commands/{count}")
        was = find_state(entries, CITIES, moment(count + 0.5))
        rows = site.database.rows("SELECT _version::text, name FROM cities")
        expected = [(was.version, was.row["name"])] if was.row else []
        assert rows == expected, count


def test_times_come_from_the_ids(site: Site) -> None:
    site.put(at(12))
    (entry,) = history(site)
    assert entry.accepted_at == moment(12)
    assert accepted_ms(entry.command.id) == START_MS + 12_000
