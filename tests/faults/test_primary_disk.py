"""The primary's disk is full."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.faults import lasting
from tests.fixtures.faulty import FaultyStack

_SIZE_MEBIBYTES = 700
MEBIBYTE = 1024 * 1024


@pytest.fixture
def small_disk(faulty_stack: FaultyStack) -> Iterator[Path]:
    """A small file system that holds the primary's data during the test."""
    home = faulty_stack.settings.postgres / "primary"
    disk = faulty_stack.settings.postgres / "small-disk"
    disk.mkdir()
    size = f"size={_SIZE_MEBIBYTES}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    disk.chmod(0o755)
    faulty_stack.stop("Postgres primary")
    move(home, disk / "primary")
    home.symlink_to(disk / "primary")
    faulty_stack.start_primary()
    yield disk
    faulty_stack.stop("Postgres primary")
    home.unlink()
    move(disk / "primary", home)
    subprocess.run(["umount", str(disk)], check=True)
    faulty_stack.start_primary()


def move(source: Path, target: Path) -> None:
    """Move a folder to another file system, with owners and permissions."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    shutil.rmtree(source)


def fill(disk: Path) -> Path:
    """Fill the file system to the last byte; return the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * MEBIBYTE)
        except OSError:
            return filler


def test_a_primary_whose_disk_is_full(faulty_stack: FaultyStack, small_disk: Path) -> None:
    stack = faulty_stack
    with stack.fault(
        "primary's disk full",
        f"its data is on a tmpfs of {_SIZE_MEBIBYTES} MiB, which a file fills to the last byte; "
        "then the file is removed and the server started again if it has ended",
        part="primary",
    ) as watched:
        filler = fill(small_disk)
        child = stack.child("Postgres primary")
        # The server runs on until it needs another block or log segment.
        deadline = time.monotonic() + lasting(30)
        while time.monotonic() < deadline:
            with filler.open("ab", buffering=0) as file:
                top_up(file)
            time.sleep(0.5)
        ended = child.has_ended()
        filler.unlink()
        if ended:
            stack.local._supervisor._forget(child)
            stack.start_primary()
        watched.ends()
        text = stack.local.primary.log.read_text(errors="replace")
        watched.fault.remark = (
            f"{text.count('No space left on device')} errors of the server, which "
            f"{'ended' if ended else 'went on'}"
        )
    assert "No space left on device" in text


def top_up(file: object) -> None:
    """Write until no space is left."""
    try:
        while True:
            file.write(b"x" * 8192)  # type: ignore[attr-defined]
    except OSError:
        return
