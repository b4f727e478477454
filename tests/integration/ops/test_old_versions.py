"""Archives of three versions of a resource make the same current table, live and in replay.

The files in `tests/fixtures/parcels` were written by the releases of those versions and are never
regenerated: every later release must read the archives of every earlier one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import sqlalchemy as sa
from pydantic import Field

from forebay.apply import Source, apply
from forebay.archive.lines import read_chunks
from forebay.aws.events import build_event
from forebay.db.schema import metadata
from forebay.db.session import Session
from forebay.ids import IdSource
from forebay.log import Log
from forebay.replay.selection import Selection
from forebay.resource import Key, Resource
from forebay.resource.spec import ResourceSpec
from lambdas.consumer.app import Consumer
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, Context
from ops.history import find_commands, find_state, read_statuses
from ops.rejections import store
from ops.rejections.planning import Planner
from ops.rejections.rules import Rule
from ops.replay import replay as replaying
from ops.replay.replay import Pace
from tests.fixtures.site import Site
from tests.fixtures.tables import Database, followed_log, open_connection

FOLDER = Path(__file__).parents[2] / "fixtures" / "parcels"
FROZEN = {
    "version-1.ndjson.gz": "9470a830167f1dc8e285100b7cb3c6c79a9965ed73337ced07f8e3e04069ddf5",
    "version-2.ndjson.gz": "4b3ecc3bb3d78ce4659003ade5eace3facd51ae3b05752e04799eae4006fb7f9",
    "version-3.ndjson.gz": "bd41877e3b3e755bf97ba281275a8b2d8d8bd3525b348d1b3365944d19854167",
}


def second(body: dict[str, Any]) -> dict[str, Any]:
    """Upcast from version 1, which had the size as text and the owner as `holder`."""
    size = float(body["size"].removesuffix(" m2").replace(",", ""))
    return {"owner": body["holder"], "area_m2": size, "sold": body["sold"] == "yes"}


def third(body: dict[str, Any]) -> dict[str, Any]:
    """Upcast from version 2, which had the area as a double and a flag for sold parcels."""
    return {
        "owner": body["owner"],
        "area_m2": f"{body['area_m2']:.2f}",
        "status": "sold" if body["sold"] else "free",
    }


class Parcel(Resource, path="parcels", schema_version=3, upcasters={1: second, 2: third}):
    """A piece of land."""

    number: Annotated[str, Field(max_length=16), Key()]
    owner: Annotated[str, Field(max_length=100)]
    area_m2: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    status: Literal["free", "reserved", "sold"]
    tags: list[str] = []  # noqa: RUF012 - pydantic copies it


SPECS: Mapping[str, ResourceSpec] = {"parcels": Parcel.spec_}
FIRST = "0190f0c2-0000-7000-8000-0000000000{:02x}"
#: Law 2, applied to the commands of all three versions.
EXPECTED = [
    ("P-1", "A. Miller", Decimal("1200.00"), "sold", [], FIRST.format(3), True),
    ("P-2", "B. Baker", Decimal("81.50"), "sold", [], FIRST.format(22), False),
    ("P-3", "C. Cook", Decimal("33.00"), "free", [], FIRST.format(28), False),
    ("P-4", "D. Diaz", Decimal("12.50"), "sold", ["corner"], FIRST.format(42), False),
    ("P-6", "F. Fox", Decimal("7.00"), "free", [], FIRST.format(12), False),
    ("P-8", "H. Hill", Decimal("8.25"), "free", [], FIRST.format(48), False),
]
UNFIT = FIRST.format(6)  # its size is "unknown", which no upcaster can convert to a number


@pytest.fixture
def parcels(database: Database) -> Database:
    """A database with the table of version 3."""
    engine = sa.create_engine(
        database.url.replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"options": "-c search_path=public"},
    )
    metadata(SPECS).tables["parcels"].create(engine)
    engine.dispose()
    return database


def contents(database: Database) -> tuple[list[Any], dict[str, str], dict[Any, str]]:
    columns = "number, owner, area_m2, status, tags, _version::text, _by_create"
    rows = database.rows(f"SELECT {columns} FROM parcels ORDER BY number")
    return rows, database.rejections(), database.tombstones()


def put(site: Site, name: str) -> str:
    return site.put(name=name, raw=(FOLDER / name).read_bytes())


@pytest.mark.parametrize("name", FROZEN)
def test_commands_archived_by_old_releases_are_never_changed(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == FROZEN[name]


@pytest.mark.parametrize("order", list(itertools.permutations(FROZEN)), ids=str)
def test_the_consumer_brings_every_version_into_the_current_table(
    parcels: Database, site: Site, order: Sequence[str]
) -> None:
    consumer = Consumer(
        resources=SPECS,
        archive=site.archive,
        session=Session(lambda: open_connection(parcels.url)),
        log=Log("test"),
    )
    messages = [
        {"messageId": name, "body": build_event(site.bucket, put(site, name))} for name in order
    ]
    assert consumer.handle({"Records": messages}) == {"batchItemFailures": []}
    consumer._session.close()
    rows, rejections, tombstones = contents(parcels)
    assert rows == EXPECTED
    # If a newer command of its key was applied before, it has lost, and its body is not validated.
    came_late = order.index("version-1.ndjson.gz") > order.index("version-2.ndjson.gz")
    assert rejections == ({} if came_late else {UNFIT: "upcast_failed"})
    assert set(tombstones) == {("parcels", "P-5"), ("parcels", "P-7")}


class WithParcels(Context):
    """An environment with a release that declares parcels."""

    @cached_property
    def resources(self) -> Mapping[str, ResourceSpec]:
        return SPECS


def replay(parcels: Database, site: Site) -> replaying.Totals:
    options = {DATABASE: parcels.url, ARCHIVE: f"s3://{site.bucket}"}
    context = WithParcels(options, environment={})
    context.__dict__["s3"] = site.s3  # the emulator's client instead of the region's
    run = replaying.start_run(context, Selection())
    return replaying.replay(context, Console(), run, Selection(), Pace(workers=2))


def test_a_replay_makes_the_same_table(parcels: Database, site: Site) -> None:
    for name in FROZEN:
        put(site, name)
    totals = replay(parcels, site)
    rows, rejections, _ = contents(parcels)
    assert (totals.objects, totals.failed, totals.lines) == (3, 0, 15)
    assert rows == EXPECTED
    assert rejections == {}, "it has lost by the end, and a replay decides last"
    before = contents(parcels)
    replay(parcels, site)
    assert contents(parcels) == before


def test_the_history_shows_old_bodies_as_they_were_and_rows_as_they_are_now(
    parcels: Database, site: Site
) -> None:
    for name in FROZEN:
        put(site, name)
    replay(parcels, site)
    occurrences = find_commands(site.store, site.store.list("commands/"), "parcels", "P-2")
    entries, _ = read_statuses(parcels.connection, Parcel.spec_, "P-2", occurrences)
    assert [entry.command.schema for entry in entries] == [1, 2]
    assert (entries[0].command.body or {})["size"] == "80 m2"
    row = find_state(entries[:1], Parcel.spec_, entries[0].accepted_at).row
    assert row == {
        "number": "P-2", "owner": "B. Baker", "area_m2": "80.00", "status": "free", "tags": [],
    }  # fmt: skip


def test_a_retry_brings_an_old_body_up_to_date_after_it_was_mended(
    parcels: Database, site: Site
) -> None:
    key = put(site, "version-1.ndjson.gz")
    apply(
        parcels.connection,
        read_chunks(site.archive.read(key)),
        Source(key),
        resources=SPECS,
        decision_log=followed_log(parcels.connection, site.archive, SPECS),
    )
    rule = Rule.model_validate(
        {
            "name": "sizes that nobody knew",
            "match": {"resource": "parcels", "code": "upcast_failed"},
            "patch": [{"op": "set", "path": "/body/size", "value": "0 m2"}],
        }
    )
    planner = Planner(SPECS, by="operator:anna", ids=IdSource(), rules=[rule])
    (page,) = store.read_pages(parcels.connection, store.Selection())
    (attempt,) = planner.plan(parcels.connection, page)
    assert attempt.verdict == "ready", attempt.reason
    assert attempt.command is not None
    assert (attempt.command.schema, attempt.command.amends) == (3, UNFIT)
    assert attempt.command.body == {
        "owner": "C. Cook", "area_m2": "0", "status": "free", "tags": [],
    }  # fmt: skip
