"""A field added to a resource: live rows, a rebuild and `verify` agree about old bodies."""

from __future__ import annotations

import ast
import datetime as dt
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.apply import Source, apply
from forebay.archive.lines import read_chunks
from forebay.command import Command
from forebay.resource import Key, Resource
from forebay.resource.spec import ResourceSpec
from local.postgres.config import OWNER
from local.settings import REGION
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, Context
from ops.cut import EVERYTHING
from ops.rebuild.rebuild import rebuild
from ops.verify.verify import verify
from tests.fixtures.commands import command_id
from tests.fixtures.migrating import Project
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.site import Site
from tests.fixtures.tables import Database, followed_log, open_connection

TEXTS = {
    "quotes": "'it''s'",
    "colons": "a:b ::c",
    "percent": "100 %s %(x)s",
    "slashes": "a\\b\\u0041\n",
    "beyond": "é 😀",
    "empty": "",
}


class OldNote(Resource, path="notes"):
    """A note of the previous release."""

    number: Annotated[int, Field(ge=1, le=2**31 - 1), Key()]
    text: Annotated[str, Field(max_length=20)]


class NewNote(Resource, path="notes"):
    """A note with an additional field of each kind."""

    number: Annotated[int, Field(ge=1, le=2**31 - 1), Key()]
    text: Annotated[str, Field(max_length=20)]
    colour: Annotated[str | None, Field(max_length=20)] = "red"
    quotes: str | None = TEXTS["quotes"]
    colons: str | None = TEXTS["colons"]
    percent: str | None = TEXTS["percent"]
    slashes: str | None = TEXTS["slashes"]
    beyond: str = TEXTS["beyond"]
    empty: str | None = TEXTS["empty"]
    integer: int | None = -(2**62)
    decimal: Annotated[Decimal | None, Field(max_digits=30, decimal_places=3)] = Decimal("-12.5")
    double: float | None = 1e-300
    boolean: bool | None = False
    required_boolean: bool = True
    date: dt.date | None = dt.date(2026, 11, 29)
    timestamp: dt.datetime | None = dt.datetime(2026, 11, 29, 1, 2, 3, 456, tzinfo=dt.UTC)
    token: uuid.UUID | None = uuid.UUID("0199f0c2-0000-4000-8000-000000000000")
    made_list: list[str] = Field(default_factory=list)
    made_object: dict[str, Any] | None = Field(default_factory=dict)
    json_list: list[Any] | None = [{"a:b": [1.5, None, "é'"]}]  # noqa: RUF012 - pydantic copies it
    #: Fields without a default: a row has only the value of its body.
    null: str | None = None
    demanded: str | None


DEFAULT = "server_default"
OLD: Mapping[str, ResourceSpec] = {"notes": OldNote.spec_}
NEW: Mapping[str, ResourceSpec] = {"notes": NewNote.spec_}


@pytest.fixture
def scratch(postgres_cluster: PostgresServer) -> Iterator[Database]:
    """Another database, the target of a rebuild."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            yield Database(url, connection)


class WithNotes(Context):
    """An environment with a release that declares the new notes."""

    @cached_property
    def resources(self) -> Mapping[str, ResourceSpec]:
        return NEW


def context_of(site: Site, database: Database) -> WithNotes:
    options = {DATABASE: database.url, ARCHIVE: f"s3://{site.bucket}"}
    return WithNotes(options, environment={})


def put_and_apply(site: Site, number: int, release: Mapping[str, ResourceSpec]) -> None:
    """Archive an old body, and apply it with the declarations of a release."""
    body = {"text": "old"}
    key = site.put(Command(command_id(number), "put", "notes", number, 1, "test", None, body))
    apply(
        site.database.connection,
        read_chunks(site.archive.read(key)),
        Source(key),
        resources=release,
        decision_log=followed_log(site.database.connection, site.archive, release),
    )


def rows(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT to_jsonb(n)::text, n::text FROM notes n ORDER BY number")


def test_live_rows_a_rebuild_and_verify_agree_about_fields_that_old_bodies_lack(
    project: Project, site: Site, scratch: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.s3.meta.endpoint_url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    live = site.database
    project.make(live, OLD, "Add notes")
    project.upgrade(live, OLD)
    put_and_apply(site, 1, OLD)
    project.make(live, NEW, "Add fields")
    project.upgrade(live, NEW)
    put_and_apply(site, 2, OLD)  # the previous release still runs
    put_and_apply(site, 3, NEW)

    project.upgrade(scratch, NEW)
    rebuild(context_of(site, scratch), Console(), cut=EVERYTHING, scratch=None, processes=1)

    assert live.archived == []
    assert len(rows(live)) == 3
    assert rows(scratch) == rows(live)
    assert live.rows("SELECT quotes, colons, percent, slashes, beyond, empty FROM notes") == (
        [tuple(TEXTS.values())] * 3
    )
    for database in (live, scratch):
        result = verify(
            context_of(site, database), Console(), cut=EVERYTHING, limit=9, scratch=None
        )
        assert result.is_clean


def test_only_columns_of_fields_with_a_default_get_one(project: Project, site: Site) -> None:
    project.make(site.database, OLD, "Add notes")
    project.upgrade(site.database, OLD)
    text = project.make(site.database, NEW, "Add fields")

    columns = text[: text.index("def downgrade")].split("sa.Column(")[1:]
    with_default = {ast.literal_eval(c.split(",")[0].strip()) for c in columns if DEFAULT in c}
    fields = {field.name for field in NewNote.spec_.fields}
    assert with_default == fields - {"text", "null", "demanded"}
