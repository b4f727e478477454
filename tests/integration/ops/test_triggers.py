"""What docs/triggers.md says of triggers, by a live run and a rebuild of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.codec import encode
from forebay.command import Command
from tests.fixtures.commands import city, command_id, country
from tests.fixtures.operating import Operator, apply_live
from tests.fixtures.pages import blocks, text_of

(DOCUMENTED,) = blocks(text_of("docs/triggers.md"), "sql")


def trigger(when: str, body: str, more: str = "FOR EACH ROW") -> str:
    """A trigger on cities."""
    return f"""
        CREATE FUNCTION public.reaction() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN {body} RETURN NEW; END $$;
        CREATE {"CONSTRAINT " if "DEFERRED" in more else ""}TRIGGER reaction
        {when} ON public.cities {more} EXECUTE FUNCTION public.reaction();
    """


#: What a trigger of an insert and an update has seen.
HEARD = "CREATE TABLE public.heard (place serial, key int, name text);" + trigger(
    "AFTER INSERT OR UPDATE",
    "INSERT INTO public.heard (key, name) VALUES (NEW.geonameid, NEW.name);",
)


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    """An operator with an empty archive and an empty database."""
    return Operator(tmp_path / "archive", database_url)


def live(operator: Operator, ddl: str, *objects: list[Command]) -> None:
    """Applies objects to tables that have this trigger."""
    operator.rows(ddl)
    for number, commands in enumerate(objects):
        file = operator.archive / f"commands/2025/10/17/00/{number}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(b"".join(map(encode, commands))))
    apply_live(operator)


def emptied(operator: Operator, url: str, ddl: str) -> Operator:
    """The operator of another database with the same trigger and no rows."""
    other = replace(operator, database_url=url)
    other.rows(ddl)
    return other


def heard(operator: Operator) -> list[tuple[int, str]]:
    return operator.rows("SELECT key, name FROM public.heard ORDER BY place")


def rejections(operator: Operator) -> dict[str, tuple[str, str | None]]:
    rows = operator.rows("SELECT id::text, code, sqlstate FROM forebay.rejections")
    return {rejected: (code, sqlstate) for rejected, code, sqlstate in rows}


def test_a_trigger_sees_one_command_of_each_key_of_an_object(operator: Operator) -> None:
    live(
        operator,
        HEARD,
        [city(1, key=1), city(2, key=1), city(3, key=1), city(4, key=2), city(5, "delete", 2)],
        [city(6, key=1), city(0, key=1)],
    )
    assert heard(operator) == [(1, "version 3"), (1, "version 6")]


def test_a_before_insert_trigger_also_runs_for_a_row_that_is_then_updated(
    operator: Operator,
) -> None:
    ddl = HEARD.replace("AFTER INSERT OR UPDATE", "BEFORE INSERT")
    live(operator, ddl, [city(1, key=1)], [city(2, key=1)])
    assert heard(operator) == [(1, "version 1"), (1, "version 2")]


def test_a_rebuild_fires_triggers_for_the_last_state_only(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """So a table that triggers fill is another one, and verify does not look at it."""
    live(operator, HEARD, [city(1, key=1)], [city(2, key=1)])
    other = emptied(operator, another_database(), HEARD)
    other.done("rebuild", "--yes")
    assert (heard(operator), heard(other)) == (
        [(1, "version 1"), (1, "version 2")],
        [(1, "version 2")],
    )
    other.done("verify", "--at", "now")


def test_the_documented_trigger_is_left_out_of_a_rebuild(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    live(operator, DOCUMENTED, [city(1, key=1)])
    assert operator.rows("SELECT key FROM public.city_changes") == [(1,)]
    other = emptied(operator, another_database(), DOCUMENTED)
    other.done("rebuild", "--yes")
    assert other.rows("SELECT key FROM public.city_changes") == []
    assert other.dump() == operator.dump()


def test_a_value_that_a_trigger_changes_is_a_difference_to_verify(operator: Operator) -> None:
    changing = trigger("BEFORE INSERT OR UPDATE", "NEW.name := upper(NEW.name);")
    live(operator, changing, [city(1, key=1), city(2, key=2)])
    result = operator.done("verify", "--at", "now", code=1)
    assert {one["key"] for one in result["named"]} == {"1", "2"}


def test_a_column_that_no_declaration_has_may_be_filled_by_a_trigger(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    filling = "ALTER TABLE public.cities ADD shown text;" + trigger(
        "BEFORE INSERT OR UPDATE", "NEW.shown := upper(NEW.name);"
    )
    live(operator, filling, [city(1, key=1)], [city(2, key=1)])
    operator.done("verify", "--at", "now")
    other = emptied(operator, another_database(), filling)
    other.done("rebuild", "--yes")
    shown = "SELECT geonameid, shown FROM public.cities"
    assert other.rows(shown) == operator.rows(shown) == [(1, "VERSION 2")]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("P0001", "raise_exception"),
        ("UX001", "database_error"),
        ("45000", "database_error"),
        ("22ABC", "data_error"),
        ("23ABC", "integrity_error"),
        ("38ABC", "operational_error"),
        ("54ABC", "operational_error"),
        ("20ABC", "programming_error"),
        ("21ABC", "programming_error"),
        ("44ABC", "programming_error"),
        ("P0ABC", "programming_error"),
    ],
)
def test_an_error_of_a_trigger_is_rejected_with_a_documented_code(
    operator: Operator, code: str, name: str
) -> None:
    raising = trigger(
        "BEFORE INSERT", f"IF NEW.name = 'bad' THEN RAISE 'no' USING ERRCODE = '{code}'; END IF;"
    )
    live(operator, raising, [city(1, key=1), city(2, key=2, name="bad")])
    assert rejections(operator) == {command_id(2): (name, code)}
    assert f"`{name}`" in text_of("docs/problems.md")


def test_a_new_row_that_a_trigger_leaves_out_is_rejected_for_that(operator: Operator) -> None:
    hiding = trigger("BEFORE INSERT", "IF NEW.geonameid = 2 THEN RETURN NULL; END IF;")
    live(operator, hiding, [city(1, key=1), city(2, key=2)])
    rows = operator.rows("SELECT code, detail FROM forebay.rejections")
    assert rows == [("unreadable_row", "a trigger of the table leaves the row out")]


def test_an_update_that_a_trigger_leaves_out_is_a_difference_to_verify(operator: Operator) -> None:
    keeping = trigger("BEFORE UPDATE", "IF NEW.name = 'bad' THEN RETURN NULL; END IF;")
    live(operator, keeping, [city(1, key=1)], [city(2, key=1, name="bad")])
    assert rejections(operator) == {}
    operator.done("verify", "--at", "now", code=1)


CHECK = "AFTER INSERT OR UPDATE"
DEFERRED = "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"


def test_a_rebuild_fires_deferred_triggers(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """Postgres makes no index of a table with events that wait."""
    checking = trigger(CHECK, "IF NEW.name = 'bad' THEN RAISE 'no'; END IF;", DEFERRED)
    live(operator, checking, [city(1, key=1), city(2, key=2, name="bad")])
    assert rejections(operator) == {command_id(2): ("raise_exception", "P0001")}
    other = emptied(operator, another_database(), checking)
    other.done("rebuild", "--yes")
    assert other.dump() == operator.dump()


@pytest.mark.parametrize("more", [DEFERRED, "FOR EACH ROW"])
def test_a_trigger_that_refuses_an_applied_command_stops_a_rebuild(
    operator: Operator, another_database: Callable[[], str], more: str
) -> None:
    """Such as one that was made later, or one that looks at rows that are loaded later."""
    live(operator, "", [city(1, key=1)])
    other = emptied(operator, another_database(), trigger(CHECK, "RAISE 'never';", more))
    result = other.run("rebuild", "--yes")
    assert (result.code, "never" in result.err) == (3, True), result.err
    assert other.rows("SELECT FROM public.cities") == []


def test_a_reference_from_a_table_of_one_s_own_stops_a_rebuild(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    referring = "CREATE TABLE public.notes (city int REFERENCES public.cities, note text)"
    live(operator, "", [city(1, key=1), country(2, "DE")])
    other = emptied(operator, another_database(), referring)
    result = other.run("rebuild", "--yes")
    assert result.code == 3
    assert 'Table "notes" references "cities"' in result.err
