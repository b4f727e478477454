"""Declared indexes: their filters use them, and a second `make migration` finds no difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.resource import Indexed, Key, Resource
from forebay.resource.spec import ResourceSpec
from tests.fixtures.migrating import Project
from tests.fixtures.tables import Database


class Plain(Resource, path="papers"):
    """A paper."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    title: Annotated[str, Field(max_length=200)]
    order_word: Annotated[str, Field(max_length=20)] = ""
    tags: list[str] = []  # noqa: RUF012 - pydantic copies it


class Paper(Resource, path="papers"):
    """A paper."""

    number: Annotated[int, Field(ge=1, le=9999), Key()]
    title: Annotated[
        str, Field(max_length=200), Indexed("search", "english"), Indexed("trigram"), Indexed()
    ]
    order_word: Annotated[str, Field(max_length=20), Indexed("search")] = ""
    tags: Annotated[list[str], Indexed("contains")] = []  # noqa: RUF012


PLAIN: Mapping[str, ResourceSpec] = {"papers": Plain.spec_}
INDEXED: Mapping[str, ResourceSpec] = {"papers": Paper.spec_}


def has_trigrams(database: Database) -> bool:
    rows = database.rows("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
    return rows == [(1,)]


def indexes(database: Database) -> list[str]:
    rows = database.rows(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'papers' ORDER BY indexname"
    )
    return [name for (name,) in rows]


def plan_of(database: Database, query: str, *values: Any) -> str:
    database.connection.execute("SET enable_seqscan = off")
    rows = database.connection.execute(f"EXPLAIN {query}".encode(), values).fetchall()
    return "\n".join(str(row[0]) for row in rows)


@pytest.fixture
def indexed(project: Project, database: Database, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout that has added indexes to an existing resource."""
    project.record({})
    project.make(database, PLAIN, "Add papers")
    project.upgrade(database, PLAIN)
    project.record(PLAIN)
    project.make(database, INDEXED, "Index papers")
    project.upgrade(database, INDEXED)
    project.record(INDEXED)
    return project


def test_declared_indexes_are_made_and_found_again(indexed: Project, database: Database) -> None:
    trigram = ["papers_title_trigram_idx"] if has_trigrams(database) else []
    assert indexes(database) == sorted(
        [
            "papers_order_word_search_simple_idx",
            "papers_pkey",
            "papers_tags_contains_idx",
            "papers_title_idx",
            "papers_title_search_english_idx",
            *trigram,
        ]
    )
    indexed.check(database)


def test_undeclared_indexes_are_dropped_and_created_again_when_declared(
    indexed: Project, database: Database
) -> None:
    indexed.make(database, PLAIN, "No index")
    indexed.upgrade(database, PLAIN)
    assert indexes(database) == ["papers_pkey"]
    indexed.downgrade(database)
    assert "papers_title_search_english_idx" in indexes(database)


@pytest.mark.usefixtures("indexed")
def test_filters_use_them(database: Database) -> None:
    search = (
        "SELECT * FROM public.papers WHERE to_tsvector(%s::regconfig, title)"
        " @@ (SELECT plainto_tsquery(%s::regconfig, %s))"
    )
    assert "papers_title_search_english_idx" in plan_of(
        database, search, "english", "english", "rivers"
    )
    contains = "SELECT * FROM public.papers WHERE tags @> %s::jsonb"
    assert "papers_tags_contains_idx" in plan_of(database, contains, '["a"]')
    if has_trigrams(database):
        like = "SELECT * FROM public.papers WHERE title ILIKE %s"
        assert "papers_title_trigram_idx" in plan_of(database, like, "%river%")
