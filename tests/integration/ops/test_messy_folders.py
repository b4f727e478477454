"""Copies of an archive as people have them: with strays, incomplete and damaged."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from forebay.codec import encode
from ops.exit_codes import ExitCode
from tests.fixtures.commands import city
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.operating import Operator, apply_live
from tests.fixtures.site import Site

HOUR = "commands/2025/10/17/00"
#: Below the hour, but for those with a slash.
STRAYS = {
    *("desktop.ini", "Thumbs.db", ".DS_Store", "._good.gz", "good.gz.tmp", "good.gz~"),
    *("good.gz.6eF4a1B2", "good.gz.b3f1a2c4.partial"),
}
TREE = "commands/__MACOSX/"
#: How many of them a listing of commands leaves out: a folder counts once.
NUMBER = len(STRAYS) + 1
READERS = (
    ("replay", "--yes"),
    ("replay", "--plan"),
    ("replay", "--dry-run"),
    ("verify",),
    ("history", "cities", "1"),
    ("archive",),
)


def put(operator: Operator, key: str, content: bytes) -> Path:
    file = operator.archive / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def litter(operator: Operator) -> None:
    """Leaves what file managers, editors and copying tools leave."""
    for name in STRAYS:
        put(operator, f"{HOUR}/{name}", b"[.ShellClassInfo]\r\n")
    put(operator, f"{TREE}2025/10/17/00/._good.gz", b"\x00\x05\x16\x07")
    put(operator, "decisions/.DS_Store", b"Bud1")
    put(operator, "audit/Thumbs.db", b"\xd0\xcf\x11\xe0")


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    """An operator whose archive has two good objects."""
    made = Operator(tmp_path / "archive", database_url)
    put(made, f"{HOUR}/good.gz", gzip.compress(encode(city(1, key=1)) + encode(city(2, key=2))))
    put(made, f"{HOUR}/more.gz", gzip.compress(encode(city(3, key=3))))
    return made


# Strays


def test_every_reader_leaves_strays_out_and_counts_them(operator: Operator) -> None:
    apply_live(operator)
    litter(operator)

    for command in READERS:
        told = operator.done(*command)
        assert told["left_out"]["objects"] >= NUMBER, command
        assert {f"{HOUR}/{name}" for name in STRAYS} <= set(told["left_out"]["named"]), command
        assert TREE in told["left_out"]["named"], command
        ended = operator.run(*command)
        assert ended.code == ExitCode.OK, (command, ended.err)
        assert " files left out, for they are no archive objects" in ended.out, command
        assert "desktop.ini" in ended.out, command
    assert operator.rows("SELECT 1 FROM forebay.rejections") == []
    assert {key for (key,) in operator.rows("SELECT object FROM forebay.ledger")} == {
        f"{HOUR}/good.gz",
        f"{HOUR}/more.gz",
    }


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_rebuild_leaves_strays_out_and_counts_them(operator: Operator, processes: str) -> None:
    litter(operator)

    told = operator.done("rebuild", "--yes", "--processes", processes)

    assert (told["objects"], told["rows"], told["rejections"]) == (2, 3, 0)
    assert told["left_out"]["objects"] == NUMBER + 2
    assert {"decisions/.DS_Store", "audit/Thumbs.db"} <= set(told["left_out"]["named"])


def test_a_clean_folder_counts_nothing(operator: Operator) -> None:
    assert "left_out" not in operator.done("archive")
    assert "left out" not in operator.run("archive").out


def test_a_folder_with_nothing_but_strays_has_no_commands_and_says_why(
    operator: Operator,
) -> None:
    shutil.rmtree(operator.archive)
    litter(operator)

    ended = operator.run("rebuild", "--yes")

    assert ended.code == ExitCode.REFUSED
    assert f"{HOUR}/desktop.ini" in ended.err


def test_strays_of_a_bucket_are_left_out_as_well(site: Site, emulator: Emulator) -> None:
    site.put_and_apply(city(1, key=1))
    for key in (f"{HOUR}/desktop.ini", f"{HOUR}/._x.gz", "commands/2026/"):
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"" if key.endswith("/") else b"x")
    operator = Operator(
        Path(),
        site.database.url,
        {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "FOREBAY_DATABASE_URL": site.database.url,
            "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        },
    )

    for command in (("verify", "--at", "now"), ("replay", "--yes")):
        told = operator.done(*command)
        assert told["left_out"]["objects"] == 3
    assert site.database.rows("SELECT 1 FROM forebay.rejections") == []
