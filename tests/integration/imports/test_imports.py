"""Bulk import on a real S3 API and a real Postgres."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID, uuid4, uuid5

import pytest
from mypy_boto3_s3 import S3Client

import resources
from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.command import Command
from forebay.ids import is_command_id, is_create_id
from forebay.log import Log
from lambdas.imports import lines
from lambdas.imports.app import Importer
from tests.fixtures.emulator import Emulator
from tests.fixtures.tables import Database

CITY = {
    "geonameid": 1,
    "name": "Ny",
    "country_code": "DK",
    "population": 7,
    "latitude": 1.5,
    "longitude": 2.5,
    "timezone": "Europe/Copenhagen",
}
#: A role's session, as S3's events name it.
UPLOADER = "AWS:AROAIOSFODNN7EXAMPLE:anna@example.com"
ANNOUNCEMENT = {"title": "a", "body": "b", "published_on": "2026-11-21"}


@dataclass
class Bench:
    """A versioned archive and its importer."""

    s3: S3Client
    bucket: str
    importer: Importer

    def put(self, name: str, content: bytes | str) -> str:
        """Store a file to import; return its key."""
        data = content.encode() if isinstance(content, str) else content
        self.s3.put_object(Bucket=self.bucket, Key=f"imports/{name}", Body=data)
        return f"imports/{name}"

    def tell(self, *keys: str, uploader: object = UPLOADER) -> dict[str, Any]:
        """Send the importer the events of these objects; return its answer."""
        records = [
            {
                "userIdentity": {"principalId": uploader},
                "s3": {"bucket": {"name": self.bucket}, "object": {"key": key}},
            }
            for key in keys
        ]
        message = {"messageId": "m", "body": json.dumps({"Records": records})}
        return self.importer.handle({"Records": [message]})

    def report(self, key: str) -> dict[str, Any]:
        """Return the report of a file."""
        stored = self.s3.get_object(Bucket=self.bucket, Key=f"{key}.report.json")
        document: dict[str, Any] = json.loads(stored["Body"].read())
        return document

    def objects(self) -> dict[str, list[Command]]:
        """Return the written commands by object."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="commands/")
        return {entry["Key"]: self._commands(entry["Key"]) for entry in listed.get("Contents", [])}

    def commands(self) -> list[Command]:
        """Return all written commands in the order of their ids."""
        all_commands = [command for group in self.objects().values() for command in group]
        return sorted(all_commands, key=lambda command: command.id)

    def _commands(self, key: str) -> list[Command]:
        stored = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return [decode(line) for line in gzip.decompress(stored).splitlines()]


@pytest.fixture
def bench(emulator: Emulator) -> Bench:
    bucket = f"imports-{uuid4().hex}"
    emulator.s3.create_bucket(Bucket=bucket)
    emulator.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    importer = Importer(
        resources=resources.load(), archive=Archive(emulator.s3, bucket), log=Log("imports")
    )
    return Bench(emulator.s3, bucket, importer)


def ndjson(*items: dict[str, Any]) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def test_each_line_becomes_a_command(bench: Bench) -> None:
    key = bench.put("cities/put/a.ndjson", ndjson(CITY, {**CITY, "geonameid": 2}))

    assert bench.tell(key) == {"batchItemFailures": []}

    first, second = bench.commands()
    assert (first.op, first.resource, first.key) == ("put", "cities", 1)
    assert first.by == f"import:{UPLOADER}:{key}"
    assert second.key == 2
    assert is_command_id(first.id)
    assert not is_create_id(first.id)
    assert first.body is not None
    assert first.body["name"] == "Ny"
    result = bench.report(key)
    assert (result["accepted"], result["refused"], result["error"]) == (2, 0, None)


def test_each_line_of_a_patch_sets_the_fields_that_it_has(bench: Bench) -> None:
    lines = ndjson(
        {"geonameid": 1, "name": "Ny"},
        {"geonameid": 2, "population": {"$increment": -5}},
        {"geonameid": 3},
        {"name": "without a key"},
        {"geonameid": 4, "name": None},
    )
    key = bench.put("cities/patch/a.ndjson", lines)

    assert bench.tell(key) == {"batchItemFailures": []}

    made = [(command.op, command.key, command.body) for command in bench.commands()]
    assert made == [
        ("patch", 1, {"name": "Ny"}),
        ("patch", 2, {"population": {"$increment": -5}}),
    ]
    assert {command.condition for command in bench.commands()} == {None}
    problems = bench.report(key)["problems"]
    assert [(each["line"], each["code"]) for each in problems] == [
        (3, "empty_patch"),
        (4, "key_missing"),
        (5, "validation_failed"),
    ]


def test_the_columns_of_a_table_are_the_fields_that_a_patch_sets(bench: Bench) -> None:
    text = 'code,capital,name\nXK,,Kosovo\nAD,Andorra,\nLI,,\nVA,"",\n'
    key = bench.put("countries/patch/a.csv", text)

    bench.tell(key)

    # Only `capital` may be null; an empty name is left out.
    assert [(command.op, command.key, command.body) for command in bench.commands()] == [
        ("patch", "XK", {"capital": None, "name": "Kosovo"}),
        ("patch", "AD", {"capital": "Andorra"}),
        ("patch", "LI", {"capital": None}),
        ("patch", "VA", {"capital": ""}),
    ]


def test_the_commands_apply_like_any_other(bench: Bench, database: Database) -> None:
    later = {**CITY, "name": "Nyere"}
    bench.tell(bench.put("cities/put/a.ndjson", ndjson(CITY, later)))

    database.apply(bench.commands())

    assert database.connection.execute("SELECT name FROM cities").fetchall() == [("Nyere",)]


def test_again_is_the_same(bench: Bench) -> None:
    """A retry, or a duplicate event, writes the same objects with the same commands."""
    key = bench.put("announcements/create/a.ndjson", ndjson(ANNOUNCEMENT) * 3)
    bench.tell(key)
    before = bench.objects()

    bench.tell(key)

    assert bench.objects() == before
    assert len({command.key for command in bench.commands()}) == 3
    assert all(is_create_id(command.id) for command in bench.commands())


@pytest.mark.parametrize("uploader", [None, "", 7, ["AWS:AIDA"], "a:imports/b", "a b", "a" * 257])
def test_an_uploader_that_iam_does_not_name_so_is_unknown(bench: Bench, uploader: object) -> None:
    key = bench.put("cities/put/a.ndjson", ndjson(CITY))
    bench.tell(key, uploader=uploader)

    assert [command.by for command in bench.commands()] == [f"import:unknown:{key}"]


def test_generated_keys_do_not_depend_on_the_storing_of_the_file(bench: Bench) -> None:
    """Earlier releases did not record the uploader; a retry by this release makes the same keys."""
    key = bench.put("announcements/create/a.ndjson", ndjson(ANNOUNCEMENT))
    bench.tell(key)

    version = bench.report(key)["version"]
    name = "\x1f".join(("announcements", f"import:{key}", f"{key}@{version}", "1"))
    namespace = UUID("0e3c3f0a-6f0c-5d0b-8f5d-1f0d8f9c2a77")
    assert [str(command.key) for command in bench.commands()] == [str(uuid5(namespace, name))]


def test_the_event_of_an_upload_names_the_uploader(emulator: Emulator, bench: Bench) -> None:
    """The event as the emulated S3 sends it, through a queue."""
    sqs = emulator.client("sqs")
    url = sqs.create_queue(QueueName=bench.bucket)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    bench.s3.put_bucket_notification_configuration(
        Bucket=bench.bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn["QueueArn"], "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    key = bench.put("cities/put/a.ndjson", ndjson(CITY))
    records: list[dict[str, Any]] = []
    while not records:
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10).get("Messages", []):
            body = json.loads(message["Body"])
            records += body.get("Records", [])
            bench.importer.handle({"Records": [{"messageId": "m", "body": message["Body"]}]})

    uploader = records[0]["userIdentity"]["principalId"]
    assert [command.by for command in bench.commands()] == [f"import:{uploader}:{key}"]


def test_another_version_of_the_file_is_another_import(bench: Bench) -> None:
    key = bench.put("cities/put/a.ndjson", ndjson(CITY))
    bench.tell(key)
    bench.put("cities/put/a.ndjson", ndjson(CITY))
    bench.tell(key)

    assert len({command.id for command in bench.commands()}) == 2


def test_a_bad_line_affects_no_other(bench: Bench) -> None:
    lines = [
        json.dumps(CITY),
        "{",
        json.dumps({**CITY, "geonameid": 2, "population": "many"}),
        json.dumps({"name": "no key"}),
        "",
        json.dumps({**CITY, "geonameid": 3}),
    ]
    key = bench.put("cities/put/a.ndjson", "\n".join(lines))

    bench.tell(key)

    assert [command.key for command in bench.commands()] == [1, 3]
    result = bench.report(key)
    assert (result["accepted"], result["refused"]) == (2, 3)
    assert [problem["line"] for problem in result["problems"]] == [2, 3, 4]
    assert result["problems"][1]["errors"][0]["pointer"] == "#/population"


def test_a_csv_is_read_by_its_header(bench: Bench) -> None:
    key = bench.put(
        "cities/put/a.csv",
        "\ufeffgeonameid,name,country_code,population,latitude,longitude,timezone\r\n"
        '1,"Ny, ""by""\nto",DK,7,1.5,2.5,Europe/Copenhagen\r\n'
        "2,Ny,DK,many,1.5,2.5,Europe/Copenhagen\r\n"
        "3,Ny,DK\r\n"
        "4,123,DK,8,1.5,2.5,Europe/Copenhagen\r\n",
    )

    bench.tell(key)

    first, last = bench.commands()
    assert first.body is not None
    assert last.body is not None
    assert (first.key, first.body["name"], first.body["population"]) == (1, 'Ny, "by"\nto', 7)
    assert (last.key, last.body["name"]) == (4, "123")  # text, although it looks like a number
    result = bench.report(key)
    assert [problem["line"] for problem in result["problems"]] == [4, 5]
    assert result["problems"][1]["detail"] == "3 cells instead of 7"


def test_a_compressed_file_is_read_as_such(bench: Bench) -> None:
    key = bench.put("cities/put/a.ndjson.gz", gzip.compress(ndjson(CITY).encode()))

    bench.tell(key)

    assert [command.key for command in bench.commands()] == [1]


def test_large_files_become_several_objects(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_ITEMS", 2)
    many = [{**CITY, "geonameid": number} for number in range(1, 6)]
    key = bench.put("cities/put/a.ndjson", ndjson(*many))

    bench.tell(key)

    assert sorted(map(len, bench.objects().values())) == [1, 2, 2]
    assert [command.key for command in bench.commands()] == [1, 2, 3, 4, 5]
    assert bench.report(key)["accepted"] == 5


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("towns/put/a.ndjson", b"{}", "the name must be imports/"),
        ("cities/merge/a.ndjson", "{}", "the name must be imports/"),
        ("cities/put/a.csv", b"geonameid,colour\n1,red\n", "the header must name fields"),
        ("cities/put/a.csv", b"geonameid\n\xff\n", "utf-8"),
        ("cities/put/a.ndjson.gz", b"not gzip", "Not a gzipped file"),
        ("cities/put/b.ndjson", b"[" * 1_100_000, "longer than"),
    ],
)
def test_the_report_of_an_unreadable_file_has_the_reason(
    bench: Bench, name: str, content: bytes, reason: str
) -> None:
    key = bench.put(name, content)

    assert bench.tell(key) == {"batchItemFailures": []}

    assert reason in bench.report(key)["error"]
    assert bench.commands() == []


def test_lines_read_before_the_file_ends_early_are_accepted(bench: Bench) -> None:
    key = bench.put("cities/put/a.ndjson", ndjson(CITY).encode() + b"[" * 1_100_000)

    bench.tell(key)

    assert [command.key for command in bench.commands()] == [1]
    result = bench.report(key)
    assert result["accepted"] == 1
    assert "longer than" in result["error"]


def test_a_file_that_is_gone_is_done_with(bench: Bench) -> None:
    assert bench.tell("imports/cities/put/gone.ndjson") == {"batchItemFailures": []}


def test_another_bucket_s_file_is_refused(bench: Bench) -> None:
    bench.bucket, own = "another", bench.bucket
    assert bench.tell("imports/cities/put/a.ndjson") == {
        "batchItemFailures": [{"itemIdentifier": "m"}]
    }
    bench.bucket = own


def _damaged(content: bytes) -> bytes:
    """Compress a content, and damage the compressed data in the middle, not only its checksum."""
    packed = bytearray(gzip.compress(content, 1))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    return bytes(packed)


def test_the_readable_rest_of_a_damaged_file_is_accepted_and_reported(bench: Bench) -> None:
    chance = random.Random(3)
    lines = [
        json.dumps({**CITY, "geonameid": n + 1, "name": f"{chance.random()}"}) for n in range(3000)
    ]
    key = bench.put("cities/put/x.ndjson.gz", _damaged("\n".join(lines).encode()))
    assert bench.tell(key) == {"batchItemFailures": []}
    report = bench.report(key)
    assert report["error"]
    assert 0 < report["accepted"] == len(bench.commands()) < 3000


BOMBS = {
    "one line": ("ndjson", b"\x00"),
    "one cell": ("csv", b"a"),
    "one row of many lines": ("csv", b'x","\n'),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_read_no_further_than_a_line(bench: Bench, case: str) -> None:
    """A row of a CSV file may have many lines: a row without an end once took all memory."""
    kind, text = BOMBS[case]
    head = ",".join(CITY).encode() + b'\n"' if kind == "csv" else b""
    unit = gzip.compress(text * (2**20 // len(text)))
    key = bench.put(f"cities/put/bomb.{kind}.gz", gzip.compress(head) + unit * 200)
    tracemalloc.start()
    try:
        assert bench.tell(key) == {"batchItemFailures": []}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20
    assert bench.report(key)["accepted"] == 0
    assert "longer than" in bench.report(key)["error"]


@pytest.mark.parametrize(
    "name",
    [
        *("../cities/put/x.ndjson", "cities/../put/x.ndjson", "cities/merge/x.ndjson"),
        *("cities/put/x.ndjson.exe", "cities;DROP TABLE cities/put/x.csv", "cities/put/.csv"),
        "forebay.ledger/put/x.ndjson",
    ],
)
def test_a_file_with_an_unusual_name_is_not_imported_and_the_report_has_the_reason(
    bench: Bench, name: str
) -> None:
    key = bench.put(name, ndjson(CITY))
    assert bench.tell(quote_plus(key)) == {"batchItemFailures": []}
    assert bench.commands() == []
    assert "the name must be imports/<resource>" in bench.report(key)["error"]
