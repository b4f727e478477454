"""New rows are copied directly into the table; existing versions are not sent again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.sql import Composed

from forebay.apply import Habits
from forebay.command import Command
from tests.fixtures.commands import city, command_id
from tests.fixtures.tables import CountingCursor, Database, open_connection


class CopyingCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that records the targets of COPY, with a callback before each."""

    copies: list[str]
    before: Callable[[], object]

    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
        type(self).copies.append(statement.as_string(self))
        type(self).before()
        return super().copy(statement, *args, **kwargs)


def apply_watched(
    database: Database,
    chunk: list[Command],
    before: Callable[[], object] = lambda: None,
    **source: Any,
) -> tuple[Any, list[str]]:
    """Apply a chunk; return its counts, and the tables that its rows were copied to."""
    with open_connection(database.url) as connection:
        connection.cursor_factory = CopyingCursor
        CopyingCursor.copies = []
        CopyingCursor.before = staticmethod(before)
        outcome = database.apply(chunk, connection=connection, **source)
    targets = [text.split("(")[0].split()[1] for text in CopyingCursor.copies]
    return outcome.counts, targets


def test_new_rows_are_copied_straight_into_the_table(database: Database) -> None:
    counts, targets = apply_watched(database, [city(n, key=n) for n in range(10)])
    assert counts.applied == 10
    assert targets == ['"public"."cities"']


def test_no_row_that_the_table_holds_is_sent(database: Database) -> None:
    chunk = [city(n, key=n) for n in range(10, 20)]
    database.apply(chunk)
    counts, targets = apply_watched(database, chunk, replay=True)
    assert (counts.duplicates, targets) == (10, [])
    older = [city(n - 10, key=n) for n in range(10, 20)]
    counts, targets = apply_watched(database, older, source="commands/older")
    assert (counts.superseded, targets) == (10, [])


def test_only_rows_that_must_take_a_place_are_staged(database: Database) -> None:
    database.apply([city(5, key=1), city(6, key=2), city(7, "delete", 3)], source="commands/1")
    chunk = [city(1, key=1), city(9, key=2), city(10, key=3), city(2, key=4)]
    counts, targets = apply_watched(database, chunk, source="commands/2")
    assert (counts.applied, counts.superseded) == (3, 1)
    assert targets == ['"public"."cities"', '"pg_temp"."forebay_in_cities"']
    assert {key: row[0] for key, row in database.cities().items()} == {
        1: command_id(5),
        2: command_id(9),
        3: command_id(10),
        4: command_id(2),
    }
    assert database.tombstones() == {}


@pytest.mark.parametrize("theirs", [5, 50])
def test_a_key_that_another_consumer_inserts_meanwhile_goes_to_the_greater_id(
    database: Database, theirs: int
) -> None:
    """The key is absent when the table is probed, and present when the rows are copied."""
    chunk = [city(n, key=n) for n in range(10, 20)]
    with open_connection(database.url) as other:
        started: list[bool] = []

        def intrude() -> None:
            if not started:
                started.append(True)
                database.apply([city(theirs, key=15)], source="commands/b", connection=other)

        counts, _ = apply_watched(database, chunk, intrude, source="commands/a")
    assert set(database.cities()) == set(range(10, 20))
    assert database.cities()[15][0] == command_id(max(theirs, 15))
    assert counts.applied == 10 - (theirs > 15)
    assert database.rejections() == {}


def test_rows_that_a_constraint_refuses_are_found_by_the_line_that_postgres_names(
    database: Database,
) -> None:
    database.connection.execute("ALTER TABLE cities ADD CHECK (population <> 13)")
    bad = set(range(7, 2000, 100))
    chunk = [
        city(n, key=n, **({"population": 13} if n % 200 == 7 else {"name": None}))
        if n in bad
        else city(n, key=n)
        for n in range(2000)
    ]
    with open_connection(database.url) as connection:
        connection.cursor_factory = CountingCursor
        CountingCursor.statements = 0
        outcome = database.apply(chunk, connection=connection)
    assert (outcome.counts.applied, outcome.counts.rejected) == (2000 - len(bad), len(bad))
    assert {
        int(key): code for key, code in database.rows("SELECT key, code FROM forebay.rejections")
    } == {n: "check_violation" if n % 200 == 7 else "not_null_violation" for n in bad}
    # Each row is found twice, before the decision and in it; halving takes forty statements each.
    assert CountingCursor.statements < 8 * len(bad)


def test_rows_that_lack_the_same_value_are_refused_by_one_try(database: Database) -> None:
    gaps: dict[int, dict[str, Any]] = {
        n: {"name": None} if n % 2 else {"population": None} for n in range(20)
    }
    gaps |= {n: {"name": None, "population": None} for n in range(20, 30)}
    counts, targets = apply_watched(
        database, [city(n, key=n, **gaps.get(n, {})) for n in range(100)]
    )
    assert (counts.applied, counts.rejected) == (70, 30)
    # Once to apply, and once to decide, when only the refused rows are left.
    assert len(targets) == (1 + 3) + (1 + 3)
    rows = database.rows("SELECT key, code, sqlstate, detail FROM forebay.rejections")
    assert {int(key): (code, sqlstate) for key, code, sqlstate, _ in rows} == dict.fromkeys(
        range(30), ("not_null_violation", "23502")
    )
    for key, _, _, detail in rows:  # Postgres names the first missing column, in the table's order
        assert detail.endswith(
            "; column " + ("population" if int(key) in range(0, 20, 2) else "name")
        )
        assert "Failing row" not in detail, "the first one is no other than the others"


def test_why_a_row_is_refused_does_not_depend_on_its_neighbours(database: Database) -> None:
    odd = city(9, key=9, name=None, country_code="TOO LONG")
    database.apply([odd], source="commands/alone")
    alone = database.rows("SELECT code, detail FROM forebay.rejections")
    database.connection.execute("TRUNCATE forebay.rejections")
    database.apply([city(8, key=8, name=None), odd], source="commands/behind")
    behind = database.rows("SELECT code, detail FROM forebay.rejections WHERE key = '9'")
    assert behind == alone
    assert alone[0][0] == "string_data_right_truncation"


def test_a_value_that_a_trigger_fills_in_is_not_missed(database: Database) -> None:
    database.connection.execute(
        """
        CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF new.geonameid >= 5 THEN new.name := 'filled'; END IF; RETURN new; END $$;
        CREATE TRIGGER fill BEFORE INSERT ON cities FOR EACH ROW EXECUTE FUNCTION fill();
        """
    )
    database.apply([city(n, key=n, name=None) for n in range(10)])
    assert set(database.cities()) == set(range(5, 10))
    assert set(database.rejections()) == {command_id(n) for n in range(5)}


def test_rows_without_a_value_that_the_table_does_not_require_are_inserted(
    database: Database,
) -> None:
    database.connection.execute("ALTER TABLE cities ALTER name DROP NOT NULL")
    database.apply([city(n, key=n, name=None) for n in range(10)])
    assert set(database.cities()) == set(range(10))


def test_a_taken_unique_value_is_distinguished_from_an_existing_key(
    database: Database,
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=1, name="Aachen")], source="commands/1")
    chunk = [city(10 + n, key=10 + n) for n in range(50)] + [city(99, key=5, name="Aachen")]
    counts, _ = apply_watched(database, chunk, source="commands/2")
    assert (counts.applied, counts.rejected) == (50, 1)
    assert database.rejections() == {command_id(99): "unique_violation"}


class AskingCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that records composed queries with their values."""

    queries: list[tuple[str, Any]]

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(query, Composed):
            type(self).queries.append((query.as_string(self), args[0] if args else {}))
        return super().execute(query, *args, **kwargs)


@pytest.mark.parametrize(
    ("unreadable", "code", "asked"),
    [
        # Once to apply, and once to decide, when only the refused rows are left.
        ({"country_code": "TOO LONG"}, "string_data_right_truncation", [3, 3]),
        ({"population": "many"}, "invalid_text_representation", [1_200, 3]),
    ],
)
def test_rows_that_postgres_leaves_out_are_looked_for_where_they_mostly_are(
    database: Database, unreadable: dict[str, Any], code: str, asked: list[int]
) -> None:
    left_out = {3, 600, 1_199}
    chunk = [city(n, key=n, **(unreadable if n in left_out else {})) for n in range(1_200)]
    with open_connection(database.url) as connection:
        connection.cursor_factory = AskingCursor
        AskingCursor.queries = []
        database.apply(chunk, connection=connection)
    assert set(database.cities()) == set(range(1_200)) - left_out
    assert database.rejections() == {command_id(n): code for n in left_out}
    looked_for = [
        len(values["keys"].split(","))
        for text, values in AskingCursor.queries
        if "WHERE t.key IS NULL" in text
    ]
    assert looked_for == asked


def test_rows_left_out_for_several_reasons_are_all_found(database: Database) -> None:
    odd: dict[int, dict[str, Any]] = {
        1: {"country_code": "TOO LONG"},
        2: {"population": "many"},
        900: {"name": "x" * 1_000},
    }
    database.connection.execute("ALTER TABLE cities ALTER name TYPE text")
    database.apply([city(n, key=n, **odd.get(n, {})) for n in range(1_000)])
    assert set(database.cities()) == set(range(1_000)) - {1, 2}
    assert set(database.rejections()) == {command_id(1), command_id(2)}


def test_rows_that_a_trigger_leaves_out_are_found_too(database: Database) -> None:
    database.connection.execute(
        """
        CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RETURN CASE WHEN new.geonameid = 5 THEN NULL ELSE new END; END $$;
        CREATE TRIGGER hide BEFORE INSERT ON cities FOR EACH ROW EXECUTE FUNCTION hide();
        """
    )
    database.apply([city(n, key=n, country_code="TOO LONG" if n == 7 else "DE") for n in range(10)])
    assert set(database.cities()) == set(range(10)) - {5, 7}
    assert database.rejections() == {
        command_id(5): "unreadable_row",
        command_id(7): "string_data_right_truncation",
    }


def test_a_table_with_the_habit_of_new_keys_is_not_probed_for_them(database: Database) -> None:
    habits = Habits()
    with open_connection(database.url) as connection:
        connection.cursor_factory = AskingCursor
        statements = []
        for number in range(6):
            AskingCursor.queries = []
            keys = range(10 * number, 10 * number + 10) if number != 4 else [1]
            chunk = [city(100 * number + key, key=key) for key in keys]
            database.apply(chunk, source=f"commands/{number}", connection=connection, habits=habits)
            statements.append(sum("AS beaten" in text for text, _ in AskingCursor.queries))
    # Only the fourth chunk is not probed before it is sent. The fifth is probed when its key turns
    # out to exist, and each later chunk is probed again.
    assert statements == [1, 1, 1, 0, 1, 1]
    assert database.cities()[1][0] == command_id(401)


@pytest.mark.parametrize("unreadable", [{"country_code": "TOO LONG"}, {"name": None}, {"x": 1}])
def test_the_habit_of_new_keys_changes_no_result(
    database: Database, unreadable: dict[str, Any]
) -> None:
    before = [
        *[city(100 + key, key=key) for key in range(10)],
        *[city(100 + key, "delete", key=key) for key in range(10, 13)],
        city(1, "delete", key=13),
    ]
    bad = set(range(0, 24, 3))
    chunks = [
        [city(50 + key, key=key) for key in range(5)],
        [city(200 + key, key=key, **(unreadable if key in bad else {})) for key in range(24)],
        [city(60 + key, key=key, **(unreadable if key in bad else {})) for key in range(24)],
        # No key is buried, and the values for existing keys are unreadable: COPY meets no conflict.
        [city(70 + key, key=key, **unreadable) for key in (3, 5)]
        + [
            city(400 + key, key=key, **(unreadable if key in {5, 41} else {}))
            for key in (5, 40, 41, 42)
        ],
        [city(300 + key, "create", key=key) for key in range(5, 30)],
        [city(100 + key, key=key) for key in range(10)],
    ]
    ends = []
    for needed in (3, 0):
        database.empty()
        database.apply(before, source="commands/before")
        habits = Habits(needed=needed)
        counts = [
            database.apply(chunk, source=f"commands/{number}", habits=habits).counts
            for number, chunk in enumerate(chunks)
        ]
        ends.append((counts, database.cities(), database.tombstones(), database.rejections()))
    assert ends[1] == ends[0]
    assert ends[0][3], "some are rejected"


def test_a_tombstone_holds_despite_the_habit_of_new_keys(database: Database) -> None:
    database.apply([city(9, "delete", key=1)], source="commands/delete")
    outcome = database.apply([city(1, key=1), city(2, key=2)], habits=Habits(needed=0))
    assert (outcome.counts.applied, outcome.counts.superseded) == (1, 1)
    assert set(database.cities()) == {2}


def test_a_put_under_the_id_of_the_create_that_is_there_is_counted_once(database: Database) -> None:
    database.apply([city(1, "create", key=1)], source="commands/1")
    again = city(1, "create", key=1)._replace(op="put")
    counts = database.apply([again], source="commands/2").counts
    assert (counts.applied, counts.superseded, counts.duplicates) == (1, 0, 0)
