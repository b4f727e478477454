"""The spool: the records that are read back after any end of a process."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.firehose.spool import (
    Spool,
    SpoolCorruptError,
    SpoolWriteError,
)

FIRST = [b"one\n", b"", b"\x00\xff" * 9]
SECOND = [b"four\n" * 2_000]
THIRD = [b"five\n"]
LARGE = 2**40


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Spool]:
    """Open a spool, and close it at the end of the block."""
    spool = Spool(directory)
    try:
        yield spool
    finally:
        await asyncio.to_thread(spool.close)


def image(directory: Path, target: Path) -> Path:
    """Copy the files as a kill leaves them: the log is there, the index in memory is not."""
    target.mkdir()
    for name in ("spool.sqlite3", "spool.sqlite3-wal"):
        shutil.copy(directory / name, target / name)
    return target


def log(directory: Path) -> Path:
    return directory / "spool.sqlite3-wal"


def read_back(directory: Path, stream: str = "s") -> list[bytes]:
    """Return all records that a new process recovers, in order."""

    async def scenario() -> list[bytes]:
        async with running(directory) as spool:
            return [record for item in spool.objects(stream) for record in spool.read(item)]

    return asyncio.run(scenario())


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, list[int]]:
    """The files after a kill that followed five puts, and the log's length after each put."""

    async def scenario() -> tuple[Path, list[int]]:
        async with running(tmp_path / "running") as spool:
            ends = []
            for records in (FIRST, SECOND, THIRD, SECOND, FIRST):
                await spool.put("s", records, LARGE)
                ends.append(log(tmp_path / "running").stat().st_size)
            return image(tmp_path / "running", tmp_path / "killed"), ends

    return asyncio.run(scenario())


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_anywhere_leaves_the_puts_before_it(
    killed: tuple[Path, list[int]], data: st.DataObject
) -> None:
    directory, ends = killed
    cut = data.draw(st.integers(0, ends[-1]))
    target = image(directory, directory.parent / "cut")
    os.truncate(log(target), cut)
    puts = zip((FIRST, SECOND, THIRD, SECOND, FIRST), ends, strict=True)
    try:
        assert read_back(target) == [r for records, end in puts if end <= cut for r in records]
    finally:
        shutil.rmtree(target)


def test_a_new_process_goes_on_where_the_old_was_killed_in_a_write(
    killed: tuple[Path, list[int]],
) -> None:
    directory, ends = killed
    os.truncate(log(directory), ends[1] - 50)

    async def scenario() -> None:
        async with running(directory) as spool:
            assert [item.records for item in spool.objects("s")] == [len(FIRST)]
            await spool.put("s", THIRD, LARGE)
            assert [item.records for item in spool.objects("s")] == [len(FIRST) + len(THIRD)]

    asyncio.run(scenario())
    assert read_back(directory) == FIRST + THIRD


def test_damage_in_the_database_is_refused(killed: tuple[Path, list[int]]) -> None:
    directory, _ends = killed
    read_back(directory)  # a clean end moves the log into the database
    content = (directory / "spool.sqlite3").read_bytes()

    for name, damaged, reason in (
        ("record", content.replace(b"four\nfour\n", b"four\nf0ur\n", 1), "is damaged in object"),
        ("header", b"x" + content[1:], "not a database"),
        ("page", content[:8192] + bytes(4096) + content[12288:], "is damaged"),
    ):
        (directory.parent / name).mkdir()
        (directory.parent / name / "spool.sqlite3").write_bytes(damaged)
        with pytest.raises(SpoolCorruptError, match=reason):
            Spool(directory.parent / name)


def test_an_acknowledgement_waits_for_the_sync(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    assert spool._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert spool._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_other_users_can_not_read_the_records(killed: tuple[Path, list[int]]) -> None:
    files = list((killed[0].parent / "running").glob("spool.*")) + list(killed[0].iterdir())

    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@contextlib.contextmanager
def held_up(spool: Spool) -> Iterator[None]:
    """Keep the spool's thread busy during the block, so that changes wait."""
    end = threading.Event()
    spool._thread.submit(end.wait)
    try:
        yield
    finally:
        end.set()


def test_puts_that_wait_share_a_commit(tmp_path: Path) -> None:
    statements: list[str] = []

    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            spool._writer.set_trace_callback(statements.append)
            with held_up(spool):
                puts = [spool.put("s", [b"x"], LARGE) for _ in range(50)]
            await asyncio.gather(*puts)

    asyncio.run(scenario())
    assert statements.count("COMMIT") == 1
    assert read_back(tmp_path / "spool") == [b"x"] * 50


def test_puts_that_share_a_commit_do_not_share_a_full_object(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        async with running(tmp_path / "spool") as spool:
            with held_up(spool):
                puts = [spool.put("s", [b"x" * 60], 100) for _ in range(3)]
            await asyncio.gather(*puts)
            return [item.bytes for item in spool.objects("s")]

    assert asyncio.run(scenario()) == [120, 60]


def test_a_caller_that_goes_away_does_not_disturb_its_neighbours(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            with held_up(spool):
                leaving, staying = spool.put("s", FIRST, LARGE), spool.put("s", SECOND, LARGE)
                leaving.cancel()
                await asyncio.sleep(0)
            await staying

    asyncio.run(scenario())
    assert read_back(tmp_path / "spool") == SECOND


def test_a_defect_reaches_the_callers_of_its_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            with pytest.raises(TypeError):
                await spool._submit(lambda _: len(5))  # type: ignore[arg-type]
            await spool.put("s", THIRD, LARGE)

    asyncio.run(scenario())
    assert read_back(tmp_path / "spool") == THIRD


def test_an_object_keeps_its_id_over_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "running") as spool:
            await spool.put("s", FIRST, LARGE)
            await spool.seal("s")
            await spool.put("s", SECOND, LARGE)
            before = spool.objects("s")
            image(tmp_path / "running", tmp_path / "killed")
        async with running(tmp_path / "killed") as spool:
            assert spool.objects("s") == before
            assert [item.is_sealed for item in before] == [True, False]

    asyncio.run(scenario())


def test_a_removed_object_does_not_come_back_and_takes_no_room_after_a_start(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            await spool.put("s", [os.urandom(1_000_000)], LARGE)
            await spool.seal("s")
            await spool.remove(spool.objects("s")[0])

    asyncio.run(scenario())
    assert read_back(tmp_path / "spool") == []
    assert sum(path.stat().st_size for path in (tmp_path / "spool").glob("*3*")) < 100_000


@pytest.mark.usefixtures("file_size_limit")
def test_a_write_that_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            await spool.put("s", FIRST, LARGE)
            room = log(tmp_path / "spool").stat().st_size + 20_000
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            refused = [spool.put("s", [b"x" * 30_000], LARGE) for _ in range(2)]
            for outcome in await asyncio.gather(*refused, return_exceptions=True):
                assert isinstance(outcome, SpoolWriteError)
            assert spool.refusal is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await spool.put("s", THIRD, LARGE)
            assert spool.refusal is None

    asyncio.run(scenario())
    assert read_back(tmp_path / "spool") == FIRST + THIRD


def test_only_streams_with_records_are_resumed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "spool") as spool:
            for name in ("..", "empty", "full"):
                await spool.put(name, FIRST, LARGE)
            await spool.remove(spool.objects("empty")[0])
        async with running(tmp_path / "spool") as spool:
            assert spool.streams() == ["..", "full"]

    asyncio.run(scenario())
