"""Tells whether a process is still the one we started, and ends processes in order.

The supervisor uses it to stop the stack, the warden to do the same when the supervisor was killed,
and the next start to clear what both left behind.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import psutil

_POLL_SECONDS = 0.02
# After the rude signal nothing can refuse for long; Postgres needs a moment for its children.
_RUDE_PATIENCE_SECONDS = 6.0
# A start time counts from the boot time, which moves a little when the clock is set.
_START_TIME_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """One process of the stack, and how it wants to be ended.

    Each leads a process group of its own, so that what it started (Lambda workers, the CDK app) can
    be ended with it.
    """

    name: str
    pid: int
    #: Start time in seconds since the epoch: tells the process from a later one with the same pid.
    started: float
    #: Processes with a lower rank are stopped first, those of one rank together.
    rank: int
    #: The signal that asks for an orderly end.
    polite_signal: int = signal.SIGTERM
    #: The signal for one that did not listen, or when somebody is in a hurry.
    rude_signal: int = signal.SIGKILL
    patience_seconds: float = 10.0


class Report(Protocol):
    """Told about each process that has ended."""

    def __call__(self, name: str, seconds: float, *, forced: bool) -> None:
        """The process `name` is gone, after `seconds`, killed if `forced`."""


def start_time(pid: int) -> float:
    """When the process started, in seconds since the epoch; 0 where it is already gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_alive(process: Running) -> bool:
    """Whether the very process that was started still runs."""
    drift = abs(start_time(process.pid) - process.started)
    return drift < _START_TIME_TOLERANCE_SECONDS and pid_is_alive(process.pid)


def pid_is_alive(pid: int) -> bool:
    """Whether a process has this number; a zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_all(
    processes: Iterable[Running],
    *,
    alive: Callable[[Running], bool] = is_alive,
    hurry: Callable[[], bool] = lambda: False,
    report: Report | None = None,
) -> None:
    """Ends all of them, lowest rank first, and returns when they and their groups are gone.

    Args:
        processes: what to end.
        alive: whether one still runs; the parent has a better way to know than others.
        hurry: once true, nobody is given the time for an orderly end any more.
        report: told about each end.
    """
    by_rank: dict[int, list[Running]] = {}
    for process in processes:
        by_rank.setdefault(process.rank, []).append(process)
    for rank in sorted(by_rank):
        _stop_together(by_rank[rank], alive, hurry, report)


def _stop_together(
    processes: list[Running],
    alive: Callable[[Running], bool],
    hurry: Callable[[], bool],
    report: Report | None,
) -> None:
    begun = time.monotonic()
    waiting = [process for process in processes if alive(process)]
    for process in waiting:
        _signal(process, process.polite_signal)
    rushed: dict[Running, float] = {}
    while waiting:
        elapsed = time.monotonic() - begun
        for process in list(waiting):
            if not alive(process):
                waiting.remove(process)
                end_group(process)
                if report is not None:
                    report(process.name, elapsed, forced=process in rushed)
            elif process not in rushed and (hurry() or elapsed > process.patience_seconds):
                _signal(process, process.rude_signal)
                rushed[process] = elapsed
            elif process in rushed and elapsed - rushed[process] > _RUDE_PATIENCE_SECONDS:
                _signal(process, signal.SIGKILL)
        if waiting:
            time.sleep(_POLL_SECONDS)


def _signal(process: Running, number: int) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def end_group(process: Running) -> None:
    """Kills what an ended process left behind in its group, such as a Lambda worker in a long call.

    Only for a process that has ended just now: later, others may carry the same number.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group of zombies only.
        return


def read_register(path: Path) -> list[Running]:
    """The processes that a start has noted; none where there is no (whole) register."""
    try:
        return [Running(**entry) for entry in json.loads(path.read_bytes())]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def write_register(path: Path, processes: Iterable[Running]) -> None:
    """Notes the running processes, so that they can be found when their parent is gone."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([asdict(process) for process in processes]))
    temporary.replace(path)
