"""A list exported as CSV and imported again gives the same rows."""

from __future__ import annotations

import datetime as dt
import enum
import gzip
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Annotated, Any, Literal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.command import Command
from forebay.db.schema import metadata
from forebay.ids import IdSource
from forebay.intake.commands import CommandMaker, Origin
from forebay.intake.json_text import parse_text
from forebay.log import Log
from forebay.resource import Key, Resource
from lambdas.imports.app import Importer
from tests.fixtures.memory_s3 import MemoryS3
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import Database
from tests.integration.apply.test_round_trip import FLOATS, INTEGERS, JSON, MOMENTS

EXAMPLES = 200
PSQL_EXAMPLES = 50


class Size(enum.Enum):
    """An enumeration with values that differ from its names; the values are stored."""

    SMALL = "small"
    NONE = ""


class Sheet(Resource, path="sheets"):
    """A resource with each type, once required and once nullable with a default other than null."""

    number: Annotated[int, Field(ge=0), Key()]
    text: str
    whole: int
    double: float
    money: Annotated[Decimal, Field(max_digits=30, decimal_places=6)]
    flag: bool
    day: dt.date
    moment: dt.datetime
    link: uuid.UUID
    size: Size
    word: Literal["a", "null", "=1+1"]
    things: list[Any]
    names: dict[str, Any]
    perhaps_text: str | None = "x"
    perhaps_whole: int | None = 7
    perhaps_double: float | None = 7.5
    perhaps_money: Annotated[Decimal | None, Field(max_digits=30, decimal_places=6)] = Decimal(7)
    perhaps_flag: bool | None = True
    perhaps_day: dt.date | None = dt.date(2026, 2, 28)
    perhaps_moment: dt.datetime | None = dt.datetime(2026, 2, 28, tzinfo=dt.UTC)
    perhaps_link: uuid.UUID | None = uuid.UUID(int=7)
    perhaps_size: Size | None = Size.SMALL
    perhaps_things: list[Any] | None = Field(default=[])
    perhaps_names: dict[str, Any] | None = Field(default={})


RESOURCES = {"sheets": Sheet.spec_}
ODD_TEXTS = [
    *("", " ", "null", "NULL", "\\N", "NaN", "None", "N/A", "-", '""', '"', "''", ",", ";", "\t"),
    *("\n", "\r", "\r\n", "a\rb", 'a"b', '"a"', "=1+1", "+1", "-1", "@x", "\ufeff", "\ufeffa"),
    *("true", "5", "1e3", "2026-02-28", "[]", "{}", "\\.", "\u2028", "\x85", 'a,b\n"c"', "'=1"),
]
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
)
DECIMALS = st.decimals(-(10**15), 10**15, places=6).map(str)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "whole": INTEGERS,
    "double": FLOATS,
    "money": DECIMALS,
    "flag": st.booleans(),
    "day": st.dates().map(dt.date.isoformat),
    "moment": MOMENTS,
    "link": st.uuids().map(str),
    "size": st.sampled_from([size.value for size in Size]),
    "things": st.lists(JSON | TEXTS, max_size=3),
    "names": st.dictionaries(TEXTS, JSON, max_size=3),
}
ROWS = st.fixed_dictionaries(
    {
        **VALUES,
        "word": st.sampled_from(["a", "null", "=1+1"]),
        **{f"perhaps_{name}": st.none() | values for name, values in VALUES.items()},
    }
)
SHEETS = st.lists(ROWS, min_size=1, max_size=4).map(
    lambda rows: [{"number": number, **row} for number, row in enumerate(rows, start=1)]
)


@dataclass
class Site:
    """A table with the lists of its API, and the import of its files."""

    database: Database
    reader: Reader
    s3: MemoryS3
    importer: Importer
    numbers: Iterator[int]

    def fill(self, commands: list[Command]) -> None:
        """Empty the table and apply the commands."""
        self.database.connection.execute("TRUNCATE sheets, forebay.tombstones")
        outcome = self.database.apply(
            commands, source=f"commands/{next(self.numbers)}.gz", resources=RESOURCES
        )
        assert outcome.counts.applied == len(commands), self.database.archived

    def export(self, **query: str) -> str:
        """Return the list as CSV."""
        answer = self.reader.get("sheets", query=query, Accept="text/csv")
        assert answer.status == 200
        return answer.body

    def rows(self) -> Any:
        """Return the list as JSON."""
        return json.loads(self.reader.get("sheets").body)

    def imported(self, content: str | bytes, op: str = "put") -> list[Command]:
        """Import a file of which every row is accepted; return its commands."""
        self.s3.objects.clear()
        key = f"imports/sheets/{op}/a.csv"
        data = content if isinstance(content, bytes) else content.encode()
        self.s3.put_object(Key=key, Body=data)
        self.importer.import_object(key)
        objects = self.s3.objects
        report = json.loads(objects.pop(f"{key}.report.json")["content"])
        assert (report["error"], report["problems"]) == (None, [])
        stored = [gzip.decompress(objects[name]["content"]) for name in objects if name != key]
        return [decode(line) for content in stored for line in content.splitlines(keepends=True)]


@pytest.fixture
def site(database: Database) -> Iterator[Site]:
    engine = sa.create_engine(
        sa.make_url(database.url).set(drivername="postgresql+psycopg"),
        poolclass=sa.NullPool,
        connect_args={"options": "-c search_path=public"},
    )
    with engine.begin() as connection:
        metadata(RESOURCES).tables["sheets"].create(connection)
    s3 = MemoryS3()
    importer = Importer(
        resources=RESOURCES, archive=Archive(s3.client, "archive"), log=Log("imports")
    )
    reader = reader_for(database.url, RESOURCES)
    yield Site(database, reader, s3, importer, count())
    close(reader)


def commands_of(rows: list[dict[str, Any]]) -> list[Command]:
    """Return the commands of PUTs of the rows."""
    maker = CommandMaker(IdSource())
    return [
        maker.put_item(Sheet.spec_, parse_text(json.dumps(row).encode()), Origin("test")).command
        for row in rows
    ]


def row(number: int, text: str | None, things: object = None) -> dict[str, Any]:
    """Build a row with this text in every text field, or null in the nullable fields."""
    values: dict[str, Any] = {
        "whole": 0, "double": 0.0, "money": "0.000000", "flag": False, "day": "0001-01-01",
        "moment": "0001-01-01T00:00:00Z", "link": str(uuid.UUID(int=0)), "size": "",
        "things": [text], "names": {text or "": things},
    }  # fmt: skip
    nulls = {f"perhaps_{name}": None for name in values}
    return {
        "number": number, "text": text or "", "word": "null", **values, **nulls,
        "perhaps_text": text,
    }  # fmt: skip


def test_a_list_as_csv_is_imported_as_the_same_rows(site: Site) -> None:
    @given(SHEETS)
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @example([row(number, text) for number, text in enumerate([*ODD_TEXTS, None])])
    def comes_back(rows: list[dict[str, Any]]) -> None:
        site.fill(commands_of(rows))
        before = site.rows()
        assert len(before) == len(rows)
        site.fill(site.imported(site.export()))
        assert site.rows() == before

    comes_back()


def test_a_copy_of_psql_is_imported_as_the_same_rows(site: Site) -> None:
    """`\\copy (SELECT …) TO … WITH (FORMAT csv, HEADER)`, of which the server formats the text."""
    names = ", ".join(column.name for column in Sheet.spec_.columns)
    copy = f"COPY (SELECT {names} FROM sheets ORDER BY number) TO STDOUT WITH (FORMAT csv, HEADER)"

    def copied() -> bytes:
        with site.database.connection.cursor().copy(copy) as out:
            return b"".join(bytes(block) for block in out)

    @given(SHEETS)
    @settings(
        max_examples=PSQL_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @example([row(number, text) for number, text in enumerate([*ODD_TEXTS, None])])
    def comes_back(rows: list[dict[str, Any]]) -> None:
        site.fill(commands_of(rows))
        before = site.rows()
        site.fill(site.imported(copied()))
        assert site.rows() == before

    comes_back()


def test_an_exported_list_can_be_deleted(site: Site) -> None:
    site.fill(commands_of([row(1, "a"), row(2, None), row(3, "")]))
    gone = site.imported(site.export(number="gte.2"), "delete")
    assert [(command.op, command.key, command.body) for command in gone] == [
        ("delete", 2, None),
        ("delete", 3, None),
    ]
