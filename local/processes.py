"""One process of the stack: its specification, its start, its log, and its orderly end."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from pathlib import Path

import psutil

from local.errors import ToolFailedError
from local.events import Listener

_LOG_TAIL_LINES = 15
_POLL_SECONDS = 0.02


class StopOrder(IntEnum):
    """The order of stopping: from the clients inwards, so that no server loses its dependencies."""

    TOOL = 0
    GATEWAY = 1
    FIREHOSE = 2
    EMULATOR = 3
    READ_CACHE = 4
    REPLICA = 5
    PRIMARY = 6


@dataclass(frozen=True, slots=True)
class User:
    """The account that a process runs under, if not the current user's."""

    name: str
    uid: int
    gid: int
    #: The command prefix that changes the user; if empty, `spawn` changes it.
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One process to start: its command, and how to stop it."""

    name: str
    command: Sequence[str | Path]
    #: Receives the process's output; the previous run's log is kept as `….old`.
    log: Path
    rank: StopOrder = StopOrder.TOOL
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    #: The process's standard input.
    stdin: bytes = b""
    user: User | None = None
    #: The signal that requests an orderly end.
    polite_signal: int = signal.SIGTERM
    #: The signal after the patience has run out, or in a hurry.
    rude_signal: int = signal.SIGKILL
    patience_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """A started process. It leads a process group, which its own children belong to."""

    spec: Spec
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """The process's name in messages."""
        return self.spec.name

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def describe_end(self) -> str:
        """Describe the exit code, `code 1` or `signal SIGKILL`, with the end of the log."""
        code = self.process.wait()
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        return f"{reason}; {self.describe_log()}"

    def describe_log(self) -> str:
        """Return the log's path and its last lines."""
        return f"the end of {self.spec.log}:\n{self.log_tail()}"

    def log_tail(self) -> str:
        """The last lines of the process's log."""
        lines = self.spec.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:]) or "(the log is empty)"


def spawn(spec: Spec) -> Child:
    """Start the process in its own session, so that the terminal's Ctrl-C does not reach it.

    Raises:
        ToolFailedError: the program can't be started.
    """
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        spec.log.replace(spec.log.with_name(f"{spec.log.name}.old"))
    user = spec.user if spec.user is not None and not spec.user.prefix else None
    prefix = spec.user.prefix if spec.user is not None else ()
    # An unnamed file, because the input may contain a password.
    with spec.log.open("wb") as log, tempfile.TemporaryFile() as stdin:
        stdin.write(spec.stdin)
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603
                [*prefix, *spec.command],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(spec.env),
                cwd=spec.cwd,
                start_new_session=True,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        except OSError as exc:
            raise ToolFailedError(f"{spec.name} can't be started: {exc}") from exc
    return Child(spec, process)


def stop_all(
    children: Iterable[Child],
    *,
    hurry: Callable[[], bool] = lambda: False,
    listener: Listener | None = None,
) -> None:
    """Stop the processes in the order of their ranks; return when they and their groups have ended.

    Args:
        children: the processes to stop.
        hurry: as soon as it returns True, processes get no more time for an orderly end.
        listener: receives each end.
    """
    ranked = sorted(children, key=lambda child: child.spec.rank)
    for _, group in groupby(ranked, key=lambda child: child.spec.rank):
        _stop_together(
            [child for child in group if not child.has_ended()], hurry, listener or Listener()
        )


def _stop_together(children: list[Child], hurry: Callable[[], bool], listener: Listener) -> None:
    start = time.monotonic()
    for child in children:
        child.process.send_signal(child.spec.polite_signal)
    rushed: set[int] = set()
    while children:
        elapsed = time.monotonic() - start
        for child in list(children):
            pid = child.process.pid
            if child.has_ended():
                children.remove(child)
                signal_group(pid)
                listener.report_stop(child.name, elapsed, forced=pid in rushed)
            elif pid not in rushed and (hurry() or elapsed > child.spec.patience_seconds):
                child.process.send_signal(child.spec.rude_signal)
                rushed.add(pid)
        time.sleep(_POLL_SECONDS if children else 0)


def signal_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to the group of a process, such as a Lambda worker in a long call.

    Only for a process that runs or has just ended: later, another process may have its pid.
    """
    # macOS returns EPERM for a group of zombies only.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def is_pid_alive(pid: int) -> bool:
    """Return whether a process has this pid; a zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
