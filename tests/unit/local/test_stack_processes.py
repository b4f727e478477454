"""The register of running processes, and the definition of alive."""

import os
from dataclasses import replace
from pathlib import Path

from local.processes import (
    Running,
    is_alive,
    read_register,
    start_time,
    stop_all,
    write_register,
)

OURS = Running(name="tests", pid=os.getpid(), started=start_time(os.getpid()), rank=1)


def test_the_register_gives_back_what_was_noted(tmp_path: Path) -> None:
    noted = [OURS, replace(OURS, name="other", rank=2, patience_seconds=0.5)]

    write_register(tmp_path / "processes.json", noted)

    assert read_register(tmp_path / "processes.json") == noted


def test_no_register_and_a_torn_one_name_nobody(tmp_path: Path) -> None:
    torn = tmp_path / "processes.json"
    assert read_register(torn) == []

    torn.write_text('[{"name": "emul')

    assert read_register(torn) == []


def test_a_process_is_the_one_that_was_started_only_with_its_start_time() -> None:
    assert is_alive(OURS)
    assert not is_alive(replace(OURS, started=OURS.started - 60))


def test_those_of_one_rank_are_stopped_before_the_next_rank() -> None:
    """Checked with fake processes that end at the first check."""
    names: list[str] = []

    def alive(process: Running) -> bool:
        names.append(process.name)
        return False

    stop_all(
        [replace(OURS, name=name, rank=rank) for name, rank in (("b", 2), ("a", 1))], alive=alive
    )

    assert names == ["a", "b"]
