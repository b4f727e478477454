"""Start the processes of the stack, detect their unexpected end, and stop all of them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from local.errors import ChildDiedError, StartTimeoutError, StoppingError, ToolFailedError
from local.events import Listener
from local.processes import Child, Spec, StopOrder, signal_group, spawn, stop_all
from local.warden import READY

_POLL_SECONDS = 0.02
_ROOT = Path(__file__).resolve().parent.parent


class Supervisor:
    """The parent of all processes of one stack; leaving its `with` block stops them.

    Processes may be started from several threads; only the thread that entered may stop them.
    """

    def __init__(self, *, keep_open: Sequence[int] = ()) -> None:
        """Make a supervisor.

        Args:
            keep_open: descriptors (the state's lock) that the warden also keeps open until it ends.
        """
        self._keep_open = tuple(keep_open)
        self._children: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._warden = warden = subprocess.Popen(
            [sys.executable, "-m", "local.warden"],
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
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, spec: Spec) -> Child:
        """Start a process: a server, which runs until it is stopped, or a tool.

        Raises:
            ToolFailedError: the program can't be started.
            StoppingError: the stack is being stopped.
        """
        with self._lock:
            if self._stopping.is_set():
                raise StoppingError(f"{spec.name} is not started: the stack is being stopped")
            child = spawn(spec)
            self._children[child.process.pid] = child
            self._inform_warden()
        return child

    def run(self, spec: Spec) -> None:
        """Run a tool to its end.

        Raises:
            ToolFailedError: its exit code is not 0; carries the end of its output.
            StoppingError: the stack is being stopped.
        """
        child = self.start(spec)
        code = child.process.wait()
        self._forget(child)
        if self._stopping.is_set():
            raise StoppingError(f"{spec.name} was stopped")
        if code != 0:
            raise ToolFailedError(f"{spec.name} failed with {child.describe_end()}")

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
                    f"{child.name} was not ready after {timeout_seconds:.0f} s; "
                    f"{child.describe_log()}"
                )
            self._stopping.wait(_POLL_SECONDS)

    def check(self) -> None:
        """Raise ChildDiedError if a server has ended unexpectedly."""
        for child in self.list_children():
            if child.spec.rank is StopOrder.TOOL or not child.has_ended():
                continue
            # Not a server that `stop` or `stop_one` has stopped in the meantime.
            if self._forget(child) and not self._stopping.is_set():
                signal_group(child.process.pid)
                raise ChildDiedError(f"{child.name} ended unexpectedly with {child.describe_end()}")

    def stop_one(self, child: Child) -> None:
        """Stop one process in its orderly way; the others keep running."""
        self._forget(child)
        stop_all([child])

    def stop(
        self, *, hurry: Callable[[], bool] = lambda: False, listener: Listener | None = None
    ) -> None:
        """Stop all processes in their order; without patience as soon as `hurry` is true."""
        with self._lock:
            self._stopping.set()
        children = self.list_children()
        stop_all(children, hurry=hurry, listener=listener)
        for child in children:
            self._forget(child)
        if self._warden is not None:
            self._warden.communicate()
            self._warden = None

    def list_children(self) -> list[Child]:
        """Return the running processes."""
        with self._lock:
            return list(self._children.values())

    def _forget(self, child: Child) -> bool:
        """Remove the process from the list; return whether it was there."""
        with self._lock:
            if self._children.pop(child.process.pid, None) is None:
                return False
            self._inform_warden()
            return True

    def _inform_warden(self) -> None:
        processes = [(pid, child.spec.rude_signal) for pid, child in self._children.items()]
        if self._warden is None or self._warden.stdin is None:
            return
        # A warden that was killed is missing only if this process is killed, too.
        with contextlib.suppress(BrokenPipeError):
            self._warden.stdin.write(json.dumps(processes).encode() + b"\n")
            self._warden.stdin.flush()
