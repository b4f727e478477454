"""The commands of a retired resource are skipped and counted, by every way of applying them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import Field

import resources
from forebay.apply import Outcome, Source, apply
from forebay.archive.lines import read_chunks
from forebay.command import Command, Op
from forebay.db.schema import metadata
from forebay.errors import HeldError
from forebay.replay.selection import Selection
from forebay.resource import Key, Resource, Resources
from forebay.resource.spec import ResourceSpec
from local.postgres.config import OWNER
from local.settings import REGION
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, Context
from ops.cut import EVERYTHING
from ops.rebuild.rebuild import rebuild
from ops.replay import replay as replaying
from ops.replay.plan import make_plan
from ops.replay.replay import Pace
from ops.verify.verify import verify
from tests.fixtures.commands import command_id
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.site import Site
from tests.fixtures.tables import Database, followed_log, open_connection


class Fruit(Resource, path="fruits"):
    """A resource that stays."""

    name: Annotated[str, Field(max_length=20), Key()]
    colour: Annotated[str, Field(max_length=20)]


class Sample(Resource, path="samples"):
    """A resource that the next release retires."""

    name: Annotated[str, Field(max_length=20), Key()]
    size: int


BEFORE = Resources({"fruits": Fruit.spec_, "samples": Sample.spec_})
AFTER = Resources({"fruits": Fruit.spec_}, retired=["samples"])


def context_of(site: Site, database: Database) -> Context:
    return Context({DATABASE: database.url, ARCHIVE: f"s3://{site.bucket}"}, environment={})


@pytest.fixture(autouse=True)
def _environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the later release in every context, with the emulator's credentials."""
    monkeypatch.setattr(resources, "load", lambda: AFTER)
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.s3.meta.endpoint_url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def create_tables(database: Database, declared: Mapping[str, ResourceSpec]) -> None:
    engine = sa.create_engine(
        database.url.replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"options": "-c search_path=public"},
    )
    tables = metadata(declared).tables
    for path in declared:
        tables[path].create(engine)
    engine.dispose()


def command(number: int, op: Op, resource: str, key: str) -> Command:
    bodies: dict[str, dict[str, Any]] = {"fruits": {"colour": "red"}, "samples": {"size": number}}
    body = None if op == "delete" else bodies[resource]
    return Command(command_id(number), op, resource, key, 1, "test", None, body)


OLD = [
    command(1, "put", "fruits", "apple"),
    command(2, "put", "samples", "a"),
    command(3, "create", "samples", "b"),
    command(4, "delete", "samples", "c"),
]
IN_FLIGHT = [
    command(5, "put", "samples", "a"),
    command(6, "put", "fruits", "pear"),
    command(7, "delete", "fruits", "plum"),
    command(5, "put", "samples", "a"),  # Firehose delivers at least once
]


def consume(site: Site, key: str, release: Mapping[str, ResourceSpec]) -> Outcome:
    connection = site.database.connection
    return apply(
        connection,
        read_chunks(site.archive.read(key)),
        Source(key),
        resources=release,
        decision_log=followed_log(connection, site.archive, release),
    )


def ledger(database: Database) -> list[tuple[object, ...]]:
    columns = "object, lines, applied, superseded, duplicates, rejected, skipped"
    return database.rows(f"SELECT {columns} FROM forebay.ledger ORDER BY object")


def fruits(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT name, colour, _version FROM fruits ORDER BY name")


@pytest.fixture
def scratch(postgres_cluster: PostgresServer) -> Iterator[Database]:
    """Another database, the target of a rebuild."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            yield Database(url, connection)


@pytest.fixture
def retired(site: Site) -> list[str]:
    """The keys of two objects: the previous release has applied one, the other is pending.

    The table is dropped, as by the migration.
    """
    create_tables(site.database, BEFORE)
    old = site.put(*OLD, name="1-old")
    assert consume(site, old, BEFORE).counts.applied == 4
    with psycopg.connect(site.database.url, autocommit=True) as connection:
        connection.execute("DROP TABLE public.samples")
    return [old, site.put(*IN_FLIGHT, name="2-new")]


def test_the_consumer_skips_and_counts_them(site: Site, retired: list[str]) -> None:
    outcome = consume(site, retired[1], AFTER)

    assert (outcome.counts.applied, outcome.counts.skipped) == (2, 2)
    assert ledger(site.database)[1] == (retired[1], 4, 2, 0, 0, 0, 2)
    assert site.database.rejections() == {}


def test_they_are_skipped_while_their_table_is_still_there(site: Site) -> None:
    create_tables(site.database, BEFORE)
    key = site.put(*IN_FLIGHT)

    assert consume(site, key, AFTER).counts.skipped == 2
    assert site.database.rows("SELECT count(*) FROM samples") == [(0,)]


def test_a_resource_that_is_only_taken_away_is_still_held(site: Site) -> None:
    create_tables(site.database, BEFORE)
    key = site.put(*IN_FLIGHT)

    with pytest.raises(HeldError):
        consume(site, key, Resources({"fruits": Fruit.spec_}))


def test_live_a_replay_and_a_rebuild_give_the_same_and_verify_agrees(
    site: Site, retired: list[str], scratch: Database
) -> None:
    consume(site, retired[1], AFTER)
    live = fruits(site.database)
    context = context_of(site, site.database)

    run = replaying.start_run(context, Selection())
    totals = replaying.replay(context, Console(), run, Selection(), Pace(workers=1))
    assert (totals.failed, totals.counts.skipped, totals.counts.rejected) == (0, 5, 0)
    assert fruits(site.database) == live

    create_tables(scratch, {"fruits": Fruit.spec_})
    rebuilt = rebuild(
        context_of(site, scratch), Console(), cut=EVERYTHING, scratch=None, processes=1
    )
    assert rebuilt.skipped == 5
    assert fruits(scratch) == live
    assert ledger(scratch) == [(retired[0], 4, 1, 0, 0, 0, 3), (retired[1], 4, 2, 0, 0, 0, 2)]

    for database in (site.database, scratch):
        result = verify(
            context_of(site, database), Console(), cut=EVERYTHING, limit=9, scratch=None
        )
        assert result.findings.named == []
        assert (result.agrees, result.skipped) == (True, 5)


def test_the_plan_of_a_replay_counts_them(site: Site, retired: list[str]) -> None:
    assert len(retired) == 2
    plan = make_plan(context_of(site, site.database), Console(), Selection())
    facts = plan.facts(workers=1, rate_per_second=None)

    assert facts["of_retired_resources"] == 5
    assert facts["schema_versions_without_upcaster"] == {}


def test_retired_resources_stay_retired_in_a_package() -> None:
    copied = pickle.loads(pickle.dumps(AFTER))  # noqa: S301 - made a moment ago
    assert copied.retired == {"samples"}
