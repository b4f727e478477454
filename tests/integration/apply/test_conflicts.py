"""Many rows that violate a constraint take as many statements as a few of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.apply import Counts
from forebay.command import Command
from tests.fixtures.commands import city, command_id, country
from tests.fixtures.tables import CountingCursor, Database, open_connection

MANY = 300
#: Row by row, each would take about ten statements.
STATEMENTS = 150
#: First ids of the examples: they never repeat, as a rejected command stays rejected.
_STARTS = itertools.count(10_000, 1_000)


class FetchedCursor(psycopg.Cursor[Any]):
    """A cursor that counts the rows that it fetches."""

    rows = 0

    def fetchall(self) -> list[Any]:
        rows = super().fetchall()
        FetchedCursor.rows += len(rows)
        return rows


def apply_counted(
    database: Database, chunk: Sequence[Command], source: str, *, statements: int = STATEMENTS
) -> Counts:
    """Apply a chunk, and check that the number of statements does not grow with its size."""
    with open_connection(database.url) as connection:
        connection.cursor_factory = CountingCursor
        CountingCursor.statements = 0
        counts = database.apply(chunk, connection=connection, source=source).counts
    assert CountingCursor.statements < statements
    return counts


def rejected(database: Database) -> dict[str, tuple[str, str]]:
    rows = database.rows("SELECT key, code, detail FROM forebay.rejections")
    return {key: (code, detail) for key, code, detail in rows}


def test_rows_with_one_unique_value_are_found_in_one_statement_and_the_first_sent_keeps_it(
    database: Database,
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX cities_of ON cities (population)")
    chunk = [city(n, key=1000 - n, population=n // 3) for n in range(MANY)]
    random.Random(1).shuffle(chunk)
    counts = apply_counted(database, chunk, "commands/a")
    assert (counts.applied, counts.rejected) == (MANY // 3, MANY * 2 // 3)
    assert set(database.cities()) == {1000 - n for n in range(0, MANY, 3)}
    code, detail = rejected(database)["999"]
    assert code == "unique_violation"
    assert detail == (
        'duplicate key value violates unique constraint "cities_of"; '
        "Key (population)=(0) already exists."
    )


def test_values_that_other_rows_have_are_refused_at_once_to_new_rows_and_to_changed_ones(
    database: Database,
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name, country_code)")
    owners = [city(n, key=n, name=f"n{n}") for n in range(MANY)]
    rows = [city(n + 1000, key=n + 1000, name=f"m{n}") for n in range(MANY)]
    database.apply([*owners, *rows], source="commands/a")
    changed = [city(n + 2000, key=n + 1000, name=f"n{n}") for n in range(MANY)]
    new = [city(n + 3000, key=n + 3000, name=f"n{n}") for n in range(MANY)]
    other = [city(9000, key=9000, name="n1", country_code="FR")]
    counts = apply_counted(database, [*changed, *new, *other], "commands/b")
    assert (counts.applied, counts.rejected) == (1, 2 * MANY)
    assert database.cities()[1000][0] == command_id(1000)


def test_references_to_missing_rows_are_refused_in_one_statement(database: Database) -> None:
    database.connection.execute(
        "ALTER TABLE cities ADD CONSTRAINT of FOREIGN KEY (country_code) REFERENCES countries"
    )
    database.apply([country(1, "DE")], source="commands/a")
    chunk = [
        city(n, key=n, country_code="DE" if n % 3 == 0 else f"{n % 26 + 65:c}X")
        for n in range(2, MANY + 2)
    ]
    counts = apply_counted(database, chunk, "commands/b")
    good = sum(1 for n in range(2, MANY + 2) if n % 3 == 0)
    assert (counts.applied, counts.rejected) == (good, MANY - good)
    code, detail = rejected(database)["4"]
    assert code == "foreign_key_violation"
    assert detail == (
        'insert or update on table "cities" violates foreign key constraint "of"; '
        'Key (country_code)=(EX) is not present in table "public"."countries".'
    )


def test_deletes_of_rows_with_references_are_refused_in_one_statement(database: Database) -> None:
    codes = [f"{a:c}{b:c}" for a in range(65, 85) for b in range(65, 80)]
    database.connection.execute(
        "ALTER TABLE cities ADD CONSTRAINT of FOREIGN KEY (country_code) REFERENCES countries"
    )
    database.apply([country(n, code) for n, code in enumerate(codes)], source="commands/a")
    database.apply(
        [city(n + 1000, key=n, country_code=code) for n, code in enumerate(codes[1:])],
        source="commands/b",
    )
    deletes = [
        country(n + 5000, code)._replace(op="delete", body=None) for n, code in enumerate(codes)
    ]
    counts = apply_counted(database, deletes, "commands/c")
    assert (counts.applied, counts.rejected) == (1, len(codes) - 1)
    assert database.rows("SELECT count(*) FROM countries") == [(len(codes) - 1,)]


def test_rows_of_one_table_may_refer_to_each_other(database: Database) -> None:
    database.connection.execute("ALTER TABLE cities ALTER population TYPE bigint")
    database.connection.execute(
        "ALTER TABLE cities ADD CONSTRAINT near FOREIGN KEY (population) REFERENCES cities"
    )
    chain = [city(n, key=n, population=n + 1) for n in range(100, 110)]
    end = city(110, key=110, population=110)
    lost = [city(n, key=n, population=9999) for n in range(200, 200 + MANY)]
    counts = apply_counted(database, [*lost, *chain, end], "commands/a")
    assert (counts.applied, counts.rejected) == (11, MANY)
    deletes = [city(n + 1000, "delete", n) for n in range(101, 111)]
    counts = database.apply(deletes, source="commands/b").counts
    assert (counts.applied, counts.rejected) == (0, 10)  # key 100 still refers to 101, and so on
    deletes = [city(n + 2000, "delete", n) for n in range(100, 111)]
    assert database.apply(deletes, source="commands/c").counts.applied == 11


@pytest.mark.parametrize("is_free", [True, False])
def test_swapped_values_apply_together_with_many_taken_values(
    database: Database, *, is_free: bool
) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (population)")
    before = [*range(10), 50]
    database.apply([city(n, key=n, population=n) for n in before], source="commands/a")
    ring = [city(n + 100, key=n, population=(n + 1) % 4) for n in range(4)]
    chain = [city(n + 100, key=n, population=n + 1) for n in range(4, 9)]
    end = [city(109, key=9, population=60 if is_free else 50)]
    bad = [city(n + 200, key=n + 200, population=50) for n in range(MANY)]
    # The ring and the chain are tried row by row, before the decision and during it.
    counts = apply_counted(database, [*bad, *ring, *chain, *end], "commands/b", statements=400)
    assert (counts.applied, counts.rejected) == ((10, MANY) if is_free else (4, MANY + 6))
    populations = "SELECT population FROM cities WHERE geonameid < 10 ORDER BY geonameid"
    chained = [5, 6, 7, 8, 9, 60] if is_free else [4, 5, 6, 7, 8, 9]
    assert [n for (n,) in database.rows(populations)] == [1, 2, 3, 0, *chained]


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX ON cities (lower(name))",
        "CREATE UNIQUE INDEX ON cities (name) WHERE population > 0",
        "CREATE UNIQUE INDEX ON cities (name) NULLS NOT DISTINCT",
    ],
)
def test_constraints_that_plain_columns_can_not_show_are_found_row_by_row(
    database: Database, index: str
) -> None:
    database.connection.execute(index)
    chunk = [city(n, key=n, name=f"n{n // 2}") for n in range(20)]
    counts = database.apply(chunk, source="commands/a").counts
    assert (counts.applied, counts.rejected) == (10, 10)


def refer_to_countries(database: Database, codes: Sequence[str]) -> None:
    """Create the countries, a city in each, and the foreign key between them."""
    database.connection.execute(
        "ALTER TABLE cities ADD CONSTRAINT of FOREIGN KEY (country_code) REFERENCES countries"
    )
    database.apply([country(n + 100, code) for n, code in enumerate(codes)], source="commands/a")
    cities = [city(n + 500, key=n, country_code=code) for n, code in enumerate(codes)]
    database.apply(cities, source="commands/b")


def delete(number: int, code: str) -> Command:
    return country(number, code)._replace(op="delete", body=None)


def test_a_delete_older_than_its_row_is_superseded_even_with_references_to_the_row(
    database: Database,
) -> None:
    refer_to_countries(database, ["DE", "FR", "IT"])
    chunk = [delete(1, "DE"), delete(1000, "FR"), delete(1001, "IT")]
    counts = database.apply(chunk, source="commands/c").counts
    assert (counts.superseded, counts.rejected) == (1, 2)
    assert set(rejected(database)) == {"FR", "IT"}


def test_values_that_a_trigger_changes_are_tried(database: Database) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (population)")
    database.connection.execute(
        "CREATE FUNCTION public.count_up() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.population < 10 THEN NEW.population := NEW.geonameid; END IF;"
        " RETURN NEW; END$$"
    )
    database.connection.execute(
        "CREATE TRIGGER up BEFORE INSERT OR UPDATE ON cities"
        " FOR EACH ROW EXECUTE FUNCTION public.count_up()"
    )
    database.apply([city(5, key=5, population=5)], source="commands/a")
    chunk = [city(n, key=n, population=5 if n < 40 else 77) for n in range(20, 60)]
    counts = database.apply(chunk, source="commands/b").counts
    assert (counts.applied, counts.rejected) == (21, 19)


def test_rows_that_refer_to_a_deleted_row_are_not_listed(database: Database) -> None:
    refer_to_countries(database, ["DE", "FR"])
    more = [city(n + 2000, key=n + 100, country_code="DE") for n in range(MANY)]
    database.apply(more, source="commands/c")
    with open_connection(database.url) as connection:
        connection.cursor_factory = FetchedCursor
        FetchedCursor.rows = 0
        deletes = [delete(9000, "DE"), delete(9001, "FR")]
        counts = database.apply(deletes, connection=connection, source="commands/d").counts
    assert counts.rejected == 2
    assert FetchedCursor.rows < 50


@given(
    chunk=st.lists(
        st.tuples(st.integers(0, 9), st.none() | st.integers(0, 7)),
        min_size=1,
        max_size=10,
        unique_by=lambda drawn: drawn[0],
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_put_is_refused_where_another_row_has_its_value_in_the_end_and_else_it_applies(
    database: Database, chunk: list[tuple[int, int | None]]
) -> None:
    database.empty()
    database.connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS one ON cities (population)")
    start = next(_STARTS)
    database.apply([city(start + n, key=n, population=n) for n in range(6)], source="commands/a")
    commands = [
        city(start + 100 + n, "delete", key)
        if value is None
        else city(start + 100 + n, key=key, population=value)
        for n, (key, value) in enumerate(chunk)
    ]
    counts = database.apply(commands, source="commands/b").counts
    rows = database.rows("SELECT geonameid, population, _version::text FROM cities")
    at_the_end = {key: (value, version) for key, value, version in rows}
    owners = {value: key for key, (value, _) in at_the_end.items()}
    refused = set(map(int, rejected(database)))
    assert (counts.applied, counts.rejected) == (len(chunk) - len(refused), len(refused))
    for command, (key, value) in zip(commands, chunk, strict=True):
        if value is None:
            assert key not in at_the_end
        elif key in refused:
            assert owners.get(value, key) != key
        else:
            assert at_the_end[key] == (value, command.id)
