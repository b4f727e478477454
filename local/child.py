"""One process of the stack: its specification, its start, and its log."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.errors import ToolFailedError
from local.processes import Running, start_time

_LOG_TAIL_LINES = 15


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
    #: Processes with a lower rank are stopped first.
    rank: int
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    #: The process's standard input.
    stdin: bytes = b""
    user: User | None = None
    polite_signal: int = signal.SIGTERM
    rude_signal: int = signal.SIGKILL
    patience_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """A started process."""

    spec: Spec
    running: Running
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """The process's name in messages."""
        return self.spec.name

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def log_tail(self) -> str:
        """The last lines of the process's log."""
        try:
            lines = self.spec.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
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
    running = Running(
        name=spec.name,
        pid=process.pid,
        started=start_time(process.pid),
        rank=spec.rank,
        polite_signal=spec.polite_signal,
        rude_signal=spec.rude_signal,
        patience_seconds=spec.patience_seconds,
    )
    return Child(spec=spec, running=running, process=process)


def describe_code(code: int) -> str:
    """Describe an exit code: `code 1`, `signal SIGKILL`."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
