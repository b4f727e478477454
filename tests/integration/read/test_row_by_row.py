"""Pages read row by row equal the pages that Postgres writes as a whole, byte by byte."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from pydantic import Field

from forebay.db.session import Session
from forebay.http import Response
from forebay.problem import ProblemError
from forebay.query.ast import ListQuery, Operand, Selected
from forebay.query.parse import parse_list
from forebay.query.representation import Count, Media
from forebay.query.select import list_casts
from forebay.resource import Key, Kind, References, Resource, ResourceSpec
from forebay.resource.relations import find_relations
from forebay.routes import RequestView
from lambdas.read.database import ReadDatabase
from lambdas.read.links import build_links
from lambdas.read.pages import Page, PagePlan, plan_page, read_page
from lambdas.read.sql.bounds import rows_bound
from lambdas.read.sql.members import csv_line, json_pieces, json_text
from lambdas.read.sql.page import PAGE_MAX_BYTES, page_query, rows_query
from lambdas.read.sql.statement import Scope, Values, table
from local.postgres.config import OWNER
from tests.fixtures.commands import city, command_id
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, linked_query, reader_of
from tests.fixtures.tables import Database, create_tables, open_connection


class Shelf(Resource, path="shelves"):
    """The resource that extremes refer to."""

    code: Annotated[str, Field(max_length=4), Key()]
    label: Annotated[str | None, Field(max_length=3)] = None


class Extreme(Resource, path="extremes"):
    """A field of each kind, each of them bounded except `things`."""

    number: Annotated[int, Key()]
    short: Annotated[str, Field(max_length=20)]
    note: Annotated[str | None, Field(max_length=5)] = None
    word: Literal["a", "\n\n"] = "a"
    small: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    double: float | None = None
    money: Annotated[Decimal | None, Field(max_digits=9, decimal_places=4)] = None
    fraction: Annotated[Decimal | None, Field(max_digits=30, decimal_places=30)] = None
    flag: bool | None = None
    day: dt.date | None = None
    moment: dt.datetime | None = None
    link: uuid.UUID | None = None
    things: Annotated[dict[str, Any] | None, Field()] = None
    shelf: Annotated[str | None, Field(max_length=4), References("shelves", name="place")] = None


SPECS: dict[str, ResourceSpec] = {"shelves": Shelf.spec_, "extremes": Extreme.spec_}
RELATIONS = find_relations(SPECS)
SPEC = SPECS["extremes"]
#: For each column, its longest values and its special spellings, as Postgres reads them. Some are
#: outside of the declaration: a table may be older than a declaration.
VALUES: Mapping[str, list[str | None]] = {
    "number": [str(-(2**63)), "0", str(2**63 - 1)],
    "short": [
        "\x01" * 20,
        "\U0010ffff" * 20,
        '"' * 20,
        "\\" * 20,
        "\b\f\n\r\t",
        "\x7f\x85\u2028é ",
        "",
    ],
    "note": [None, "\x1f" * 5, "null", '":,'],
    "word": ["a", "\n\n"],
    "small": [str(-(2**31)), "7"],
    "double": [
        *(None, "-2.2250738585072014e-308", "5e-324", "-1.7976931348623157e308", "NaN"),
        *("-Infinity", "Infinity", "1e15", "1e14", "-0", "0.1", "1e-5", "5"),
    ],
    "money": [None, "-99999.9999", "NaN", "0", "0.0001"],
    "fraction": [None, "-0." + "9" * 30, "0", "NaN"],
    "flag": [None, "true", "false"],
    "day": [None, "5874897-12-31", "4714-11-24 BC", "infinity", "-infinity", "2026-02-28"],
    "moment": [
        *(None, "294276-12-31 23:59:59.999999+00", "4714-11-24 00:00:00.000001+00 BC"),
        *("infinity", "-infinity", "2026-02-28 12:00:00+00"),
    ],
    "link": [None, str(uuid.UUID(int=2**128 - 1))],
    "things": [None, "null", '{"a": [1, "\\u0001\\"", {"b": null}], "c": 1.50}'],
    "shelf": [None, "s\x011", "none"],
}
MEDIA = [Media.JSON, Media.CSV]


def members_of(*names: str) -> tuple[Selected, ...]:
    columns = [column for column in SPEC.columns if column.name in names]
    return tuple(Selected(Operand(column), column.name) for column in columns)


def parsed(query: Mapping[str, str]) -> ListQuery:
    return parse_list(SPEC, RELATIONS["extremes"], query)


@pytest.fixture(scope="module")
def extremes(postgres_cluster: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """The table, with every value of each column in some row."""
    with (
        cloned_database(postgres_cluster) as name,
        open_connection(postgres_cluster.url(OWNER, name)) as connection,
    ):
        create_tables(connection, SPECS)
        add(connection, "shelves", {"code": "s\x011", "label": "\x02\x02\x02"})
        for number in range(max(map(len, VALUES.values()))):
            row = {name: pool[number % len(pool)] for name, pool in VALUES.items()}
            if number >= len(VALUES["number"]):
                row["number"] = str(number)
            add(connection, "extremes", row)
        yield connection


def add(connection: psycopg.Connection[Any], path: str, row: Mapping[str, str | None]) -> None:
    statement = sql.SQL("INSERT INTO {} ({}, _version, _by_create) VALUES ({}, {}, false)").format(
        table(SPECS[path]),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join([sql.SQL("%s")] * len(row)),
        sql.Literal(command_id(1)),
    )
    connection.execute(statement, list(row.values()))


def both_texts(
    connection: psycopg.Connection[Any], query: ListQuery, media: Media
) -> list[tuple[str, str, int]]:
    """For each row, return its text by pieces and by `row_to_json`, and its size in an answer."""
    values = Values()
    scope = Scope("t", values)
    write = csv_line if media is Media.CSV else json_pieces
    whole = csv_line if media is Media.CSV else json_text
    statement = sql.SQL(
        "SELECT pieces, whole, octet_length(to_json(whole)::text) FROM "
        "(SELECT {} AS pieces, {} AS whole FROM {} AS t OFFSET 0) AS u"
    ).format(write(query.select, scope), whole(query.select, scope), table(SPEC))
    rows = connection.execute(statement.as_bytes(), values.bound).fetchall()
    assert rows
    return rows


EVERY_MEMBER = [
    *(column.name for column in SPEC.columns),
    *(
        f"a:{column.name}::{cast}"
        for column in SPEC.columns
        for cast in list_casts(Operand(column))
    ),
    *("things->a", "things->a->>1", "things->>c", "place(label)", "p:place(*)"),
]


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("member", EVERY_MEMBER)
def test_each_member_is_written_to_the_byte_and_within_its_bound(
    extremes: psycopg.Connection[Any], member: str, media: Media
) -> None:
    query = parsed({"select": member, "limit": "1"})
    texts = both_texts(extremes, query, media)
    assert [pieces for pieces, _, _ in texts] == [whole for _, whole, _ in texts]
    bound = rows_bound(query, media)
    assert bound is None or max(size for _, _, size in texts) <= bound


def test_only_values_of_any_size_have_no_bound() -> None:
    unbounded = {
        member
        for member in EVERY_MEMBER
        if rows_bound(parsed({"select": member}), Media.JSON) is None
    }
    assert unbounded == {"things", "a:things::text", "things->a", "things->a->>1", "things->>c"}
    many = parse_list(SPECS["shelves"], RELATIONS["shelves"], {"select": "code,extremes(number)"})
    assert rows_bound(many, Media.JSON) is None
    assert rows_bound(parsed({"select": "number,place(code)"}), Media.CSV) is None
    word = parsed({"select": "word"})
    unlimited = replace(word.select[0].operand.column, choices=())  # type: ignore[union-attr]
    anything = replace(word, select=(Selected(Operand(unlimited), "word"),))
    assert rows_bound(anything, Media.JSON) is None


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    short=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=15),
)
@example(short="\x01" * 20, name="\x01" * 15)
@example(short='"\\"\\"', name='"\\%s%(p0)s')
def test_any_text_under_any_name_is_written_to_the_byte_and_within_its_bound(
    extremes: psycopg.Connection[Any], short: str, name: str
) -> None:
    selected = replace(members_of("short")[0], name=name)
    query = replace(parsed({"limit": "1"}), select=(*members_of("number"), selected))
    with extremes.transaction(force_rollback=True):
        extremes.execute("UPDATE extremes SET short = %s", [short])
        for media in MEDIA:
            for pieces, whole, size in both_texts(extremes, query, media):
                assert pieces == whole
                bound = rows_bound(query, media)
                assert bound is not None
                assert size <= bound


@pytest.mark.parametrize("member", ["short", "double", "fraction", "number", "flag", "link"])
def test_the_bound_is_the_size_of_the_largest_row(
    extremes: psycopg.Connection[Any], member: str
) -> None:
    """A bound far too high would pass the other tests, and every page would be measured."""
    query = parsed({"select": member, "limit": "1"})
    worst = max(size for _, _, size in both_texts(extremes, query, Media.JSON))
    assert rows_bound(query, Media.JSON) == worst


QUERIES: list[dict[str, str]] = [
    {},
    {"limit": "0"},
    {"limit": "1"},
    {"limit": "3", "offset": "2"},
    {"limit": "3", "offset": "12"},
    {"offset": "99"},
    {"flag": "is.true"},
    {"or": "(flag.is.null,double.gt.1)", "limit": "2"},
    {"limit": "2", "select": 'number,"%s":short,place(label)'},
    {"limit": "2", "select": "number,place!inner(code)"},
    {"limit": "1", "select": "number,double::numeric"},  # too large for a double, as text
    *(
        {"limit": "2", "order": f"{column.name}{way}"}
        for column in SPEC.columns
        if column.kind is not Kind.JSON
        for way in ("", ".desc", ".nullsfirst")
    ),
    {"limit": "2", "select": "short:number,number:short", "order": "short,note"},
    {"limit": "2", "select": "number::text,a:note", "order": "note.desc"},
    {"limit": "2", "select": "number::float8,note", "order": "note"},
    {"limit": "2", "select": "number,link,small,note", "order": "note,small,link.desc"},
    {"limit": "2", "order": "things->a.desc,things->>c,flag.desc"},
]
BOUNDED = ",".join(column.name for column in SPEC.columns if column.name != "things")


def reading(connection: psycopg.Connection[Any]) -> ReadDatabase:
    def opened() -> psycopg.Connection[Any]:
        return connection

    return ReadDatabase(replica=Session(opened), primary=Session(opened))


def as_one(plan: PagePlan) -> PagePlan:
    """Return the same page as a statement that Postgres writes as a whole."""
    statement = page_query(plan.spec, plan.query, plan.media, plan.count)
    return replace(plan, statement=statement, is_row_by_row=False)


@pytest.mark.parametrize("media", list(Media))
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_page_both_ways_is_the_one_that_postgres_writes_as_a_whole(
    extremes: psycopg.Connection[Any], query: dict[str, str], media: Media
) -> None:
    """Text, number of rows, first and last place, neighbours: so ETag, Link and Content-Range."""
    database = reading(extremes)
    wanted: dict[str, str] | None = {"select": BOUNDED, **query}
    for relation in ("next", "prev"):
        for _ in range(20):
            if wanted is None:
                break
            plan = plan_page(SPEC, parsed(wanted), media, None)
            if media is Media.CSV and "place" in wanted["select"]:
                plan = plan_page(SPEC, parsed(wanted), Media.JSON, None)
            assert plan.is_row_by_row
            page = read_page(database, plan)
            assert page == read_page(database, as_one(plan))
            last, wanted = wanted, linked(plan, page, wanted, relation)
        wanted = last


def linked(
    plan: PagePlan, page: Page, wanted: Mapping[str, str], relation: str
) -> dict[str, str] | None:
    """Return the query of the next or previous page; None if no cursor leads there.

    A cursor can't continue from a value that filters refuse, such as an infinite date.
    """
    view = RequestView(path={}, query=wanted, headers={})
    header = build_links(plan.spec, view, plan.query, page, states_limit=False)
    link = linked_query(Response(200, headers={"Link": header}), relation)
    try:
        if link is not None:
            parsed(link)
    except ProblemError as exc:
        if exc.problem.code != "bad_cursor":
            raise
        return None
    return link


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"select": "number,things"}, None),
        ({"select": "number,short", "limit": "10000"}, None),
        ({"select": BOUNDED}, "exact"),
        ({"select": BOUNDED}, "estimated"),
    ],
)
def test_unbounded_or_counted_pages_are_written_by_postgres_as_a_whole(
    query: dict[str, str], count: Count | None
) -> None:
    plan = plan_page(SPEC, parsed(query), Media.JSON, count)
    # Ten thousand rows of twenty characters fit, at 200 bytes each.
    assert plan.is_row_by_row is (query.get("limit") == "10000")


def test_a_page_is_row_by_row_up_to_the_budget_and_no_further() -> None:
    query = parsed({"select": "short", "limit": "1"})
    row = rows_bound(query, Media.JSON)
    assert row is not None
    most = PAGE_MAX_BYTES // row
    for limit, is_row_by_row in ((most, True), (most + 1, False)):
        statement = rows_query(SPEC, replace(query, limit=limit), Media.JSON)
        assert (statement is not None) is is_row_by_row


@pytest.fixture
def recorded(database: Database) -> Iterator[tuple[Reader, list[str]]]:
    statements: list[str] = []
    new_reader = reader_of(database.url, database.url, statements)
    yield new_reader, statements
    close(new_reader)


def test_rows_larger_than_declared_end_the_page_in_time(
    database: Database, recorded: tuple[Reader, list[str]]
) -> None:
    """Such rows exist while a deployment reduces a `max_length`, or after a change by hand."""
    reader, statements = recorded
    database.apply([city(number, key=number) for number in range(1, 101)])
    assert len(json.loads(reader.get("cities").body)) == 100
    assert len(statements) == 1
    database.connection.execute("ALTER TABLE cities ALTER name TYPE text")
    # 4 MB as text, 8 MB in an answer.
    database.connection.execute("""UPDATE cities SET name = repeat('"', 40000)""")
    first = reader.get("cities")
    assert 3_000_000 < len(json.dumps(first.to_proxy(), ensure_ascii=False).encode()) < 6_000_000
    assert len(statements) == 3
    assert sum(len(page) for page in reader.pages("cities", {})) == 100


def test_a_null_that_the_declaration_does_not_know_is_null(
    database: Database, recorded: tuple[Reader, list[str]]
) -> None:
    """A column that a release adds is null in old rows until they are filled."""
    reader, statements = recorded
    database.apply([city(1, key=1), city(2, key=2)])
    database.connection.execute("ALTER TABLE cities ALTER name DROP NOT NULL")
    database.connection.execute("UPDATE cities SET name = NULL WHERE geonameid = 2")
    names = [row["name"] for row in json.loads(reader.get("cities").body)]
    assert (names, len(statements)) == (["version 1", None], 2)
