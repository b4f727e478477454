"""A source must have an archive's layout, and an empty comparison is not a success."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ops.archive.layout import check_layout
from ops.errors import UsageError
from tests.fixtures.emulator import Emulator
from tests.fixtures.operating import Operator, RunResult
from tests.fixtures.site import Site

READERS = (
    ("rebuild", "--yes"),
    ("verify", "--at", "2026-02-01"),
    ("replay", "--yes"),
    ("replay", "--plan"),
    ("archive",),
    ("history", "cities", "1"),
)


def run_with(operator: Operator, source: Path, command: tuple[str, ...]) -> RunResult:
    return operator.run(*command, "--source", f"file://{source}")


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_source_one_level_too_deep_is_refused_and_the_archive_named(
    operator: Operator, command: tuple[str, ...]
) -> None:
    result = run_with(operator, operator.archive / "commands", command)

    assert result.code == 2
    assert f"{operator.archive}/commands is not an archive" in result.err
    assert "it contains 2026/" in result.err
    assert f"`commands/` is in file://{operator.archive}\n" in result.err
    assert operator.rows("SELECT FROM forebay.ledger") == []


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_source_one_level_too_high_is_refused_and_the_archive_named(
    operator: Operator, command: tuple[str, ...]
) -> None:
    result = run_with(operator, operator.archive.parent, command)

    assert result.code == 2
    assert f"`commands/` is in file://{operator.archive}\n" in result.err


def test_a_source_several_levels_too_deep_is_refused_even_if_it_is_empty(
    operator: Operator,
) -> None:
    hour = operator.archive / "commands" / "2026" / "01" / "01" / "05"
    hour.mkdir()
    result = run_with(operator, hour, ("rebuild", "--yes"))

    assert result.code == 2
    assert f"`commands/` is in file://{operator.archive}\n" in result.err
    result = run_with(operator, operator.archive / "commands", ("verify",))
    assert result.code == 2


def test_a_folder_with_something_else_is_refused_by_its_contents(
    operator: Operator, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("a")
    (other / "photos").mkdir()
    (other / "photos" / "a.png").write_text("a")

    result = run_with(operator, other, ("verify",))

    assert result.code == 2
    assert "it contains notes.txt, photos/; name the folder that contains it" in result.err


def test_a_bucket_with_a_copy_below_a_folder_is_refused(site: Site, emulator: Emulator) -> None:
    emulator.s3.put_object(Bucket=site.bucket, Key="copy/commands/2026/01/01/00/a.gz", Body=b"")

    with pytest.raises(UsageError, match=f"`commands/` is in s3://{site.bucket}/copy"):
        check_layout(site.store)


def test_an_empty_archive_and_one_without_commands_have_sentences_of_their_own(
    operator: Operator, tmp_path: Path
) -> None:
    empty = tmp_path / "nothing" / "here"
    empty.mkdir(parents=True)
    fresh = tmp_path / "fresh"
    (fresh / "imports" / "cities").mkdir(parents=True)
    (fresh / "imports" / "cities" / "a.csv").write_text("")

    for source, message in ((empty, "is empty"), (fresh, "has no commands yet")):
        codes = {}
        for command in READERS[:5]:
            result = run_with(operator, source, command)
            codes[" ".join(command)] = result.code
            assert f"{source} {message}" in result.err + result.out, command
        assert list(codes.values()) == [3, 5, 5, 5, 0]
    assert operator.rows("SELECT FROM forebay.runs") == []


def test_no_commands_up_to_the_cut_is_not_agreement_and_the_message_names_the_next_step(
    applied: Operator,
) -> None:
    result = applied.done("verify", "--at", "2025-12-31", code=5)
    assert (result["agrees"], result["differences"], result["compared"]) == (False, 0, 0)

    run_result = applied.run("verify", "--at", "2025-12-31")
    assert run_result.code == 5
    assert "nothing was compared" in run_result.out
    assert "agree" not in run_result.out.replace("agreement", "")
    assert "forebay verify --at now" in run_result.out
    applied.done("verify", "--at", "now")


def test_no_applied_command_is_not_agreement(operator: Operator) -> None:
    result = operator.done("verify", "--at", "2026-02-01", code=5)

    assert (result["agrees"], result["differences"]) == (False, 0)
    assert "none of these objects is applied" in operator.run("verify", "--at", "2026-02-01").out


def test_an_empty_archive_of_an_applied_ledger_is_incomplete(
    applied: Operator, tmp_path: Path
) -> None:
    empty = tmp_path / "nothing" / "here"
    empty.mkdir(parents=True)
    shutil.rmtree(applied.archive)

    result = run_with(applied, empty, ("verify",))

    assert result.code == 5
    assert "is incomplete: it lacks 12 objects" in result.err
