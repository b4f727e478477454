"""Has the shares of a rebuild done: a single one in this process, several in one process each.

Nothing but their results comes over a pipe, which takes only so much: who is ahead waits. A process
whose pipe has no other end any more ends by itself, so none is left when this one is killed.
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

#: Called after each object of any share, with how many commands there were so far in all of them.
Advance: TypeAlias = Callable[[int], None]

_GO = "fold"


class Crew:
    """Those who do the shares; their processes end with the block."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self._shares = shares
        self._others: list[_Other] = []

    def __enter__(self) -> Self:
        if len(self._shares) > 1:
            with ExitStack() as started:
                for share in self._shares:
                    self._others.append(_Other(share))
                    started.callback(self._others[-1].end)
                started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()

    def read(self, advance: Advance) -> list[Scanned]:
        """Has all objects read; what each share has met.

        Raises:
            TransientError: the archive did not answer.
            UnavailableError: a process has ended.
        """
        if not self._others:
            return [share.read(advance) for share in self._shares]
        scanned: dict[_Other, Scanned] = {}
        so_far = dict.fromkeys(self._others, 0)
        by_pipe: dict[object, _Other] = {other.pipe: other for other in self._others}
        while len(scanned) < len(self._others):
            left = [other.pipe for other in self._others if other not in scanned]
            for ready in wait(left):
                other = by_pipe[ready]
                told = other.receive()
                if isinstance(told, Scanned):
                    scanned[other] = told
                elif isinstance(told, int):
                    so_far[other] = told
                    advance(sum(so_far.values()))
                else:
                    raise TypeError(f"a process of the rebuild has said {told!r}")
        return [scanned[other] for other in self._others]

    def fold(self, buckets: int) -> Iterator[Folded]:
        """What the buckets come to, in their order, when all objects have been read.

        Args:
            buckets: how many there are.

        Raises:
            UnavailableError: a process has ended.
        """
        for other in self._others:
            other.send_go()
        results = [other.folded() for other in self._others] or [
            share.fold() for share in self._shares
        ]
        for index in range(buckets):
            yield from _of_one_bucket(results[index % len(results)])


def _of_one_bucket(results: Iterator[Folded | None]) -> Iterator[Folded]:
    for folded in results:
        if folded is None:
            return
        yield folded


class _Other:
    """A process that does a share."""

    def __init__(self, share: Share) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, share), name="forebay-rebuild", daemon=True
        )
        # Ctrl-C is for the process that the user sees. What is blocked now stays so in the other;
        # but whoever starts the tracker of resources, as `start` would, unblocks it.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def receive(self) -> object:
        """What it says next; raises what it has failed with."""
        try:
            told = self.pipe.recv()
        except (EOFError, OSError):  # the latter in the middle of what it was saying
            raise self._has_ended() from None
        if isinstance(told, _Failure):
            raise told.error from _ElsewhereError(told.where)
        return told

    def send_go(self) -> None:
        """Has it fold its buckets."""
        try:
            self.pipe.send(_GO)
        except OSError:
            raise self._has_ended() from None

    def folded(self) -> Iterator[Folded | None]:
        """What its buckets come to, None after each of them."""
        while True:
            told = self.receive()
            if not (told is None or isinstance(told, Folded)):
                raise TypeError(f"a process of the rebuild has said {told!r}")
            yield told

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()

    def _has_ended(self) -> UnavailableError:
        self._process.join()
        return UnavailableError(
            f"a process of the rebuild has ended before its time (exit code "
            f"{self._process.exitcode}); nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a process has failed with, and where."""

    error: Exception
    where: str


class _ElsewhereError(Exception):
    """The traceback of another process, as the cause of what is raised in this one."""


class _NobodyThereError(Exception):
    """The process that has begun this one is gone."""


def _serve(pipe: Pipe, share: Share) -> None:
    """What such a process does."""
    with suppress(_NobodyThereError):
        try:
            _do(pipe, share)
        except _NobodyThereError:
            raise
        except Exception as exc:  # noqa: BLE001 - raised by the other process
            _say(pipe, _Failure(_portable(exc), traceback.format_exc()))


def _do(pipe: Pipe, share: Share) -> None:
    collect_seldom()
    _say(pipe, share.read(partial(_say, pipe)))
    try:
        pipe.recv()
    except (EOFError, OSError):
        raise _NobodyThereError from None
    for folded in share.fold():
        _say(pipe, folded)


def _say(pipe: Pipe, what: object) -> None:
    try:
        pipe.send(what)
    except OSError:
        raise _NobodyThereError from None


def _portable(error: Exception) -> Exception:
    """The error, or if it can't travel, one that says the same: a defect, whatever it was."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
