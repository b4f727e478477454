"""Law 3: a bad command hurts no other command, and a rejected command stays rejected."""

from __future__ import annotations

import gzip
import random
import uuid
from dataclasses import replace
from typing import Any

import psycopg
import pytest

import resources
from forebay.apply import Counts
from forebay.archive.lines import Entry, InvalidLine, read_chunks
from forebay.codec import decode, encode
from forebay.command import Command, Op
from forebay.errors import HeldError, TransientError
from forebay.resource import References, ResourceSpec
from forebay.resource.spec import Kind
from tests.fixtures.commands import CITY, city, command_id, country
from tests.fixtures.tables import CountingCursor, Database, open_connection

BAD_BODIES: dict[str, dict[str, Any]] = {
    "too long": {"name": "x" * 201},
    "wrong type": {"population": "many"},
    "out of range": {"population": 2**63},
    "null": {"name": None},
    "unknown field": {"mayor": "x"},
    "object in a scalar": {"name": {"a": 1}},
    "NUL": {"name": "a\x00b"},
    "not a number": {"latitude": "north"},
}


def bad(number: int, key: int, case: str = "too long") -> Command:
    return city(number, key=key, **BAD_BODIES[case])


@pytest.mark.parametrize("case", BAD_BODIES)
@pytest.mark.parametrize("position", [0, 1, 5, 10])
def test_a_bad_command_in_any_position_is_rejected_alone(
    database: Database, case: str, position: int
) -> None:
    chunk: list[Entry] = [city(number, key=number) for number in range(10)]
    chunk.insert(position, bad(99, 99, case))
    outcome = database.apply(chunk)
    assert set(database.cities()) == set(range(10))
    assert set(database.rejections()) == {command_id(99)}
    assert (outcome.counts.applied, outcome.counts.rejected) == (10, 1)
    assert [rejection.id for rejection in database.archived] == [command_id(99)]
    assert decode(database.archived[0].line) == bad(99, 99, case)


def test_many_bad_commands_between_good_ones_are_all_found(database: Database) -> None:
    rng = random.Random(5)
    culprits = set(rng.sample(range(400), 40))
    cases = list(BAD_BODIES)
    chunk = [
        bad(number, number, rng.choice(cases)) if number in culprits else city(number, key=number)
        for number in range(400)
    ]
    outcome = database.apply(chunk)
    assert set(database.cities()) == set(range(400)) - culprits
    assert len(database.rejections()) == outcome.counts.rejected == 40


def test_the_neighbours_of_a_bad_command_are_counted_by_their_status(
    database: Database,
) -> None:
    """Each half of a divided chunk is staged by itself, into an emptied staging table."""
    database.apply([city(9, key=9), city(19, key=8)], source="commands/1")
    chunk = [city(1, key=1), city(2, key=2), bad(3, 3), city(9, key=9), city(10, key=8)]
    counts = database.apply(chunk, source="commands/2").counts
    assert (counts.applied, counts.duplicates, counts.superseded) == (2, 1, 1)
    assert counts.rejected == 1


def test_a_missing_field_without_default_is_named(database: Database) -> None:
    command = city(1)
    assert command.body is not None
    del command.body["timezone"]
    database.apply([command])
    code, detail = database.rows("SELECT code, detail FROM forebay.rejections")[0]
    assert code == "missing_field"
    assert "timezone" in detail


def test_a_missing_field_with_a_default_gets_it(database: Database) -> None:
    body = {"title": "t", "body": "b", "published_on": "2026-01-01"}
    key = "0199f0c2-0000-4000-8000-000000000000"
    database.apply([Command(command_id(1), "put", "announcements", key, 1, "t", None, body)])
    assert database.rows("SELECT status, pinned, tags, expires_at FROM announcements") == [
        ("published", False, [], None)
    ]


def test_a_known_rejection_that_is_there_twice_counts_as_two_lines(database: Database) -> None:
    chunk = [bad(9, 1), bad(9, 1), city(3, key=3)]
    assert database.apply(chunk).counts == Counts(applied=1, rejected=1, duplicates=1)
    assert database.apply(chunk, replay=True).counts == Counts(duplicates=3)


def test_an_id_with_a_line_break_is_invalid(database: Database) -> None:
    """Ids are validated by the batch, as lines of one text."""
    good = encode(city(5, key=5))
    two = f"{command_id(1)}\\n{command_id(2)}".encode()
    line = encode(city(1, key=1)).replace(command_id(1).encode(), two)
    outcome = database.apply(*read_chunks([gzip.compress(line + good)]))
    assert outcome.counts == Counts(applied=1, rejected=1)
    assert set(database.rejections().values()) == {"envelope_invalid"}


@pytest.mark.parametrize("op", ["put", "delete"])
def test_a_key_with_a_line_break_is_invalid(database: Database, op: Op) -> None:
    spec = next(one for one in resources.load().values() if one.key.kind is Kind.UUID)
    key = "\n".join(str(uuid.UUID(int=n)) for n in range(2))
    one = city(1, op)._replace(resource=spec.path, key=key, schema=spec.schema_version)
    outcome = database.apply([one, city(2, key=2)])
    assert outcome.counts == Counts(applied=1, rejected=1)
    assert database.rejections() == {command_id(1): "key_invalid"}


def test_a_chunk_that_is_tried_again_has_all_its_runners_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk is retried after a deadlock, which happens here while rejections are archived."""
    chunk = [city(3, key=1, name="x" * 300), city(2, key=1, name="y" * 300), city(1, key=1)]
    tries: list[str] = []
    create = database.store.create

    def deadlock_once(key: str, content: bytes) -> bool:
        if not content.startswith(b'{"decision":"rejected"'):
            return create(key, content)
        tries.append(key)
        if len(tries) == 1:
            raise psycopg.errors.DeadlockDetected
        return create(key, content)

    monkeypatch.setattr(database.store, "create", deadlock_once)
    outcome = database.apply(chunk)
    assert len(tries) == 2
    assert outcome.counts == Counts(applied=1, rejected=2)
    assert database.cities()[1][0] == command_id(1)


def test_the_runner_up_takes_a_rejected_winners_place(database: Database) -> None:
    chunk = [city(1, key=5), city(2, key=5), bad(3, 5), bad(4, 5, "wrong type"), city(5, key=6)]
    outcome = database.apply(chunk)
    assert database.cities()[5][0] == command_id(2)
    assert set(database.rejections()) == {command_id(3), command_id(4)}
    counts = outcome.counts
    assert (counts.applied, counts.superseded, counts.rejected) == (2, 1, 2)


def test_a_deletes_place_is_not_taken_by_a_rejected_put(database: Database) -> None:
    database.apply([city(1, key=5)], source="commands/1")
    database.apply([city(2, "delete", 5), bad(3, 5)], source="commands/2")
    assert database.cities() == {}
    assert database.tombstones() == {("cities", "5"): command_id(2)}


def test_a_rejected_command_stays_rejected_when_its_body_would_fit_now(database: Database) -> None:
    database.apply([bad(1, 5)], source="commands/1")
    database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    for source, replay in (("commands/2", False), ("commands/1", True)):
        outcome = database.apply([bad(1, 5)], source=source, replay=replay)
        assert (outcome.counts.rejected, outcome.counts.duplicates) == (0, 1)
    assert database.cities() == {}
    assert len(database.archived) == 1


def test_an_unknown_resource_is_a_rejection(database: Database) -> None:
    stranger = Command(command_id(1), "put", "planets", 1, 1, "t", None, {})
    database.apply([stranger, city(2, key=5)])
    assert database.rejections() == {command_id(1): "unknown_resource"}
    assert set(database.cities()) == {5}


@pytest.mark.parametrize("key", ["5", "DE"])
def test_a_key_of_another_type_is_a_rejection(database: Database, key: str) -> None:
    database.apply([city(1, key=key), city(2, key=5)])
    assert database.rejections() == {command_id(1): "key_invalid"}
    assert set(database.cities()) == {5}


def test_bad_lines_are_rejections_under_ids_that_a_replay_gives_them_again(
    database: Database,
) -> None:
    chunk: list[Entry] = [
        city(1, key=1),
        InvalidLine(1, b'{"v":2}', "envelope_version_unknown", "version 2"),
        InvalidLine(2, b"\xff\x00", "line_not_json", "no JSON"),
        city(2, key=2),
    ]
    first = database.apply(chunk)
    again = database.apply(chunk, replay=True)
    assert set(database.cities()) == {1, 2}
    assert sorted(database.rejections().values()) == ["envelope_version_unknown", "line_not_json"]
    assert (first.counts.applied, first.counts.rejected) == (2, 2)
    assert (again.counts.applied, again.counts.rejected, again.counts.duplicates) == (0, 0, 4)
    lines = database.rows("SELECT line FROM forebay.rejections ORDER BY code")
    assert [bytes(line) for (line,) in lines] == [b'{"v":2}', b"\xff\x00"]


def test_newer_schema_versions_are_held_and_apply_after_the_upgrade(database: Database) -> None:
    newer = Command(command_id(1), "put", "cities", 1, 2, "t", None, {})
    chunks = [[city(2, key=2)], [newer, city(3, key=3)], [city(4, key=4)]]
    for _ in range(2):
        with pytest.raises(HeldError, match="schema version 2"):
            database.apply(*chunks)
        assert set(database.cities()) == {2, 3, 4}
        assert database.ledger()["commands/a.gz"]["completed_at"] is None
        assert database.rejections() == {}
    upgraded = [[city(2, key=2)], [city(1, key=1), city(3, key=3)], [city(4, key=4)]]
    database.apply(*upgraded)
    assert set(database.cities()) == {1, 2, 3, 4}
    assert database.ledger()["commands/a.gz"]["completed_at"] is not None


def test_when_the_archive_takes_no_decision_none_is_made(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The neighbours are applied nevertheless; the object, begun, is delivered again."""
    create = database.store.create

    def refuse(key: str, content: bytes) -> bool:
        if content.startswith(b'{"decision":"rejected"'):
            raise TransientError("no room")
        return create(key, content)

    with monkeypatch.context() as patched:
        patched.setattr(database.store, "create", refuse)
        with pytest.raises(TransientError):
            database.apply([city(1, key=1), bad(2, 2), city(0, key=2)])
    assert set(database.cities()) == {1}
    assert database.rejections() == {}
    [row] = database.ledger().values()
    assert row["completed_at"] is None
    assert not any(row[name] for name in ("lines", "applied", "rejected", "duplicates"))
    database.apply([city(1, key=1), bad(2, 2), city(0, key=2)])
    assert set(database.cities()) == {1, 2}
    assert database.rejections() == {command_id(2): "string_data_right_truncation"}


def test_a_schema_that_does_not_fit_is_nobodys_rejection(database: Database) -> None:
    database.connection.execute("ALTER TABLE cities DROP COLUMN timezone")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        database.apply([city(1, key=1)])
    assert database.rejections() == {}
    assert database.ledger() == {}


def test_a_conflict_that_a_neighbour_resolves_is_not_rejected(database: Database) -> None:
    """Key 2 takes over the name that key 9 gives up, in one chunk and in the unfavourable order."""
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=9, name="Aachen")], source="commands/1")
    database.apply([city(2, key=9, name="Aix"), city(3, key=2, name="Aachen")], source="commands/2")
    assert {key: name for key, (_, _, name) in database.cities().items()} == {9: "Aix", 2: "Aachen"}
    assert database.rejections() == {}


def test_a_conflict_that_stays_is_a_rejection(database: Database) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=1, name="Aachen"), city(2, key=2, name="Aachen"), city(3, key=3)])
    assert list(database.rejections().values()) == ["unique_violation"]
    assert len(database.cities()) == 2


STRANGE: dict[str, Command] = {
    "resource with NUL": Command(command_id(50), "put", "pla\x00nets", 1, 1, "t", None, {}),
    "resource too long for an index": Command(
        command_id(50), "put", "".join(map(str, range(5000))), 1, 1, "t", None, {}
    ),
    "key with NUL": Command(command_id(50), "put", "countries", "\x00", 1, "t", None, {}),
    "key too long for an index": Command(
        command_id(50), "put", "countries", "".join(map(str, range(5000))), 1, "t", None, {}
    ),
    "field with NUL": Command(
        command_id(50), "put", "cities", 50, 1, "t", None, {**CITY, "a\x00b": 1}
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_only_the_command_with_an_unstorable_name_is_rejected(
    database: Database, case: str
) -> None:
    database.apply([city(1, key=1), STRANGE[case], city(2, key=2)])
    assert set(database.cities()) == {1, 2}
    assert set(database.rejections()) == {command_id(50)}
    assert decode(database.archived[0].line) == STRANGE[case]


def raising(error_code: str) -> str:
    """Return the SQL of an operator's trigger that refuses the name `bad` with an error code."""
    return f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.name = 'bad' THEN RAISE 'no' USING ERRCODE = '{error_code}'; END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON cities
        FOR EACH ROW EXECUTE FUNCTION refuse()
    """


OPERATORS = {
    "check": "ALTER TABLE cities ADD CHECK (name <> 'bad')",
    "generated column": "ALTER TABLE cities ADD g int "
    "GENERATED ALWAYS AS (1 / (length(name) - 3)) STORED",
    "endless recursion": """
        CREATE FUNCTION deeper(name text) RETURNS bool LANGUAGE plpgsql AS
        $$ BEGIN RETURN name <> 'bad' OR deeper(name); END $$;
        ALTER TABLE cities ADD CHECK (deeper(name))
    """,
    "deferred trigger": raising("P0001").replace(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON cities",
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON cities "
        "DEFERRABLE INITIALLY DEFERRED",
    ),
    **{code: raising(code) for code in ("P0001", "45000", "20000", "UX001", "38001")},
}


@pytest.mark.parametrize("case", OPERATORS)
def test_only_the_command_that_an_operators_constraint_refuses_is_rejected(
    database: Database, case: str
) -> None:
    database.connection.execute(OPERATORS[case])
    database.apply([city(1, key=1), city(50, key=50, name="bad"), city(2, key=2)])
    assert set(database.cities()) == {1, 2}
    assert set(database.rejections()) == {command_id(50)}


@pytest.mark.parametrize("code", ["40001", "53100", "55P03", "57014", "58030", "XX000", "42703"])
def test_a_transient_error_rejects_no_command(database: Database, code: str) -> None:
    database.connection.execute(raising(code))
    with pytest.raises(psycopg.Error):
        database.apply([city(1, key=1), city(50, key=50, name="bad")])
    assert database.rejections() == {}
    assert database.ledger() == {}


def test_a_deferred_constraint_finds_the_guilty_too(database: Database) -> None:
    """At the commit it would fail the whole chunk, in every retry."""
    database.connection.execute(
        "ALTER TABLE cities ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"
    )
    database.apply([city(1, key=1, name="Aachen"), city(2, key=2, name="Aachen"), city(3, key=3)])
    assert len(database.cities()) == 2
    assert list(database.rejections().values()) == ["unique_violation"]


def test_a_column_that_this_release_does_not_know_is_nobodys_rejection(database: Database) -> None:
    """The next release's migration has run, while this release's consumer is still deployed."""
    database.connection.execute("ALTER TABLE cities ADD mayor text NOT NULL")
    with pytest.raises(psycopg.errors.NotNullViolation, match="mayor"):
        database.apply([city(1, key=1), bad(2, 2, "null")])
    assert database.rejections() == {}
    assert database.ledger() == {}
    database.connection.execute("ALTER TABLE cities ALTER mayor SET DEFAULT ''")
    database.apply([city(1, key=1), bad(2, 2, "null")])
    assert database.rejections() == {command_id(2): "not_null_violation"}
    assert set(database.cities()) == {1}


@pytest.mark.parametrize("step", [1, -1])
def test_a_chain_of_commands_that_pass_a_value_on_takes_no_longer_with_its_order(
    database: Database, step: int
) -> None:
    """Each command takes the name that the next key (or the previous key) gives up."""
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(n, key=n, name=f"n{n}") for n in range(1, 61)], source="commands/1")
    chain = [city(100 + n, key=n, name=f"n{n + step}") for n in range(1, 61)]
    with open_connection(database.url) as connection:
        connection.cursor_factory = CountingCursor
        CountingCursor.statements = 0
        database.apply(chain, source="commands/2", connection=connection)
    assert database.rejections() == {}
    assert {row[2] for row in database.cities().values()} == {f"n{n + step}" for n in range(1, 61)}
    assert CountingCursor.statements < 60 * 40


UNREADABLE = {
    "too long": ("string_data_right_truncation", "22001", "column name"),
    "wrong type": ("invalid_text_representation", "22P02", "column population"),
    "out of range": ("numeric_value_out_of_range", "22003", "column population"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_values_that_a_type_cannot_read_cost_no_more_however_many_they_are(
    database: Database, case: str
) -> None:
    chunk = [bad(n, n, case) if n % 3 else city(n, key=n) for n in range(600)]
    with open_connection(database.url) as connection:
        connection.cursor_factory = CountingCursor
        database.decision_log(connection)  # a new connection reads the decision log
        CountingCursor.statements = 0
        outcome = database.apply(chunk, connection=connection)
    # Two transactions: one applies, the other decides.
    assert CountingCursor.statements < 40
    assert (outcome.counts.applied, outcome.counts.rejected) == (200, 400)
    assert set(database.cities()) == set(range(0, 600, 3))
    code, sqlstate, column = UNREADABLE[case]
    rows = database.rows("SELECT DISTINCT code, sqlstate, detail FROM forebay.rejections")
    assert [(row[0], row[1]) for row in rows] == [(code, sqlstate)]
    assert rows[0][2].endswith(column)


def test_the_target_of_an_enforced_reference_is_applied_first(database: Database) -> None:
    """Countries are applied before cities by default, so here a country refers to a city."""
    database.connection.execute(
        "ALTER TABLE countries ADD FOREIGN KEY (population) REFERENCES cities (geonameid)"
    )
    outcome = database.apply(
        [country(1, "AD", population=7), country(2, "XX", population=8), city(3, key=7)],
        resources=with_enforced_population(),
    )
    assert database.rows("SELECT code FROM countries") == [("AD",)]
    assert database.rejections() == {command_id(2): "foreign_key_violation"}
    assert (outcome.counts.applied, outcome.counts.rejected) == (2, 1)


def with_enforced_population() -> dict[str, ResourceSpec]:
    declared = resources.load()
    countries = declared["countries"]
    fields = tuple(
        replace(field, references=References("cities", enforced=True))
        if field.name == "population"
        else field
        for field in countries.fields
    )
    return {**declared, "countries": replace(countries, fields=fields)}
