"""Files as psql, pandas and spreadsheets write them, and the messages for refused files."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.aws.archive import Archive
from forebay.log import Log
from forebay.resource import Key, Resource
from lambdas.imports.app import Importer
from lambdas.imports.formats import open_source
from tests.fixtures.emulator import Emulator
from tests.fixtures.memory_s3 import MemoryS3
from tests.integration.imports.test_imports import Bench


class Note(Resource, path="notes"):
    """A resource with a natural key, and with nullable fields and defaults."""

    number: Annotated[int, Field(ge=0), Key()]
    text: str | None = None
    weight: int = 7
    share: float | None = None
    price: Annotated[Decimal | None, Field(max_digits=10, decimal_places=2)] = None
    done: bool | None = None
    moment: dt.datetime | None = None
    tags: list[str] = Field(default=[])


class Memo(Resource, path="memos"):
    """A resource with a key that the server makes."""

    text: str


RESOURCES = {"notes": Note.spec_, "memos": Memo.spec_}


@pytest.fixture
def bench(emulator: Emulator) -> Bench:
    bucket = f"imports-{uuid.uuid4().hex}"
    emulator.s3.create_bucket(Bucket=bucket)
    archive = Archive(emulator.s3, bucket)
    importer = Importer(resources=RESOURCES, archive=archive, log=Log("imports"))
    return Bench(emulator.s3, bucket, importer)


def put(bench: Bench, name: str, content: bytes | str, **stored: Any) -> str:
    """Store a file with metadata or headers, import it, and return its key."""
    data = content.encode() if isinstance(content, str) else content
    key = f"imports/{name}"
    bench.s3.put_object(Bucket=bench.bucket, Key=key, Body=data, **stored)
    assert bench.tell(key) == {"batchItemFailures": []}
    return key


def bodies(bench: Bench) -> list[dict[str, Any]]:
    """Return the accepted items, with the fields that the files below have."""
    return [{"number": command.key, **(command.body or {})} for command in bench.commands()]


def values(bench: Bench, *names: str) -> list[tuple[Any, ...]]:
    """Return some fields of each accepted item."""
    return [tuple(body[name] for name in names) for body in bodies(bench)]


def reports(bench: Bench) -> set[str]:
    """Return the keys of all reports."""
    listed = bench.s3.list_objects_v2(Bucket=bench.bucket, Prefix="imports/")
    keys = {entry["Key"] for entry in listed.get("Contents", [])}
    return {key for key in keys if key.endswith(".report.json")}


TABLES = {
    # \copy … csv header
    "psql": (
        "number,text,done,moment,price\n1,,t,2026-02-28 10:00:00+00,1.50\n"
        '2,"",f,2026-02-28 10:00:00.5+05:30,\n'
    ),
    # DataFrame.to_csv(): with the index, integers as floats, NaN as empty cells
    "pandas": (
        ",number,text,done,moment,price\n0,1,,True,2026-02-28 10:00:00+00:00,1.50\n"
        '1,2.0,"",False,2026-02-28 04:30:00.500000+00:00,\n'
    ),
    # "CSV UTF-8" of a spreadsheet
    "spreadsheet": (
        "\ufeffnumber,text,done,moment,price\r\n1,,TRUE,2026-02-28T10:00:00Z,1.5\r\n"
        '2,"",FALSE,2026-02-28T04:30:00.5Z,\r\n'
    ),
}


@pytest.mark.parametrize("program", TABLES)
def test_files_of_common_programs_are_read_without_options(bench: Bench, program: str) -> None:
    put(bench, "notes/put/a.csv", TABLES[program])
    rows = values(bench, "number", "text", "done", "moment", "price")
    assert rows[0][:4] == (1, None, True, "2026-02-28T10:00:00Z")
    assert rows[1] == (2, "", False, "2026-02-28T04:30:00.500000Z", None)
    assert Decimal(rows[0][4]) == Decimal("1.5")


@pytest.mark.parametrize(
    ("name", "delimiter", "metadata"),
    [
        ("a.csv", ";", {"delimiter": ";"}),
        ("a.csv", ";", {"delimiter": "semicolon"}),
        ("a.csv", "|", {"delimiter": "pipe"}),
        ("a.csv", "\t", {"delimiter": "tab"}),
        ("a.tsv", "\t", {}),
        ("a.TSV", "\t", {}),
        ("a.tsv", ",", {"delimiter": "comma"}),
        ("a.csv", "\u00a7", {"delimiter": "%C2%A7"}),
    ],
)
def test_a_delimiter_can_be_chosen(
    bench: Bench, name: str, delimiter: str, metadata: dict[str, str]
) -> None:
    content = f'number{delimiter}text\n1{delimiter}"a{delimiter}b"\n2{delimiter}c,d\n'
    put(bench, f"notes/put/{name}", content.replace("c,d", "c-d"), Metadata=metadata)
    assert values(bench, "number", "text") == [(1, f"a{delimiter}b"), (2, "c-d")]


def test_the_spelling_of_null_can_be_chosen(bench: Bench) -> None:
    content = 'number,text,done,weight\n1,NULL,NULL,NULL\n2,"NULL",,\n3,,,3\n'
    put(bench, "notes/put/a.csv", content, Metadata={"null": "NULL"})
    assert values(bench, "number", "text", "done", "weight") == [
        (1, None, None, 7),
        (2, "NULL", None, 7),
        (3, "", None, 3),
    ]


def test_spellings_of_booleans_can_be_chosen(bench: Bench) -> None:
    content = "number,done\n1,ja\n2,nein\n3,true\n4,oui\n"
    key = put(bench, "notes/put/a.csv", content, Metadata={"true": "ja", "false": "nein"})
    assert values(bench, "number", "done") == [(1, True), (2, False), (3, True)]
    assert bench.report(key)["problems"][0]["errors"][0]["pointer"] == "#/done"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"delimiter": "::"}, "it must be one character"),
        ({"delimiter": "%22"}, "it must be one character"),
        ({"null": 'a"b'}, "no cell without quotes"),
        ({"null": "a,b"}, "no cell without quotes"),
    ],
)
def test_an_impossible_delimiter_or_spelling_is_refused(
    bench: Bench, metadata: dict[str, str], reason: str
) -> None:
    key = put(bench, "notes/put/a.csv", "number,text\n1,a\n", Metadata=metadata)
    assert reason in bench.report(key)["error"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("number;text", "Is the delimiter ';'? Then store the file with the metadata delimiter=s"),
        ("number|text", "Is the delimiter '|'?"),
        ("number\ttext", "metadata delimiter=tab"),
        ("number,colour", "it has 'colour', and ',' is the delimiter"),
        ("number,text,number", "it names number twice"),
    ],
)
def test_the_message_about_a_wrong_header_quotes_it(bench: Bench, header: str, reason: str) -> None:
    key = put(bench, "notes/put/a.csv", f"{header}\n1;a\n")
    assert "the header must name fields of notes" in bench.report(key)["error"]
    assert reason in bench.report(key)["error"]


def test_the_message_about_a_quoted_header_names_its_delimiter_too(bench: Bench) -> None:
    key = put(bench, "notes/put/a.csv", '"number";"text"\n1;a\n')
    assert "line 1: ';' follows the quote that ends a cell" in bench.report(key)["error"]
    assert "is that the delimiter? Then store the file with the m" in bench.report(key)["error"]


def test_a_file_without_a_header_is_reported(bench: Bench) -> None:
    assert "there is none" in bench.report(put(bench, "notes/put/a.csv", ""))["error"]


@pytest.mark.parametrize(
    ("cell", "is_read"),
    [("5", True), ("5.0", True), ("1.23457E+11", False), ("1e3", False), ("1_000", False),
     (" 5", False), ("+5", False), ("0x5", False), ("5.5", False), ("\u0665", False)],
)  # fmt: skip
@pytest.mark.parametrize("column", ["number", "weight"])
def test_an_integer_has_digits_only(bench: Bench, column: str, cell: str, is_read: bool) -> None:  # noqa: FBT001
    other = "weight" if column == "number" else "number"
    key = put(bench, "notes/put/a.csv", f"{column},{other}\n{cell},1\n")
    assert values(bench, column) == ([(5,)] if is_read else [])
    problems = bench.report(key)["problems"]
    assert [problem["errors"][0]["pointer"] for problem in problems] == (
        [] if is_read else [f"#/{column}"]
    )


def test_an_empty_cell_is_null_where_that_is_a_value_and_else_no_member(bench: Bench) -> None:
    put(bench, "notes/put/a.csv", 'number,text,weight,share\n1,,,\n2,"","",""\n')
    assert values(bench, "number", "text", "weight", "share") == [
        (1, None, 7, None),
        (2, "", 7, None),
    ]


def test_a_byte_order_mark_is_not_part_of_the_first_line(bench: Bench) -> None:
    put(bench, "notes/put/a.ndjson", b'\xef\xbb\xbf{"number":1}\n{"number":2}\n')
    put(bench, "notes/put/b.csv", b'\xef\xbb\xbf"number"\n3\n')
    assert sorted(values(bench, "number")) == [(1,), (2,), (3,)]


def test_a_compressed_file_is_recognised_by_its_first_bytes(bench: Bench) -> None:
    packed = gzip.compress(b'{"number":1}\n')
    put(bench, "notes/put/a.ndjson", packed, ContentEncoding="gzip")
    put(bench, "notes/put/b.ndjson", packed)
    put(bench, "notes/put/c.ndjson.gz", packed, ContentEncoding="gzip")
    put(bench, "notes/put/d.JSONL.GZ", packed)
    put(bench, "notes/put/e.csv", gzip.compress(b"number\n1\n"), ContentEncoding="x-gzip")
    assert values(bench, "number") == [(1,)] * 5


def test_the_encoding_of_the_upload_is_none_of_the_file() -> None:
    """The SDKs' `aws-chunked` can remain in the object's `Content-Encoding`."""
    s3 = MemoryS3()
    s3.put_object(Key="a.csv", Body=b"number\n1\n", ContentEncoding="aws-chunked")
    opened = Archive(s3.client, "archive").open("a.csv")
    assert open_source("a.csv", opened).source.read() == b"number\n1\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"number,text\n1,a\n2,\xe4\n", "line 3: its byte 3, 0xe4, is no UTF-8"),
        (b'number,text\n1,"a\nb\xff"\n', "line 3: its byte 2, 0xff"),
        ("number,text\n1,a\n".encode("utf-16"), "line 1: the file is in UTF-16"),
        (b'number,text\n1,"a\n', "line 2: a quote that line 2 opens is never closed"),
        (b'number,text\n1,"a"b\n', "line 2: 'b' follows the quote that ends a cell"),
        (b"number,text\r1,a\r", "line 1: a carriage return outside quotes"),
    ],
)
def test_a_line_that_can_not_be_decoded_is_named(bench: Bench, content: bytes, reason: str) -> None:
    key = put(bench, "notes/put/a.csv", content)
    assert reason in bench.report(key)["error"]


@pytest.mark.parametrize(
    "name", ["a.CSV", "a.jsonl", "a.JSONL.gz", "a.tsv", "a.b.Csv.GZ", ".a.csv"]
)
def test_endings_are_known_in_any_case(bench: Bench, name: str) -> None:
    text = '{"number":1}\n' if "json" in name.lower() else "number\n1\n"
    packed = gzip.compress(text.encode()) if name.lower().endswith("gz") else text.encode()
    put(bench, f"notes/put/{name}", packed)
    assert values(bench, "number") == [(1,)]


REFUSED = {
    "notes/put/a.zip": "files with '.zip' are not read",
    "notes/put/a.xlsx": "files with '.xlsx' are not read",
    "notes/put/a.csv.bz2": "files with '.csv.bz2' are not read",
    "notes/put/a": "files with no ending are not read",
    "notes/put/.csv": "are not read",
    "notes/merge/a.csv": "'merge' is no operation",
    "note/put/a.csv": "there is no resource 'note', only memos, notes",
    "a.csv": "it lacks a part",
    "notes/a.csv": "it lacks a part",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_object_that_is_not_imported_gets_a_report_with_the_reason(
    bench: Bench, name: str
) -> None:
    key = put(bench, name, "number\n1\n")
    assert bench.report(key)["error"].startswith("the name must be imports/<resource>/<create, ")
    assert REFUSED[name] in bench.report(key)["error"]
    assert bench.commands() == []


@pytest.mark.parametrize(
    ("stored", "content", "reason"),
    [
        ({"ContentEncoding": "br"}, b"x", "Content-Encoding 'br' is not read"),
        ({"ContentEncoding": "gzip"}, b"number\n1\n", "it can't be inflated: Not a gzipped file"),
        ({}, b"PK\x03\x04rest", "it is a ZIP archive"),
    ],
)
def test_unread_content_gets_a_report_with_the_reason(
    bench: Bench, stored: dict[str, str], content: bytes, reason: str
) -> None:
    key = put(bench, "notes/put/a.csv", content, **stored)
    assert reason in bench.report(key)["error"]


def test_a_report_gets_no_report_and_a_folder_neither(bench: Bench) -> None:
    key = put(bench, "notes/put/a.csv", "number\n1\n")
    put(bench, "notes/put/", b"")
    before = reports(bench)
    assert bench.tell(f"{key}.report.json") == {"batchItemFailures": []}
    assert reports(bench) == before == {f"{key}.report.json"}


def test_a_file_that_is_only_named_like_a_report_gets_one(bench: Bench) -> None:
    key = put(bench, "notes/put/mine.report.json", b"[]")
    assert "files with '.report.json' are not read" in bench.report(key)["error"]


def test_a_file_of_keys_deletes(bench: Bench) -> None:
    put(bench, "notes/delete/a.csv", "number\n1\n2.0\n")
    put(bench, "notes/delete/b.ndjson", '{"number":3}\n{"number":4,"text":5}\n')
    rows = [(command.op, command.key, command.body) for command in bench.commands()]
    assert sorted(rows) == [("delete", key, None) for key in (1, 2, 3, 4)]


def test_a_made_key_is_deleted_in_its_one_spelling(bench: Bench) -> None:
    key = str(uuid.uuid4())
    put(bench, "memos/delete/a.csv", f"id,text\n{key.upper()},x\n")
    assert [command.key for command in bench.commands()] == [key]


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        ({"text": "a"}, "#/number"),
        ({"number": "1"}, "#/number"),
        ({"number": -1}, "#/number"),
        ({"number": None}, "#/number"),
        ({"number": 1, "colour": "red"}, "#/colour"),
        ([1], "#"),
    ],
)
def test_a_line_without_a_key_deletes_no_item(bench: Bench, item: object, pointer: str) -> None:
    key = put(bench, "notes/delete/a.ndjson", json.dumps(item))
    (problem,) = bench.report(key)["problems"]
    assert problem["errors"][0]["pointer"] == pointer
    assert bench.commands() == []
