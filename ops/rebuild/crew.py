"""Runs the shares of a rebuild: a single share in this process, several in a process each.

The processes return their results over pipes with small buffers: a process that is ahead
waits. If this process is killed, its pipes close, and the other processes end by themselves.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Self, TypeAlias

from forebay.collector import collect_seldom
from ops.errors import UnavailableError
from ops.folding.scan import Scanned
from ops.rebuild.share import Folded, Share

#: Called after each object of any share, with the number of commands so far in all shares.
Advance: TypeAlias = Callable[[int], None]

_FOLD = "fold"


class Crew:
    """Runs the shares; a context manager: the processes end at its end."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self._shares = shares
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        if len(self._shares) > 1:
            with ExitStack() as cleanups:
                for share in self._shares:
                    self._processes.append(_Process(share))
                    cleanups.callback(self._processes[-1].end)
                cleanups.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()

    def read(self, advance: Advance) -> list[Scanned]:
        """Read all objects, and return the counts of each share.

        Raises:
            TransientError: the archive did not answer.
            UnavailableError: a process has ended early.
        """
        if not self._processes:
            return [share.read(advance) for share in self._shares]
        scanned: dict[_Process, Scanned] = {}
        commands = dict.fromkeys(self._processes, 0)
        by_pipe: dict[object, _Process] = {process.pipe: process for process in self._processes}
        while len(scanned) < len(self._processes):
            pending = [process.pipe for process in self._processes if process not in scanned]
            for ready in wait(pending):
                process = by_pipe[ready]
                message = process.receive()
                if isinstance(message, Scanned):
                    scanned[process] = message
                elif isinstance(message, int):
                    commands[process] = message
                    advance(sum(commands.values()))
                else:
                    raise TypeError(f"a process of the rebuild sent an unexpected {message!r}")
        return [scanned[process] for process in self._processes]

    def fold(self, buckets: int) -> Iterator[Folded]:
        """Yield the folded commands of all buckets, in the order of the buckets.

        `read` must have returned before.

        Args:
            buckets: the number of buckets.

        Raises:
            UnavailableError: a process has ended early.
        """
        for process in self._processes:
            process.start_folding()
        results = [process.receive_folded() for process in self._processes] or [
            share.fold() for share in self._shares
        ]
        for index in range(buckets):
            yield from _take_bucket(results[index % len(results)])


def _take_bucket(results: Iterator[Folded | None]) -> Iterator[Folded]:
    for folded in results:
        if folded is None:
            return
        yield folded


class _Process:
    """A process that runs a share, as its parent sees it."""

    def __init__(self, share: Share) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child_end = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_run_share, args=(child_end, share), name="forebay-rebuild", daemon=True
        )
        # Only this process handles Ctrl-C. A signal that is blocked at the start stays blocked in
        # the new process. `start` may start the resource tracker, which unblocks the signal, so it
        # is started before.
        resource_tracker.ensure_running()
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
            child_end.close()

    def receive(self) -> object:
        """Return the process's next message.

        Raises:
            Exception: the error with which the share failed in the process.
            UnavailableError: the process has ended early.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):  # OSError: the process ended within a message
            raise self._create_error() from None
        if isinstance(message, _Failure):
            raise message.error from _RemoteTracebackError(message.traceback)
        return message

    def start_folding(self) -> None:
        """Let the process fold its buckets."""
        try:
            self.pipe.send(_FOLD)
        except OSError:
            raise self._create_error() from None

    def receive_folded(self) -> Iterator[Folded | None]:
        """Yield the folded commands of the process's buckets, and None after each bucket."""
        while True:
            message = self.receive()
            if not (message is None or isinstance(message, Folded)):
                raise TypeError(f"a process of the rebuild sent an unexpected {message!r}")
            yield message

    def end(self) -> None:
        """End the process, also during its work."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()

    def _create_error(self) -> UnavailableError:
        self._process.join()
        return UnavailableError(
            f"a process of the rebuild ended early (exit code "
            f"{self._process.exitcode}); nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    """The error with which a process has failed, and its traceback as text."""

    error: Exception
    traceback: str


class _RemoteTracebackError(Exception):
    """The traceback of another process, as the cause of the error that this process raises."""


class _ParentGoneError(Exception):
    """The parent process has ended."""


def _run_share(pipe: Pipe, share: Share) -> None:
    """Run a share, and send its results or its error to the parent: the main of a process."""
    with suppress(_ParentGoneError):
        try:
            _read_and_fold(pipe, share)
        except _ParentGoneError:
            raise
        except Exception as exc:  # noqa: BLE001 - the parent raises it
            _send(pipe, _Failure(_make_picklable(exc), traceback.format_exc()))


def _read_and_fold(pipe: Pipe, share: Share) -> None:
    collect_seldom()
    _send(pipe, share.read(partial(_send, pipe)))
    try:
        pipe.recv()
    except (EOFError, OSError):
        raise _ParentGoneError from None
    for folded in share.fold():
        _send(pipe, folded)


def _send(pipe: Pipe, message: object) -> None:
    try:
        pipe.send(message)
    except OSError:
        raise _ParentGoneError from None


def _make_picklable(error: Exception) -> Exception:
    """Return the error, or a RuntimeError with its text if its class can't be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled by this process
    except Exception:  # noqa: BLE001 - pickling runs the code of any error class
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
