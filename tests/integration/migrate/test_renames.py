"""`make migration` asks about likely renames, and leaves handmade objects alone."""

from __future__ import annotations

from typing import Annotated

import pytest
from alembic.util.exc import CommandError
from pydantic import Field

from forebay.resource import Indexed, Key, Resource, Unique
from tests.fixtures.migrating import Project
from tests.fixtures.tables import Database


class Old(Resource, path="lakes"):
    """A lake."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    name: Annotated[str, Field(max_length=20), Indexed()]
    code: Annotated[str | None, Field(max_length=20), Unique()] = None
    size: int = 1


class New(Resource, path="lakes", schema_version=2, upcasters={1: dict}):
    """A lake."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    title: Annotated[str, Field(max_length=20, description="What it is called"), Indexed()]
    code: Annotated[str | None, Field(max_length=20), Unique()] = None
    size: int = 1


class Bare(Resource, path="lakes", schema_version=2, upcasters={1: dict}):
    """A lake."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    name: Annotated[str, Field(max_length=20)]
    size: int = 1


class Filled(Resource, path="lakes"):
    """A lake."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    name: Annotated[str, Field(max_length=20), Indexed()]
    code: Annotated[str | None, Field(max_length=20), Unique()] = None
    size: int = 1
    kind: Annotated[str, Field(max_length=20)] = "fresh"


OLD, NEW, BARE, FILLED = ({"lakes": one.spec_} for one in (Old, New, Bare, Filled))


@pytest.fixture
def recorded(project: Project, database: Database, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout, and its database with a row, recorded as the current declaration."""
    project.record({})
    project.make(database, OLD, "Add lakes")
    project.upgrade(database, OLD)
    database.connection.execute(
        "INSERT INTO public.lakes (number, name, size, _version, _by_create)"
        " VALUES (1, 'Como', 3, gen_random_uuid(), false)"
    )
    project.record(OLD)
    return project


def answer(patch: pytest.MonkeyPatch, said: str) -> None:
    patch.setenv("MIGRATION_RENAME", said)


def test_a_likely_rename_is_a_question_and_no_file_is_written(
    recorded: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "")
    with pytest.raises(CommandError) as refused:
        recorded.make(database, NEW, "Change lakes")
    assert "lakes: was the column name renamed to title?" in str(refused.value)
    assert "RENAME=lakes.name:title" in str(refused.value)
    assert len(list(recorded.folder.glob("*.py"))) == 1


def test_a_rename_keeps_the_values(
    recorded: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "lakes.name:title")
    text = recorded.make(database, NEW, "Rename")
    recorded.upgrade(database, NEW)

    assert "new_column_name='title'" in text
    assert database.rows("SELECT title, size FROM lakes") == [("Como", 3)]
    recorded.record(NEW)
    recorded.check(database)
    recorded.downgrade(database)
    assert database.rows("SELECT name, size FROM lakes") == [("Como", 3)]


def test_two_columns_that_only_look_alike_are_dropped_and_added(
    recorded: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "none")
    text = recorded.make(database, NEW, "Change lakes")
    assert "op.drop_column('lakes', 'name')" in text
    assert "new_column_name" not in text


def test_a_rename_that_can_not_be_is_refused(
    recorded: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "lakes.size:title")
    with pytest.raises(CommandError, match=r"RENAME=lakes\.size:title: no dropped and added"):
        recorded.make(database, NEW, "Change lakes")


def test_a_new_field_that_is_never_null_is_added_to_a_filled_table(
    recorded: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "")
    recorded.make(database, FILLED, "Add a kind")
    recorded.upgrade(database, FILLED)
    assert database.rows("SELECT name, kind FROM lakes") == [("Como", "fresh")]


HANDMADE = """
CREATE INDEX by_hand ON public.lakes (lower(name));
CREATE INDEX lakes_size_number_idx ON public.lakes (size, number);
ALTER TABLE public.lakes ADD CONSTRAINT positive UNIQUE (size, name);
ALTER TABLE public.lakes ADD COLUMN words tsvector
  GENERATED ALWAYS AS (to_tsvector('simple', name)) STORED;
CREATE VIEW public.big_lakes AS SELECT number, size FROM public.lakes WHERE size > 2;
CREATE TABLE public.audit (number int PRIMARY KEY, said text);
CREATE INDEX audit_said ON public.audit (said);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.audit VALUES (NEW.number, NEW.name); RETURN NEW; END';
CREATE TRIGGER noting AFTER INSERT ON public.lakes
  FOR EACH ROW EXECUTE FUNCTION public.note();
"""


def test_objects_made_by_hand_stay_and_undeclared_ones_are_dropped(
    recorded: Project, database: Database
) -> None:
    database.connection.execute(HANDMADE.encode())
    recorded.declare(OLD)
    recorded.check(database)

    text = recorded.make(database, BARE, "Declare less")

    upgrade = text[text.index("def upgrade") : text.index("def downgrade")]
    dropped = [line.strip().split("(")[0] for line in upgrade.splitlines() if "drop_" in line]
    assert sorted(dropped) == ["op.drop_column", "op.drop_constraint", "op.drop_index"]
    for name in ("by_hand", "positive", "words", "audit", "lakes_size_number_idx"):
        assert name not in upgrade
