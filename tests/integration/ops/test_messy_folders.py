"""Copies of an archive as people have them: with strays, incomplete and damaged."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
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


# Damaged objects


def damage(operator: Operator) -> dict[str, tuple[int, str]]:
    """Puts objects beside the good ones that can't be read; the line and the code of each."""
    whole = gzip.compress(encode(city(4, key=4)) + encode(city(5, key=5)) * 2_000, 0)
    put(operator, f"{HOUR}/cut-off.gz", whole[: len(whole) // 2])
    put(operator, f"{HOUR}/empty.gz", b"")
    put(operator, f"{HOUR}/header-only.gz", whole[:6])
    put(operator, f"{HOUR}/page.gz", b"<html>\n<h1>403 Forbidden</h1>\n</html>\n")
    put(operator, f"{HOUR}/half-a-line.gz", gzip.compress(encode(city(6, key=6)) + b'{"v":1,"i\n'))
    lines = len([*gzip_lines(whole[: len(whole) // 2])])
    return {
        "cut-off.gz": (lines, "object_corrupt"),
        "empty.gz": (1, "object_empty"),
        "header-only.gz": (1, "object_corrupt"),
        "page.gz": (1, "object_not_gzip"),
        "half-a-line.gz": (2, "line_not_json"),
    }


def gzip_lines(content: bytes) -> list[bytes]:
    """Lines of a gzip file that is cut off, the last one cut off too."""
    return zlib.decompressobj(31).decompress(content).splitlines()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_rebuild_names_every_object_that_cannot_be_read_with_its_line_at_once(
    operator: Operator, processes: str
) -> None:
    damaged = damage(operator)

    ended = operator.run("rebuild", "--yes", "--processes", processes)

    assert ended.code == ExitCode.REFUSED
    for name, (line, code) in damaged.items():
        assert f"{HOUR}/{name}: line {line:,}: {code}: " in ended.err
    assert "5 of them lines of 5 objects" in ended.err
    assert "nothing was changed. Copy damaged objects again" in ended.err
    for table in ("cities", "forebay.ledger", "forebay.rejections"):
        assert operator.rows(f"SELECT FROM {table}") == []

    told = operator.done("rebuild", "--yes", "--processes", processes, code=ExitCode.REFUSED)
    assert {
        one["object"].rpartition("/")[2]: (one["line"], one["code"])
        for one in told["refused"]["invalid_lines"]
    } == damaged


def test_a_rebuild_names_all_commands_that_cannot_apply_by_resource_and_key(
    operator: Operator,
) -> None:
    for number in range(10, 16):
        unfit = encode(city(number, key=number)).replace(b'"cities"', b'"towns"')
        put(operator, f"{HOUR}/{number}.gz", gzip.compress(unfit + b"no command\n"))

    ended = operator.run("rebuild", "--yes")

    assert ended.code == ExitCode.REFUSED
    for number in range(10, 16):
        assert f" of towns {number} (" in ended.err
        assert f"{HOUR}/{number}.gz: line 2: line_not_json" in ended.err


def test_a_rebuild_after_the_objects_were_copied_again_succeeds(operator: Operator) -> None:
    for name in damage(operator):
        put(operator, f"{HOUR}/{name}", gzip.compress(encode(city(7, key=7))))
    assert operator.done("rebuild", "--yes")["rows"] == 4


def test_verify_names_the_object_and_the_line_of_what_is_no_command(operator: Operator) -> None:
    """Of a copy that was damaged after the live run had applied the object."""
    for name in ("a.gz", "b.gz"):
        put(operator, f"{HOUR}/{name}", gzip.compress(encode(city(8, key=8)), 0))
    apply_live(operator)
    for name, size in (("a.gz", 60), ("b.gz", 0)):
        os.truncate(operator.archive / HOUR / name, size)

    told = operator.done("verify", code=ExitCode.FOUND)

    named = {one["key"]: one["archive"] for one in told["named"]}
    assert named[f"line 1 of {HOUR}/a.gz"].startswith("no command: object_corrupt: ")
    assert named[f"line 1 of {HOUR}/b.gz"].startswith("no command: object_empty: ")
