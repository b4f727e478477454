"""An import that several runs share: of two releases, killed at any step, or concurrent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Annotated, Any
from uuid import uuid4

import pytest
from mypy_boto3_s3 import S3Client
from pydantic import Field

from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.command import Command
from forebay.log import Log
from forebay.resource import Key, Resource
from lambdas.imports import lines
from lambdas.imports.app import Importer
from lambdas.imports.ids import line_of
from tests.fixtures.emulator import Emulator, wait_until

CHUNK_ITEMS = 3


class OldNote(Resource, path="notes"):
    """A release that takes short texts."""

    number: Annotated[int, Field(ge=1, le=2**31 - 1), Key()]
    text: Annotated[str, Field(max_length=2)]
    weight: Annotated[int, Field(ge=0, le=1000)] = 0


class NewNote(Resource, path="notes"):
    """A release that takes long texts and smaller weights, and has an additional field."""

    number: Annotated[int, Field(ge=1, le=2**31 - 1), Key()]
    text: Annotated[str, Field(max_length=20)]
    weight: Annotated[int, Field(ge=0, le=10)] = 0
    colour: Annotated[str, Field(max_length=20)] = "red"


RELEASES = {
    "old": {"notes": OldNote.spec_},
    "new": {"notes": NewNote.spec_},
    "without notes": {},
}


class KilledError(Exception):
    """Raised to end the run at once, as Lambda ends a function at its time-out."""


@dataclass
class Site:
    """A versioned archive and the imports of several releases."""

    emulator: Emulator
    s3: S3Client
    bucket: str
    #: Clients of runs that have ended; creating a client takes half a second.
    clients: list[S3Client] = field(default_factory=list)

    @classmethod
    def of(cls, emulator: Emulator) -> Site:
        bucket = f"imports-{uuid4().hex}"
        s3 = emulator.s3
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return cls(emulator, s3, bucket)

    def another_file(self) -> tuple[str, str]:
        """Empty the archive and store the items as a file with a new name."""
        for entry in self.s3.list_object_versions(Bucket=self.bucket).get("Versions", []):
            self.s3.delete_object(
                Bucket=self.bucket, Key=entry["Key"], VersionId=entry["VersionId"]
            )
        return self.put(f"{uuid4().hex}.ndjson", FILE)

    def put(self, name: str, content: str) -> tuple[str, str]:
        """Store a file to import; return its key and version."""
        key = f"imports/notes/put/{name}"
        return key, self.s3.put_object(Bucket=self.bucket, Key=key, Body=content.encode())[
            "VersionId"
        ]

    def run(
        self,
        file: tuple[str, str],
        release: str,
        *,
        at: int | None = None,
        do: Callable[[], object] | None = None,
    ) -> bool:
        """Run an import once, as its event starts it; return whether it ended without an error.

        Args:
            file: key and version.
            release: name of the release of its declarations.
            at: the step at which `do` is called: 0 is before the first request to S3, 1 after it, 2
                before the second request.
            do: called at that step; if None, the run is killed there.
        """
        body = {"bucket": {"name": self.bucket}, "object": {"key": file[0], "versionId": file[1]}}
        message = {"messageId": "m", "body": json.dumps({"Records": [{"s3": body}]})}
        with self._client(at, do) as client, suppress(KilledError):
            archive = Archive(client, self.bucket)
            importer = Importer(resources=RELEASES[release], archive=archive, log=Log("imports"))
            return importer.handle({"Records": [message]}) == {"batchItemFailures": []}
        return False

    @contextmanager
    def _client(self, at: int | None, do: Callable[[], object] | None) -> Iterator[S3Client]:
        steps = iter(range(10_000))

        def step(**_: Any) -> None:
            if next(steps) == at:
                if do is None:
                    raise KilledError
                do()

        client = self.clients.pop() if self.clients else self.emulator.s3
        for event in ("before-call.s3", "after-call.s3"):
            client.meta.events.register(event, step)
        yield client
        for event in ("before-call.s3", "after-call.s3"):
            client.meta.events.unregister(event, step)
        self.clients.append(client)

    def report(self, file: tuple[str, str], version: str = "") -> dict[str, Any]:
        key = f"{file[0]}{version}.report.json"
        document: dict[str, Any] = json.loads(
            self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        )
        return document

    def commands(self) -> list[Command]:
        """Return the commands of the archive, after checking that no object was overwritten."""
        versions = self.s3.list_object_versions(Bucket=self.bucket, Prefix="commands/")
        keys = [entry["Key"] for entry in versions.get("Versions", [])]
        assert len(keys) == len(set(keys))
        return [command for key in keys for command in self._commands(key)]

    def _commands(self, key: str) -> list[Command]:
        stored = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return [decode(line) for line in gzip.decompress(stored).splitlines()]


@pytest.fixture
def site(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(lines, "CHUNK_ITEMS", CHUNK_ITEMS)
    return Site.of(emulator)


#: The releases refuse different items: the old one 1, 5 and 6, the new one 2. If chunks depended on
#: the accepted items, the chunks of two runs would differ.
ITEMS: list[dict[str, Any]] = [
    {"number": 1, "text": "too long for old"},
    {"number": 2, "text": "ab", "weight": 500},
    {"number": 3, "text": "ab"},
    {"number": 4, "text": 7},
    {"number": 5, "text": "too long for old"},
    {"number": 6, "text": "too long for old"},
    {"number": 7, "text": "ab"},
    {"number": 8, "text": "cd"},
]
FILE = "".join(json.dumps(item) + "\n" for item in ITEMS)


def check(site: Site, file: tuple[str, str], items: int = len(ITEMS)) -> None:
    """Check that each line is decided exactly once, and that the report agrees."""
    decided = [line_of(command.id) for command in site.commands()]
    assert len(decided) == len(set(decided))
    report = site.report(file)
    assert report["version"] == file[1]
    assert report["error"] is None
    assert report["accepted"] == len(decided)
    assert report["accepted"] + report["refused"] == items
    lines = [problem["line"] for problem in report["problems"]]
    assert lines == sorted(set(range(1, items + 1)) - set(decided))


PAIRS = [("old", "new"), ("new", "old"), ("new", "new")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_run_killed_anywhere_is_finished_by_another_release(
    site: Site, first: str, second: str
) -> None:
    for step in count():
        file = site.another_file()
        was_killed = not site.run(file, first, at=step)
        assert site.run(file, second)
        check(site, file)
        before = site.report(file)
        assert site.run(file, first)
        assert site.report(file) == before
        check(site, file)
        if not was_killed:
            break
    assert step > 8  # one get, three objects and a report, before and after each


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_run_overtaken_by_another_release_takes_over_its_results(
    site: Site, first: str, second: str
) -> None:
    for step in count():
        file = site.another_file()
        overtaken: list[bool] = []
        overtake = partial(_run_into, overtaken, site, file, second)

        assert site.run(file, first, at=step, do=overtake)

        check(site, file)
        if not overtaken:
            break
    assert step > 8


def _run_into(done: list[bool], site: Site, file: tuple[str, str], release: str) -> None:
    done.append(site.run(file, release))


def test_runs_at_the_same_time_decide_each_line_once(site: Site) -> None:
    for _ in range(5):
        run = partial(site.run, site.another_file())
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(run, ["old", "new"] * 2)) == [True] * 4
        check(site, run.args[0])


def test_items_refused_by_an_earlier_release_stay_refused_in_the_report(site: Site) -> None:
    file = site.put("a.ndjson", FILE)
    assert not site.run(file, "old", at=5)  # killed with its first two objects stored

    assert site.run(file, "new")

    assert {command.key for command in site.commands()} == {2, 3, 7, 8}
    reasons = {problem["line"]: problem["code"] for problem in site.report(file)["problems"]}
    assert reasons == {
        1: "refused_before",
        4: "validation_failed",
        5: "refused_before",
        6: "refused_before",
    }


UNREADABLE: dict[str, tuple[str, str]] = {
    "a header that the old release does not know": ("a.csv", "old"),
    "a resource that the old release does not have": ("a.ndjson", "without notes"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_a_release_could_not_read_is_not_imported_by_another(
    site: Site, case: str
) -> None:
    """Its report asked the user to store the file again."""
    name, release = UNREADABLE[case]
    content = "number,text,colour\n1,ab,red\n" if name.endswith("csv") else FILE
    file = site.put(name, content)
    site.run(file, release)
    before = site.report(file)
    assert before["error"]

    site.run(file, "new")

    assert site.commands() == []
    assert site.report(file) == before


def test_a_file_that_a_release_can_not_read_ends_where_another_release_stopped(site: Site) -> None:
    file = site.put("a.csv", "number,text,colour\n" + "".join(f"{n},ab,red\n" for n in range(1, 9)))
    assert not site.run(file, "new", at=5)  # killed with its first two objects stored

    site.run(file, "old")

    report = site.report(file)
    assert report["accepted"] == len(site.commands()) == 2 * CHUNK_ITEMS
    assert "the header must name fields" in report["error"]
    site.run(file, "new")
    assert len(site.commands()) == 2 * CHUNK_ITEMS
    assert site.report(file) == report


@pytest.fixture
def versions(site: Site) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two versions of a file, stored in different seconds: S3's times are no finer."""
    older = site.put("a.ndjson", '{"number": 1, "text": "ab"}\n{"number": 2, "text": "ab"}\n')
    newer = [older]

    def is_newer() -> bool:
        newer.append(site.put("a.ndjson", '{"number": 1, "text": "cd"}\n'))
        first, last = (
            site.s3.head_object(Bucket=site.bucket, Key=key, VersionId=version)["LastModified"]
            for key, version in (older, newer[-1])
        )
        return first < last

    wait_until(is_newer, "S3's clock says another second")
    return older, newer[-1]


def test_each_version_of_a_file_is_imported_also_if_another_replaced_it_at_once(
    site: Site, versions: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    older, newer = versions
    site.run(older, "new")
    site.run(newer, "new")

    commands = sorted(site.commands(), key=lambda command: command.id)
    assert [(command.key, command.body and command.body["text"]) for command in commands] == [
        (1, "ab"),
        (2, "ab"),
        (1, "cd"),
    ]
    assert site.report(newer)["version"] == newer[1]


def test_the_report_of_an_older_version_never_replaces_that_of_a_newer_one(
    site: Site, versions: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    older, newer = versions
    site.run(newer, "new")
    site.run(older, "new")
    site.run(older, "old")

    assert site.report(newer)["accepted"] == 1
    assert site.report(newer)["version"] == newer[1]
    assert site.report(older, f".{older[1]}")["accepted"] == 2


def test_an_object_of_somebody_else_under_the_name_of_a_chunk_is_named(site: Site) -> None:
    file = site.put("a.ndjson", FILE)
    site.run(file, "new")
    (key,) = [
        entry["Key"]
        for entry in site.s3.list_objects_v2(Bucket=site.bucket, Prefix="commands/")["Contents"]
    ][:1]
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"")
    site.s3.delete_object(Bucket=site.bucket, Key=f"{file[0]}.report.json")

    assert site.run(file, "new")

    assert "was not written by an import" in site.report(file)["error"]
