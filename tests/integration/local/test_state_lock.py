"""Only one start at a time may use a state folder, and a start needs free space."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local.errors import StateUnusableError
from local.settings import ROOT, LocalSettings, Ports
from local.stack import LocalStack
from local.state import check_free_space, lock_state

# Simulates a killed start: its warden keeps the descriptor open while it cleans up.
DIES_AND_LEAVES_A_WARDEN = """
import os, subprocess, sys
from pathlib import Path
from local.state import lock_state

with lock_state(Path(sys.argv[1])) as descriptor:
    subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=int(sys.argv[2]), pass_fds=[descriptor],
    )
    os.kill(os.getpid(), 9)
"""


def test_a_second_start_on_the_same_state_is_refused_with_the_holder_and_the_way_out(
    tmp_path: Path,
) -> None:
    refusal = f"process {os.getpid()} already runs the stack on {re.escape(str(tmp_path))}.*PORT="

    with (
        lock_state(tmp_path),
        pytest.raises(StateUnusableError, match=refusal),
        # Fails immediately, without waiting for the live holder.
        lock_state(tmp_path, on_wait=pytest.fail),
    ):
        pass


def test_the_state_is_free_again_after_the_block(tmp_path: Path) -> None:
    with lock_state(tmp_path):
        pass
    with lock_state(tmp_path):
        pass


def test_a_start_waits_until_the_warden_of_a_killed_one_has_cleaned_up(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    dying = subprocess.run(
        [sys.executable, "-c", DIES_AND_LEAVES_A_WARDEN, tmp_path, str(reading)],
        cwd=ROOT,
        pass_fds=[reading],
        check=False,
    )
    os.close(reading)
    assert dying.returncode < 0
    reasons: list[str] = []

    def finish_cleaning_up(reason: str) -> None:
        reasons.append(reason)
        os.close(writing)

    with lock_state(tmp_path, on_wait=finish_cleaning_up):
        assert reasons == ["an earlier start was killed; waiting until its servers are stopped"]


def test_a_folder_that_can_not_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(StateUnusableError, match=r"can't be used .*FOREBAY_STATE"),
        lock_state(tmp_path / "file" / "state"),
    ):
        pass


def test_too_little_room_is_a_sentence(tmp_path: Path) -> None:
    check_free_space(tmp_path, 1)

    with pytest.raises(
        StateUnusableError, match=r"only \d+ MiB are free .* 1073741824 MiB are required"
    ):
        check_free_space(tmp_path, 1024**5)


def test_a_running_stack_stops_before_its_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.stack.MIN_FREE_BYTES_RUNNING", 1024**5)
    stack = LocalStack(LocalSettings(tmp_path, Ports.from_base(1)))

    with pytest.raises(StateUnusableError, match=r"1073741824 MiB are required"):
        stack.check()
