"""Foreign archives: what operators see of them, and how they can repair the tables."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.codec import encode
from ops.exit_codes import ExitCode
from tests.fixtures.bombs import BOMBS
from tests.fixtures.commands import city, command_id
from tests.fixtures.operating import Operator, apply_live
from tests.fixtures.strangers import LINES

HOUR = "commands/2025/10/17/00"
SECRET = b"a secret outside of the archive\n"


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    """An operator with an archive of one valid object."""
    new_operator = Operator(tmp_path / "archive", database_url)
    put(
        new_operator,
        f"{HOUR}/good.gz",
        gzip.compress(encode(city(1, key=1)) + encode(city(2, key=2))),
    )
    return new_operator


def put(operator: Operator, key: str, content: bytes) -> Path:
    file = operator.archive / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def cities(operator: Operator) -> dict[int, str]:
    return dict(operator.rows("SELECT geonameid, name FROM cities"))


# Folders


def _link_out(operator: Operator) -> None:
    outside = operator.archive.parent / "outside.gz"
    outside.write_bytes(SECRET)
    (operator.archive / HOUR / "link.gz").symlink_to(outside)


def _link_up(operator: Operator) -> None:
    outside = operator.archive.parent / "outside"
    outside.mkdir()
    (outside / "x.gz").write_bytes(SECRET)
    (operator.archive / "commands" / "up").symlink_to("../../outside")


def _circle(operator: Operator) -> None:
    (operator.archive / "commands" / "2025" / "circle").symlink_to("..")


def _dangling(operator: Operator) -> None:
    (operator.archive / HOUR / "gone.gz").symlink_to("/nonexistent")


def _endless_device(operator: Operator) -> None:
    (operator.archive / HOUR / "zero.gz").symlink_to("/dev/zero")


def _pipe(operator: Operator) -> None:
    os.mkfifo(operator.archive / HOUR / "pipe.gz")


def _socket(operator: Operator) -> None:
    here = Path.cwd()
    os.chdir(operator.archive / HOUR)  # a socket's address must be short
    try:
        with socket.socket(socket.AF_UNIX) as new_socket:
            new_socket.bind("socket.gz")
    finally:
        os.chdir(here)


def _all_of_it(operator: Operator) -> None:
    (operator.archive / "commands").rename(operator.archive.parent / "elsewhere")
    (operator.archive / "commands").symlink_to("../elsewhere")


def _decisions_elsewhere(operator: Operator) -> None:
    (operator.archive.parent / "elsewhere").mkdir()
    (operator.archive / "decisions").symlink_to("../elsewhere")


def _no_text(operator: Operator) -> None:
    (operator.archive / HOUR / os.fsdecode(b"\xff\xfe.gz")).write_bytes(gzip.compress(b""))


STRANGE_ENTRIES = [
    _link_out,
    _link_up,
    _circle,
    _dangling,
    _endless_device,
    _pipe,
    _socket,
    _all_of_it,
    _no_text,
]


COMMANDS = [("replay", "--yes"), ("replay", "--plan"), ("verify",), ("history", "cities", "1")]


@pytest.mark.parametrize("make", STRANGE_ENTRIES, ids=lambda make: make.__name__.strip("_"))
def test_files_that_are_not_regular_are_refused_by_name_before_apply(
    operator: Operator, make: Callable[[Operator], None]
) -> None:
    make(operator)
    for command in COMMANDS:
        result = operator.run(*command)
        assert result.code == ExitCode.REFUSED, (command, result.err)
        assert "; remove it" in result.err
        assert str(operator.archive) in result.err
        assert SECRET.decode().strip() not in result.out + result.err
    assert cities(operator) == {}
    assert operator.rows("SELECT 1 FROM forebay.rejections") == []


def test_decisions_are_not_written_out_of_the_folder(operator: Operator) -> None:
    _decisions_elsewhere(operator)
    put(operator, f"{HOUR}/bad.gz", gzip.compress(b"no command\n"))
    operator.run("replay", "--yes")
    assert list((operator.archive.parent / "elsewhere").iterdir()) == []
    assert operator.run("verify").code == ExitCode.REFUSED


NAMES = [
    "line\nbreak.gz",
    "\x1b[2Jclear.gz",
    "[/x].gz",
    "%2e%2e%2fdots.gz",
    "-rf.gz",
    "$(id).gz",
    "'; DROP TABLE cities; --.gz",
    "\u202egz.txt",
    "a" * 200 + ".gz",
    "no-extension",
]


def test_an_unusual_file_name_is_accepted(operator: Operator) -> None:
    for number, name in enumerate(NAMES):
        good = encode(city(10 + number, key=10 + number))
        put(operator, f"{HOUR}/{name}", gzip.compress(good + b"no command\n"))
    put(operator, f"{HOUR}/.hidden.gz", SECRET)
    result = operator.done("replay", "--yes")
    assert (result["applied"], result["rejected"]) == (2 + len(NAMES), len(NAMES))
    assert operator.done("verify")["agrees"] is True
    for number in range(len(NAMES)):
        run_result = operator.run("history", "cities", f"{10 + number}")
        assert run_result.code == ExitCode.OK
        assert "\x1b" not in run_result.out + run_result.err
        assert "\u202e" not in run_result.out + run_result.err


def test_a_name_with_a_tab_or_a_line_feed_is_shown_on_its_line(operator: Operator) -> None:
    name = f"{HOUR}/a\tb\nstate    discarded.gz"
    bad = city(3, key=3, name="x" * 300)
    put(operator, name, gzip.compress(encode(bad)))
    operator.done("replay", "--yes")
    shown = "a\\tb\\nstate"
    for arguments in (("rejections", "show", bad.id), ("history", "cities", "3"), ("archive",)):
        result = operator.run(*arguments)
        assert result.code == ExitCode.OK, (arguments, result.err)
        assert shown in result.out.replace(" ", ""), arguments
        assert "\t" not in result.out, arguments
    assert operator.done("rejections", "list")["rejections"][0]["object"] == name
    assert name in operator.done("history", "cities", "3")["commands"][0]["objects"]
    assert operator.done("verify")["agrees"] is True


# Layouts


def test_another_layout_is_refused_and_its_contents_are_named(operator: Operator) -> None:
    """An archive with another prefix; no other prefix is searched."""
    (operator.archive / "commands").rename(operator.archive / "events")
    result = operator.run("replay", "--yes")
    assert result.code == 2
    assert "it contains events/" in result.err
    assert cities(operator) == {}


def test_keys_without_hours_are_read_and_ids_decide(operator: Operator) -> None:
    put(operator, "commands/part-00000.gz", gzip.compress(encode(city(3, key=3))))
    put(operator, "commands/dt=2025-10-17/part-1.gz", gzip.compress(encode(city(4, key=4))))
    put(operator, "commands/!first.gz", gzip.compress(b""))
    result = operator.done("replay", "--yes")
    assert (result["objects"], result["applied"], result["rejected"]) == (4, 4, 0)
    assert set(cities(operator)) == {1, 2, 3, 4}
    assert operator.done("verify")["agrees"] is True
    operator.rows("DELETE FROM cities")
    when = ("--from", "2025-10-17", "--to", "2025-10-18")
    assert operator.done("replay", *when, "--yes")["applied"] == 4
    assert len(operator.done("history", "cities", "4", *when)["commands"]) == 1


def test_an_object_that_is_not_gzip_is_read_if_the_live_run_has_read_it(operator: Operator) -> None:
    put(operator, "commands/plain.ndjson", encode(city(5, key=5)))
    apply_live(operator)
    assert set(cities(operator)) == {1, 2, 5}
    assert operator.rows("SELECT code FROM forebay.rejections") == [("object_not_gzip",)]
    operator.rows("DELETE FROM cities")
    assert operator.done("replay", "--yes")["applied"] == 3
    assert operator.done("verify")["agrees"] is True


# Contents


def test_a_strangers_archive_is_applied_where_it_fits_and_rebuilt_the_same(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """Every line has its status, all tools agree on it, and no valid line is affected."""
    for number, (line, _) in enumerate(LINES.values()):
        own = line.replace(command_id(50).encode(), command_id(100 + number).encode())
        put(operator, f"{HOUR}/s{number:02}.gz", gzip.compress(own + encode(city(3, key=3))))
    for name in ("2 GiB of lines of a byte", "a bomb in gzip in gzip"):
        put(operator, f"{HOUR}/{name}.gz", BOMBS[name].make())
    apply_live(operator)
    assert {1, 2, 3} <= set(cities(operator))
    assert operator.done("verify")["agrees"] is True
    again = operator.done("replay", "--yes")
    assert (again["applied"], again["rejected"]) == (0, 0)

    rebuilt = Operator(operator.archive, another_database())
    rebuilt.done("rebuild", "--yes")
    assert rebuilt.dump() == operator.dump()
    rejections = "SELECT id, code, object FROM forebay.rejections ORDER BY id"
    assert rebuilt.rows(rejections) == operator.rows(rejections)


def test_a_forged_id_of_the_future_wins_is_shown_and_can_be_undone(operator: Operator) -> None:
    """The procedure of `docs/security.md`."""
    forged = city(9, key=1, name="forged")._replace(
        id="d0000000-0000-7000-8000-000000000000", by="nobody"
    )
    put(operator, f"{HOUR}/later.gz", gzip.compress(encode(city(5, key=1, name="mine"))))
    object_ = put(operator, f"{HOUR}/forged.gz", gzip.compress(encode(forged)))
    operator.done("replay", "--yes")
    assert cities(operator)[1] == "forged"

    result = operator.done("history", "cities", "1")
    (shown,) = [command for command in result["commands"] if command["id"] == forged.id]
    assert (shown["by"], shown["outcome"]) == ("nobody", "applied")
    assert f"{HOUR}/forged.gz" in str(shown)

    object_.unlink()
    when = ("--from", "9000-01-01", "--to", "9700-01-01")
    assert (
        operator.done("outdate", "cities", *when, "--key", "1", "--orphaned", "--yes")["rows"] == 1
    )
    operator.done("replay", "--resource", "cities", "--key", "1", "--yes")
    assert cities(operator)[1] == "mine"


def test_two_contents_under_one_id_are_named_by_verify(operator: Operator) -> None:
    put(operator, f"{HOUR}/a.gz", gzip.compress(encode(city(5, key=7, name="a"))))
    operator.done("replay", "--yes")
    put(operator, f"{HOUR}/0.gz", gzip.compress(encode(city(5, key=7, name="b"))))
    operator.done("replay", "--yes")
    assert cities(operator)[7] == "a"
    result = operator.done("verify", code=ExitCode.FOUND)
    assert [(fault["key"], fault["database"]) for fault in result["named"]] == [
        ("7", f"{command_id(5)} with other values")
    ]


@pytest.mark.parametrize(
    "forged",
    ["decisions/00000000000000000001.ndjson", "rejections/2025/10/17/00/good/forged.ndjson"],
)
def test_a_forged_object_of_decisions_is_refused_by_name(operator: Operator, forged: str) -> None:
    put(operator, forged, b'{"decision":"rejected","id":"x"}\n')
    for command in (("verify",), ("rebuild", "--yes"), ("replay", "--yes")):
        result = operator.run(*command)
        assert result.code == ExitCode.REFUSED
        assert f"{forged} is not a valid object of the decision log" in result.err
        assert cities(operator) == {}


def test_a_cut_at_the_end_of_time_is_a_cut_or_wrong_usage(operator: Operator) -> None:
    for text in ("ffffffff-ffff-7fff-bfff-fffffffffffe", "9999-12-31", "-1", "'"):
        result = operator.run("verify", "--at", text)
        assert result.code in {ExitCode.OK, ExitCode.FOUND, ExitCode.USAGE}, result.err
        result = operator.run("rebuild", "--yes", "--until", text)
        assert result.code in {ExitCode.OK, ExitCode.REFUSED, ExitCode.USAGE}, result.err
