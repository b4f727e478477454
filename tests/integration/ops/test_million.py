"""The proof at size: archives of one and five million commands. Run by `make test-long`."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from local.postgres.config import OWNER
from tests.fixtures.archives import Recipe, write_archive
from tests.fixtures.operating import Measured, Operator, kill_hard
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.integration.ops.test_replay import (
    _add,
    _apply_live,
    _live_lines,
    _run_is,
    _run_of,
    _wait_for_objects,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(5_400), pytest.mark.xdist_group("million")]

AT = ("--at", "2026-02-01")
MAX_MEBIBYTES = 256


@pytest.fixture(scope="module")
def databases(postgres_cluster: PostgresServer) -> Iterator[Callable[[], str]]:
    with ExitStack() as opened:
        yield lambda: postgres_cluster.url(
            OWNER, opened.enter_context(cloned_database(postgres_cluster))
        )


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory, databases: Callable[[], str]) -> Operator:
    """An operator of a database with the archive of a million commands, replayed once."""
    archive = tmp_path_factory.mktemp("million") / "archive"
    write_archive(archive, Recipe(1_000_000))
    operator = Operator(archive, databases())
    measurement = operator.measured("replay", "--yes")
    report("replay into empty tables, poison found", measurement, operator)
    assert measurement.peak_mebibytes <= MAX_MEBIBYTES
    return operator


def report(what: str, measured: Measured, operator: Operator) -> None:
    """Print a figure, with its ratio to a plain COPY of the final rows on the same machine."""
    rows, seconds = plain_copy(operator.database_url)
    commands = measured.json["commands"]
    print(  # noqa: T201 - the figures are the purpose of the run
        f"\n{what}: {commands:,} commands in {measured.seconds:.1f} s, "
        f"{commands / measured.seconds:,.0f}/s, peak {measured.peak_mebibytes:.0f} MiB; "
        f"COPY of {rows:,} rows {seconds:.1f} s, {rows / seconds:,.0f}/s; "
        f"time {measured.seconds / seconds:.1f} times COPY's"
    )


def plain_copy(url: str) -> tuple[int, float]:
    """Return rows and seconds of a COPY of the current cities into an equal table."""
    with psycopg.connect(url) as connection:
        with connection.cursor().copy("COPY cities TO STDOUT") as out:
            rows = b"".join(bytes(block) for block in out)
        connection.execute("CREATE TABLE plain (LIKE cities INCLUDING ALL)")
        started = time.monotonic()
        with connection.cursor().copy("COPY plain FROM STDIN") as copy:
            copy.write(rows)
        seconds = time.monotonic() - started
        connection.rollback()
    return rows.count(b"\n"), seconds


def test_a_second_replay_changes_nothing_and_verify_is_clean(million: Operator) -> None:
    before = million.dump()
    again = million.measured("replay", "--yes")
    report("replay again", again, million)
    checked = million.measured("verify", *AT)
    report("verify", checked, million)

    assert again.json["applied"] == again.json["rejected"] == 0
    assert million.dump() == before
    assert checked.json["agrees"] is True
    assert max(again.peak_mebibytes, checked.peak_mebibytes) <= MAX_MEBIBYTES


def test_a_rebuild_is_byte_by_byte_the_live_tables(
    million: Operator, databases: Callable[[], str]
) -> None:
    other = replace(million, database_url=databases())
    measurement = other.measured("rebuild", "--yes")
    report("rebuild", measurement, other)

    assert other.dump() == million.dump()
    assert measurement.peak_mebibytes <= MAX_MEBIBYTES
    other.done("verify", *AT)


def test_a_rebuild_to_a_moment_is_the_snapshot_taken_then(
    million: Operator, databases: Callable[[], str]
) -> None:
    then = replace(million, database_url=databases())
    then.done("replay", "--yes", "--to", "2026-01-01T00:06:00.001")
    snapshot = then.dump()
    other = replace(million, database_url=databases())
    other.done("rebuild", "--yes", "--until", "2026-01-01T00:06:00")

    assert other.dump() == snapshot
    other.done("verify", "--at", "2026-01-01T00:06:00", "--without-ledger")


@pytest.mark.parametrize("live", [False, True])
def test_killed_three_times_it_resumes_to_a_clean_end(
    million: Operator, databases: Callable[[], str], tmp_path: Path, *, live: bool
) -> None:
    shutil.copytree(million.archive, tmp_path / "archive")
    operator = Operator(tmp_path / "archive", databases())
    failed: list[BaseException] = []
    writer = threading.Thread(target=_write_until_done, args=(operator, failed, ended := []))
    process = operator.start("replay", "--yes")
    run = _run_of(process)
    if live:
        writer.start()
    for objects in (60, 150, 240):
        _wait_for_objects(operator, run, objects)
        kill_hard(process)
        process = operator.start("replay", "--resume", run)
        _run_is(operator, run, "running")
    _, err = process.communicate()
    ended.append(True)
    if live:
        writer.join()

    assert process.returncode == 0, err[-2000:]
    assert not failed
    operator.done("verify", *AT)


def _write_until_done(operator: Operator, failed: list[BaseException], ended: list[bool]) -> None:
    """Add and apply new objects of live traffic one after the other, until the replay ends."""
    number = 0
    while not ended and not failed:
        key = _add(operator, f"live-{number:05d}", b"".join(_live_lines(number)))
        _apply_live(operator, [key], failed)
        number += 1
        time.sleep(0.2)


def test_memory_does_not_grow_with_the_archive(
    tmp_path_factory: pytest.TempPathFactory, databases: Callable[[], str]
) -> None:
    archive = tmp_path_factory.mktemp("five") / "archive"
    write_archive(archive, Recipe(5_000_000))
    operator = Operator(archive, databases())
    replayed = operator.measured("replay", "--yes")
    report("replay of five million", replayed, operator)
    checked = operator.measured("verify", *AT)
    report("verify of five million", checked, operator)
    other = replace(operator, database_url=databases())
    rebuilt = other.measured("rebuild", "--yes")
    report("rebuild of five million", rebuilt, other)

    peaks = [measurement.peak_mebibytes for measurement in (replayed, checked, rebuilt)]
    assert max(peaks) <= MAX_MEBIBYTES
    other.done("verify", *AT)
