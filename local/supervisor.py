"""Start the processes of the stack, detect their unexpected end, and stop all of them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from local.child import Child, Spec, describe_code, spawn
from local.errors import ChildDiedError, StartTimeoutError, StoppingError, ToolFailedError
from local.events import Listener, ignore
from local.processes import (
    end_group,
    is_alive,
    read_register,
    stop_all,
    write_register,
)
from local.warden import READY

_POLL_SECONDS = 0.02
_ROOT = Path(__file__).resolve().parent.parent


class Supervisor:
    """The parent of all processes of one stack; leaving its `with` block stops them.

    Processes may be started from several threads; only the thread that entered may stop them.
    """

    def __init__(self, register: Path, *, keep_open: Sequence[int] = ()) -> None:
        """Make a supervisor that registers its running processes in the file `register`.

        Args:
            register: read by the warden if this process is killed, and by the next start if both
                are killed.
            keep_open: descriptors (the state's lock) that the warden also keeps open until it ends.
        """
        self._register = register
        self._keep_open = tuple(keep_open)
        self._children: dict[int, Child] = {}
        # Processes that may end: tools, and servers that are being stopped.
        self._expected_to_end: set[int] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._warden = self._start_warden()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, spec: Spec) -> Child:
        """Start a process that runs until it is stopped.

        Raises:
            ToolFailedError: the program can't be started.
            StoppingError: the stack is being stopped.
        """
        return self._start(spec, expected_to_end=False)

    def run(self, spec: Spec) -> None:
        """Run a program to its end.

        Raises:
            ToolFailedError: its exit code is not 0; carries the end of its output.
            StoppingError: the stack is being stopped.
        """
        child = self._start(spec, expected_to_end=True)
        code = child.process.wait()
        self._forget(child)
        if self._stopping.is_set():
            raise StoppingError(f"{spec.name} was stopped")
        if code != 0:
            raise ToolFailedError(
                f"{spec.name} failed with {describe_code(code)}; the end of {spec.log}:\n"
                f"{child.log_tail()}"
            )

    def wait_until(
        self, ready: Callable[[], bool], *, child: Child, timeout_seconds: float
    ) -> None:
        """Return as soon as the server is ready.

        Raises:
            ChildDiedError: it, or another server of the stack, ended.
            StartTimeoutError: it was not ready in time.
            StoppingError: the stack is being stopped.
        """
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if self._stopping.is_set():
                raise StoppingError(f"{child.name} is being stopped")
            self.check()
            if time.monotonic() > deadline:
                raise StartTimeoutError(
                    f"{child.name} was not ready after {timeout_seconds:.0f} s; the end of "
                    f"{child.spec.log}:\n{child.log_tail()}"
                )
            self._stopping.wait(_POLL_SECONDS)

    def check(self) -> None:
        """Raise ChildDiedError if a server has ended unexpectedly."""
        for child in self._snapshot():
            code = child.process.poll()
            if code is None or not self._is_accident(child):
                continue
            self._forget(child)
            end_group(child.running)
            raise ChildDiedError(
                f"{child.name} ended unexpectedly with {describe_code(code)}; the end of "
                f"{child.spec.log}:\n{child.log_tail()}"
            )

    def stop_one(self, child: Child) -> None:
        """Stop one process in its orderly way; the others keep running."""
        with self._lock:
            self._expected_to_end.add(child.process.pid)
        stop_all([child.running], alive=lambda _: not child.has_ended())
        self._forget(child)

    def stop(
        self, *, hurry: Callable[[], bool] = lambda: False, listener: Listener = ignore
    ) -> None:
        """Stop all processes, lowest rank first; without patience as soon as `hurry` is true."""
        with self._lock:
            self._stopping.set()
        children = {child.process.pid: child for child in self._snapshot()}
        stop_all(
            [child.running for child in children.values()],
            alive=lambda running: not children[running.pid].has_ended(),
            hurry=hurry,
            listener=listener,
        )
        for child in children.values():
            self._forget(child)
        self._dismiss_warden()

    def _start(self, spec: Spec, *, expected_to_end: bool) -> Child:
        with self._lock:
            if self._stopping.is_set():
                raise StoppingError(
                    f"{spec.name} is not started, because the stack is being stopped"
                )
            child = spawn(spec)
            self._children[child.process.pid] = child
            if expected_to_end:
                self._expected_to_end.add(child.process.pid)
            self._write_register()
        return child

    def _is_accident(self, child: Child) -> bool:
        with self._lock:
            pid = child.process.pid
            return pid in self._children and not (
                pid in self._expected_to_end or self._stopping.is_set()
            )

    def _snapshot(self) -> list[Child]:
        with self._lock:
            return list(self._children.values())

    def _forget(self, child: Child) -> None:
        with self._lock:
            self._expected_to_end.discard(child.process.pid)
            if self._children.pop(child.process.pid, None) is not None:
                self._write_register()

    def _write_register(self) -> None:
        write_register(self._register, (child.running for child in self._children.values()))

    def _start_warden(self) -> subprocess.Popen[bytes]:
        self._register.parent.mkdir(parents=True, exist_ok=True)
        write_register(self._register, [])
        warden = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "local.warden", self._register],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            start_new_session=True,
            pass_fds=self._keep_open,
        )
        # Until the warden is ready, the terminal's signals could end it.
        if warden.stdout is None or warden.stdout.readline() != READY:
            raise ToolFailedError("the warden, which cleans up if this process is killed, failed")
        return warden

    def _dismiss_warden(self) -> None:
        if self._warden is not None:
            self._warden.communicate()
            self._warden = None


def stop_leftovers(register: Path) -> list[str]:
    """Stop processes that an earlier start and its warden left running; return their names."""
    leftovers = [process for process in read_register(register) if is_alive(process)]
    stop_all(leftovers)
    return [process.name for process in leftovers]
