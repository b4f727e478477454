"""Check whether a started process still runs, and stop processes in order.

The supervisor uses this module to stop the stack, the warden to do so if the supervisor was killed,
and the next start to stop the remaining processes of both.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from local.events import Listener, ServerStopped, ignore

_POLL_SECONDS = 0.02
# The rude signal ends a process soon; Postgres needs a moment for its children.
_RUDE_PATIENCE_SECONDS = 6.0
# The start time is relative to the boot time, which moves a little when the clock is set.
_START_TIME_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """One process of the stack, and how to stop it.

    Each process leads its own process group, so that its children (Lambda workers, the CDK app) can
    be stopped with it.
    """

    name: str
    pid: int
    #: Start time in seconds since the epoch: distinguishes it from a later process with this pid.
    started: float
    #: Processes with a lower rank are stopped first; those of the same rank together.
    rank: int
    #: The signal that requests an orderly end.
    polite_signal: int = signal.SIGTERM
    #: The signal after the patience has run out, or in a hurry.
    rude_signal: int = signal.SIGKILL
    patience_seconds: float = 10.0


def start_time(pid: int) -> float:
    """Return the process's start in seconds since the epoch; 0 if the process has ended."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_alive(process: Running) -> bool:
    """Return whether this process still runs, rather than a later process with its pid."""
    drift = abs(start_time(process.pid) - process.started)
    return drift < _START_TIME_TOLERANCE_SECONDS and is_pid_alive(process.pid)


def is_pid_alive(pid: int) -> bool:
    """Return whether a process has this pid; a zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_all(
    processes: Iterable[Running],
    *,
    alive: Callable[[Running], bool] = is_alive,
    hurry: Callable[[], bool] = lambda: False,
    listener: Listener = ignore,
) -> None:
    """Stop the processes, lowest rank first; return when they and their groups have ended.

    Args:
        processes: the processes to stop.
        alive: whether a process still runs; the parent has a better way to know.
        hurry: as soon as it returns True, processes get no more time for an orderly end.
        listener: receives each end.
    """
    by_rank: dict[int, list[Running]] = {}
    for process in processes:
        by_rank.setdefault(process.rank, []).append(process)
    for rank in sorted(by_rank):
        _stop_together(by_rank[rank], alive, hurry, listener)


def _stop_together(
    processes: list[Running],
    alive: Callable[[Running], bool],
    hurry: Callable[[], bool],
    listener: Listener,
) -> None:
    start = time.monotonic()
    waiting = [process for process in processes if alive(process)]
    for process in waiting:
        _signal(process, process.polite_signal)
    rushed_at: dict[Running, float] = {}
    while waiting:
        elapsed = time.monotonic() - start
        for process in list(waiting):
            if not alive(process):
                waiting.remove(process)
                end_group(process)
                listener(ServerStopped(process.name, elapsed, forced=process in rushed_at))
            elif process not in rushed_at and (hurry() or elapsed > process.patience_seconds):
                _signal(process, process.rude_signal)
                rushed_at[process] = elapsed
            elif process in rushed_at and elapsed - rushed_at[process] > _RUDE_PATIENCE_SECONDS:
                _signal(process, signal.SIGKILL)
        if waiting:
            time.sleep(_POLL_SECONDS)


def _signal(process: Running, number: int) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def end_group(process: Running) -> None:
    """Kill the rest of an ended process's group, such as a Lambda worker in a long call.

    Only for a process that has just ended: later, another process may have its pid.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # macOS returns EPERM for a group of zombies only.
        return


def read_register(path: Path) -> list[Running]:
    """Return the registered processes; empty if the register is missing or incomplete."""
    try:
        return [Running(**entry) for entry in json.loads(path.read_bytes())]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def write_register(path: Path, processes: Iterable[Running]) -> None:
    """Register the running processes, so that they can be found after their parent has ended."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([asdict(process) for process in processes]))
    temporary.replace(path)
