"""Copies of an archive as people have them: with strays, incomplete and damaged."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.codec import encode
from ops.exit_codes import ExitCode
from tests.fixtures.commands import city
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.operating import Operator, apply_live
from tests.fixtures.site import Site

HOUR = "commands/2025/10/17/06"
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
    """An operator with an archive of two good objects."""
    new_operator = Operator(tmp_path / "archive", database_url)
    put(
        new_operator,
        f"{HOUR}/good.gz",
        gzip.compress(encode(city(1, key=1)) + encode(city(2, key=2))),
    )
    put(new_operator, f"{HOUR}/more.gz", gzip.compress(encode(city(3, key=3))))
    return new_operator


# Strays


def test_every_reader_leaves_strays_out_and_counts_them(operator: Operator) -> None:
    apply_live(operator)
    litter(operator)

    for command in READERS:
        result = operator.done(*command)
        assert result["strays"]["objects"] >= NUMBER, command
        assert {f"{HOUR}/{name}" for name in STRAYS} <= set(result["strays"]["named"]), command
        assert TREE in result["strays"]["named"], command
        run_result = operator.run(*command)
        assert run_result.code == ExitCode.OK, (command, run_result.err)
        assert (
            " files left out, because their names are not those of archive objects"
            in run_result.out
        ), command
        assert "desktop.ini" in run_result.out, command
    assert operator.rows("SELECT 1 FROM forebay.rejections") == []
    assert {key for (key,) in operator.rows("SELECT object FROM forebay.ledger")} == {
        f"{HOUR}/good.gz",
        f"{HOUR}/more.gz",
    }


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_rebuild_leaves_strays_out_and_counts_them(operator: Operator, processes: str) -> None:
    litter(operator)

    result = operator.done("rebuild", "--yes", "--processes", processes)

    assert (result["objects"], result["rows"], result["rejections"]) == (2, 3, 0)
    assert result["strays"]["objects"] == NUMBER + 2
    assert {"decisions/.DS_Store", "audit/Thumbs.db"} <= set(result["strays"]["named"])


def test_a_clean_folder_counts_nothing(operator: Operator) -> None:
    assert "strays" not in operator.done("archive")
    assert "left out" not in operator.run("archive").out


def test_a_folder_with_only_strays_has_no_commands_and_the_message_explains_it(
    operator: Operator,
) -> None:
    shutil.rmtree(operator.archive)
    litter(operator)

    result = operator.run("rebuild", "--yes")

    assert result.code == ExitCode.REFUSED
    assert f"{HOUR}/desktop.ini" in result.err


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
        result = operator.done(*command)
        assert result["strays"]["objects"] == 3
    assert site.database.rows("SELECT 1 FROM forebay.rejections") == []


# Damaged objects


def damage(operator: Operator) -> dict[str, tuple[int, str]]:
    """Adds objects that can't be read to the good ones; the line and the code of each."""
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

    run_result = operator.run("rebuild", "--yes", "--processes", processes)

    assert run_result.code == ExitCode.REFUSED
    for name, (line, code) in damaged.items():
        assert f"{HOUR}/{name}: line {line:,}: {code}: " in run_result.err
    assert "(5 invalid lines in 5 objects)" in run_result.err
    assert "nothing was changed. Copy damaged objects again" in run_result.err
    for table in ("cities", "forebay.ledger", "forebay.rejections"):
        assert operator.rows(f"SELECT FROM {table}") == []

    result = operator.done("rebuild", "--yes", "--processes", processes, code=ExitCode.REFUSED)
    assert {
        one["object"].rpartition("/")[2]: (one["line"], one["code"])
        for one in result["refused"]["invalid_lines"]
    } == damaged


def test_a_rebuild_names_all_commands_that_cannot_apply_by_resource_and_key(
    operator: Operator,
) -> None:
    for number in range(10, 16):
        unfit = encode(city(number, key=number)).replace(b'"cities"', b'"towns"')
        put(operator, f"{HOUR}/{number}.gz", gzip.compress(unfit + b"no command\n"))

    result = operator.run("rebuild", "--yes")

    assert result.code == ExitCode.REFUSED
    for number in range(10, 16):
        assert f" of towns {number} (" in result.err
        assert f"{HOUR}/{number}.gz: line 2: line_not_json" in result.err


def test_a_rebuild_after_the_objects_were_copied_again_succeeds(operator: Operator) -> None:
    for name in damage(operator):
        put(operator, f"{HOUR}/{name}", gzip.compress(encode(city(7, key=7))))
    assert operator.done("rebuild", "--yes")["rows"] == 4


def test_verify_names_object_and_line_of_an_invalid_line(operator: Operator) -> None:
    """Of a copy that was damaged after the live run had applied the object."""
    for name in ("a.gz", "b.gz"):
        put(operator, f"{HOUR}/{name}", gzip.compress(encode(city(8, key=8)), 0))
    apply_live(operator)
    for name, size in (("a.gz", 60), ("b.gz", 0)):
        os.truncate(operator.archive / HOUR / name, size)

    result = operator.done("verify", code=ExitCode.FOUND)

    named = {one["key"]: one["archive"] for one in result["named"]}
    assert named[f"line 1 of {HOUR}/a.gz"].startswith("invalid line: object_corrupt: ")
    assert named[f"line 1 of {HOUR}/b.gz"].startswith("invalid line: object_empty: ")


@pytest.mark.parametrize("command", [("replay", "--yes"), ("replay", "--dry-run")], ids=" ".join)
def test_a_replay_of_a_damaged_copy_names_every_object_and_applies_nothing(
    operator: Operator, command: tuple[str, ...]
) -> None:
    damaged = damage(operator)
    del damaged["half-a-line.gz"]  # its file is whole: the line is no command in the archive too

    run_result = operator.run(*command)

    assert run_result.code == ExitCode.REFUSED
    for name, (line, code) in damaged.items():
        assert f"{HOUR}/{name}: line {line:,}: {code}: " in run_result.err
    assert "half-a-line" not in run_result.err
    assert "4 objects of file://" in run_result.err
    assert "Copy them again" in run_result.err
    assert operator.rows("SELECT FROM cities") == []
    assert operator.rows("SELECT FROM forebay.rejections") == []
    assert operator.rows("SELECT FROM forebay.runs") == []
    assert not (operator.archive / "decisions").exists()

    result = operator.done(*command, code=ExitCode.REFUSED)
    assert {
        one["object"].rpartition("/")[2]: (one["line"], one["code"])
        for one in result["refused"]["invalid_lines"]
    } == damaged


def test_rejected_lines_of_a_damaged_object_do_not_stop_a_replay(
    operator: Operator,
) -> None:
    damage(operator)
    (operator.archive / HOUR / "empty.gz").unlink()
    apply_live(operator)

    assert operator.done("replay", "--yes")["objects_failed"] == 0


def test_a_rebuild_that_may_reject_refuses_empty_files_and_rejects_the_rest(
    operator: Operator,
) -> None:
    damage(operator)

    run_result = operator.run("rebuild", "--yes", "--allow-new-rejections")
    assert run_result.code == ExitCode.REFUSED
    assert f"{HOUR}/empty.gz: line 1: object_empty: the file is empty" in run_result.err
    assert "1 objects of file://" in run_result.err

    (operator.archive / HOUR / "empty.gz").unlink()
    result = operator.done("rebuild", "--yes", "--allow-new-rejections")
    assert result["rejected"] == 4


def test_history_names_the_objects_that_it_could_not_read(operator: Operator) -> None:
    apply_live(operator)
    damaged = damage(operator)
    del damaged["half-a-line.gz"]

    result = operator.done("history", "cities", "1")

    assert len(result["commands"]) == 1
    assert {
        one["object"].rpartition("/")[2]: (one["line"], one["code"]) for one in result["damaged"]
    } == damaged
    err = operator.run("history", "cities", "1").err
    assert f"can't read the rest of {HOUR}/cut-off.gz: line " in err


# Incomplete copies


@pytest.fixture
def incomplete(operator: Operator) -> Operator:
    """An operator with a copy without an object of the ledger, which has the row of key 1."""
    for number in (10, 11):
        put(operator, f"{HOUR}/{number}.gz", gzip.compress(encode(city(number, key=number))))
    apply_live(operator)
    for name in ("10.gz", "good.gz"):
        (operator.archive / HOUR / name).unlink()
    return operator


MISSING = [f"{HOUR}/10.gz", f"{HOUR}/good.gz"]


@pytest.mark.parametrize(
    "command",
    [
        ("verify",),
        ("replay", "--yes"),
        ("replay", "--dry-run"),
        ("replay", "--plan"),
        ("replay", "--yes", "--from", "2025-10-17", "--to", "2025-10-18"),
        ("history", "cities", "3"),
    ],
    ids=" ".join,
)
def test_a_copy_that_lacks_applied_objects_is_called_incomplete(
    incomplete: Operator, command: tuple[str, ...]
) -> None:
    result = incomplete.done(*command, code=ExitCode.INCOMPLETE)
    assert result["objects_missing_in_archive"] == 2
    assert result["missing_in_archive"] == MISSING

    run_result = incomplete.run(*command)
    assert run_result.code == ExitCode.INCOMPLETE
    assert "is incomplete: it lacks 2 objects that the ledger shows as applied" in run_result.err
    assert f"({', '.join(MISSING)})" in run_result.err
    assert "`forebay replay` applies missing commands" not in run_result.out + run_result.err


def test_no_replay_mends_an_incomplete_copy(incomplete: Operator) -> None:
    incomplete.rows("DELETE FROM cities WHERE geonameid IN (1, 3)")

    incomplete.done("replay", "--yes", code=ExitCode.INCOMPLETE)

    assert {key for (key,) in incomplete.rows("SELECT geonameid FROM cities")} == {2, 3, 10, 11}
    result = incomplete.done("verify", code=ExitCode.INCOMPLETE)
    assert result["agrees"] is False


def test_a_copy_that_is_completed_is_mended_by_a_replay(
    incomplete: Operator, tmp_path: Path
) -> None:
    put(incomplete, MISSING[0], gzip.compress(encode(city(10, key=10))))
    put(incomplete, MISSING[1], gzip.compress(encode(city(1, key=1)) + encode(city(2, key=2))))
    incomplete.rows("DELETE FROM cities WHERE geonameid = 1")

    incomplete.done("replay", "--yes")

    assert incomplete.done("verify")["agrees"] is True


def test_objects_of_another_time_are_not_missed(incomplete: Operator) -> None:
    result = incomplete.done("replay", "--plan", "--from", "2026-01-01", code=ExitCode.INCOMPLETE)
    assert result["objects_missing_in_archive"] == 0
    run_result = incomplete.run("replay", "--plan", "--from", "2026-01-01")
    assert "nothing was selected" in run_result.err


def test_a_replay_of_one_key_names_it_and_succeeds(incomplete: Operator) -> None:
    """The objects that are missing need not have held a command of it."""
    result = incomplete.run("replay", "--yes", "--resource", "cities", "--key", "3")

    assert result.code == ExitCode.OK
    assert "is incomplete: it lacks 2 objects" in result.err


def test_a_replay_of_an_incomplete_copy_rejects_nothing_for_other_rows(
    operator: Operator,
) -> None:
    """The command of key 20 that made room for key 21 is missing."""
    put(operator, f"{HOUR}/20.gz", gzip.compress(encode(city(20, key=20, name="x"))))
    freeing = put(operator, f"{HOUR}/21.gz", gzip.compress(encode(city(21, key=20, name="y"))))
    apply_live(operator)
    operator.rows("CREATE UNIQUE INDEX one_name ON cities (name)")
    operator.rows("DELETE FROM cities WHERE geonameid = 20")
    freeing.unlink()
    put(operator, f"{HOUR}/22.gz", gzip.compress(encode(city(22, key=21, name="x"))))

    result = operator.done("replay", "--yes", code=ExitCode.INCOMPLETE)

    assert (result["rejected"], result["objects_failed"]) == (0, 1)
    assert operator.rows("SELECT FROM forebay.rejections") == []
    assert "is incomplete: it lacks 1 objects" in operator.run("replay", "--yes").err


def test_a_stray_with_an_event_is_not_missed(operator: Operator) -> None:
    """S3 tells it of every object below `commands/`; it rejects the line."""
    apply_live(operator)
    operator.rows(
        "INSERT INTO forebay.ledger (object, lines, applied, superseded, duplicates, rejected,"
        " completed_at) VALUES (%s, 1, 0, 0, 0, 1, now())",
        f"{HOUR}/desktop.ini",
    )

    assert operator.done("verify")["objects_missing_in_archive"] == 0


# Rejections of lines that are no commands


def test_a_list_of_rejections_names_object_and_line_of_an_invalid_line(
    operator: Operator,
) -> None:
    damage(operator)
    put(operator, f"{HOUR}/a.gz", gzip.compress(encode(city(30, key=30, name="x" * 300))))
    apply_live(operator)

    result = operator.run("rejections", "list")
    lines = {line.split(" UTC")[0] for line in result.out.splitlines()}
    page = next(line for line in lines if f"{HOUR}/page.gz" in line)
    assert "line 1: expected gzip data" in page
    half = next(line for line in lines if f"{HOUR}/half-a-line.gz" in line)
    assert "line 2: the line is not JSON" in half
    assert any("put cities 30 " in line for line in lines)
    assert any(line.startswith("(invalid line)  object_corrupt") for line in lines)
    assert not any(" - " in line.replace("  ", " ") for line in lines), result.out

    shown = operator.run("rejections", "retry", "--dry-run").out
    assert f"{HOUR}/page.gz" in shown
    assert "- - -" not in " ".join(shown.split())


# Files of ids


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff{}\n{}\n",
        "\ufeff{}\r\n\r\n  \r\n{}\r\n\r\n",
        "  {}\t\n{} \u00a0\n\n",
        "{}\r\n\ufeff{}\r\n",
        "\n\n{}\n{}",
    ],
)
def test_a_file_of_ids_is_read_as_editors_save_it(
    operator: Operator, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "ids.txt"
    ids = [city(number, key=number).id for number in (1, 3)]
    file.write_bytes(content.format(ids[0].upper(), ids[1]).encode())

    assert operator.done("replay", "--yes", "--id-file", f"{file}")["applied"] == 2


def test_a_file_of_ids_in_utf_16_is_refused_by_its_encoding(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(city(1, key=1).id, encoding="utf-16")

    result = operator.run("replay", "--yes", "--id-file", f"{file}")

    assert result.code == ExitCode.USAGE
    assert f"{file} is in UTF-16 (little-endian); save it as UTF-8" in result.err


def test_every_invalid_line_of_a_file_of_ids_is_named(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(f"id\n{city(1, key=1).id}\n\n42\n")

    result = operator.run("replay", "--yes", "--id-file", f"{file}")

    assert result.code == ExitCode.USAGE
    assert "lines that are not command ids: line 1: 'id'; line 4: '42'" in result.err


# Misplaced objects


@pytest.mark.parametrize("hour", ["2024/10/17/06", "2025/10/18/06", "2025/13/45/99", "20251017"])
def test_an_object_under_a_wrong_date_is_applied_and_named_as_misplaced(
    operator: Operator, hour: str, another_database: Callable[[], str]
) -> None:
    key = f"commands/{hour}/x.gz"
    put(operator, key, gzip.compress(encode(city(40, key=40))))
    put(operator, "commands/part-00000.gz", gzip.compress(encode(city(41, key=41))))
    apply_live(operator)

    result = operator.done("verify")
    assert (result["agrees"], result["objects_misplaced"], result["misplaced"]) == (True, 1, [key])
    assert f"the first is {key}: a search by time" in operator.run("verify").out
    rebuilt = Operator(operator.archive, another_database())
    result = rebuilt.done("rebuild", "--yes")
    assert (result["rows"], result["objects_misplaced"], result["misplaced"]) == (5, 1, [key])


def test_a_rebuild_from_a_copy_without_an_object_of_the_decision_log_is_incomplete(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    key = f"{HOUR}/rejected.gz"
    put(
        operator,
        key,
        gzip.compress(encode(city(50, key=50)) + encode(city(51, key=51, name="x" * 300))),
    )
    apply_live(operator)
    (operator.archive / key).unlink()
    rebuilt = Operator(operator.archive, another_database())

    result = rebuilt.done("rebuild", "--yes", code=ExitCode.INCOMPLETE)

    assert (result["objects_missing_in_archive"], result["missing_in_archive"]) == (1, [key])
    assert result["rows"] == 3
