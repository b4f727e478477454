"""A rebuild by several processes: the effects of a failure of one of them."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from forebay.errors import TransientError
from ops.context import Context
from ops.cut import EVERYTHING
from ops.errors import UnavailableError
from ops.folding.partition import Partition
from ops.folding.scan import Numbers, Scanned
from ops.rebuild.crew import Crew
from ops.rebuild.share import Share
from tests.fixtures.emulator import wait_until
from tests.fixtures.operating import Operator, kill_hard


class Rebuilding:
    """A rebuild that has read the archive, and waits for a table that another session locks."""

    def __init__(self, process: subprocess.Popen[str], other: psycopg.Connection) -> None:
        self.process = process
        self.readers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        self._other = other

    def has_left_nobody(self) -> bool:
        return not any(one.is_running() and one.status() != "zombie" for one in self.readers)

    def end(self) -> tuple[int, str]:
        """Release the table; return the rebuild's exit code and its messages."""
        self._other.rollback()
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextmanager
def rebuilding(operator: Operator) -> Iterator[Rebuilding]:
    with psycopg.connect(operator.database_url) as other:
        other.execute("SELECT FROM cities")
        process = operator.start("rebuild", "--yes", "--processes", "2")
        try:
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
            wait_until(lambda: bool(operator.rows(waits)), "it waits for the table")
            new_rebuilding = Rebuilding(process, other)
            assert len(new_rebuilding.readers) == 2
            yield new_rebuilding
        finally:
            if process.poll() is None:
                kill_hard(process)


@pytest.fixture
def empty(operator: Operator, another_database: Callable[[], str]) -> Operator:
    """An operator with the same archive and an empty database that has its schema."""
    return replace(operator, database_url=another_database())


@pytest.mark.parametrize("which", [0, 1])
def test_a_process_that_is_killed_stops_it_and_changes_nothing(empty: Operator, which: int) -> None:
    with rebuilding(empty) as rebuild:
        rebuild.readers[which].kill()
        code, err = rebuild.end()
        wait_until(rebuild.has_left_nobody, "the other one has ended")
    assert (code, "exit code -9); nothing was changed" in err) == (4, True), err
    assert empty.rows("SELECT 1 FROM cities") == empty.rows("SELECT 1 FROM forebay.ledger") == []


def test_if_it_is_killed_none_of_its_processes_is_left(empty: Operator) -> None:
    with rebuilding(empty) as rebuild:
        kill_hard(rebuild.process)
        wait_until(rebuild.has_left_nobody, "they have ended")


def test_an_interrupt_of_all_of_them_ends_it_without_a_word_of_the_others(empty: Operator) -> None:
    with rebuilding(empty) as rebuild:
        for reader in rebuild.readers:
            reader.send_signal(signal.SIGINT)
        rebuild.process.send_signal(signal.SIGINT)
        code, err = rebuild.end()
        wait_until(rebuild.has_left_nobody, "they have ended")
    assert code == 130
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


class OddError(Exception):
    """An error that can't be unpickled, as its arguments are lost."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class FailingShare(Share):
    """A share with an archive that fails."""

    def read(self, advance: Callable[[int], None]) -> Scanned:  # noqa: ARG002
        if self.cut == "odd":
            raise OddError(1, 2)
        raise TransientError("the store did not answer")


@pytest.mark.parametrize(
    ("cut", "error", "said"),
    [
        (EVERYTHING, TransientError, "the store did not answer"),
        ("odd", RuntimeError, "OddError: 1 and 2"),
    ],
)
def test_a_rebuild_fails_with_the_error_of_its_process(
    tmp_path: Path, cut: str, error: type[Exception], said: str
) -> None:
    with Partition(tmp_path / "buckets", expected_bytes=1, writers=3) as partition:
        shares = [
            FailingShare(Context(), cut, partition.files, tmp_path, Numbers(reader, 2))
            for reader in range(2)
        ]
        with Crew(shares) as crew, pytest.raises(error, match=f"^{said}$") as raised:
            crew.read(lambda _: None)
    assert ", in read" in str(raised.value.__cause__), "where it failed is told"


class TalkativeShare(Share):
    """A share that returns more than a pipe holds, or never returns."""

    def read(self, advance: Callable[[int], None]) -> Scanned:
        if self.numbers.reader == 1:
            signal.pause()
        advance(0)
        return Scanned(ledger_faults=[{"key": "x" * 10_000_000}])


def test_a_process_killed_during_its_output_is_reported_as_killed(tmp_path: Path) -> None:
    with Partition(tmp_path / "buckets", expected_bytes=1, writers=3) as partition:
        shares = [
            TalkativeShare(Context(), EVERYTHING, partition.files, tmp_path, Numbers(reader, 2))
            for reader in range(2)
        ]
        with Crew(shares) as crew:
            talker, _ = crew._processes

            def kill(_: int) -> None:
                wait_until(lambda: _unread_bytes(talker.pipe.fileno()) > 1_000, "it is speaking")
                talker._process.kill()

            with pytest.raises(UnavailableError, match="exit code -9"):
                crew.read(kill)


def _unread_bytes(file: int) -> int:
    return int.from_bytes(fcntl.ioctl(file, termios.FIONREAD, bytes(4)), sys.byteorder)
