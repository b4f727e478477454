"""Run the threads of a history one at a time; the seed determines the order as far as it can.

Threads run until their next *point*: a statement or an S3 call. There they wait until the scheduler
elects one of them. A thread that Postgres makes wait for a lock lets another thread run, and
becomes eligible again as soon as Postgres has answered it.

The seed does not determine the following, so a repeated history can differ in rare cases:

- the victim of a deadlock that Postgres chooses, if two threads wait within some milliseconds;
- times of day and durations: `now()` in rows, and time limits of the code under test;
- ids that the code under test makes itself (amendments, runs): only their order is the same.

A thread of the code under test that only waits for another thread is recognised by its innermost
frame. A thread that waits in a way that `_is_parked` does not recognise stops the history with an
error after some seconds.
"""

from __future__ import annotations

import gc
import random
import select
import sys
import threading
import time
from concurrent.futures import thread as pool_threads
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Literal

import psycopg

#: crash: the process dies. cut: the connection breaks before the call. lost: the call is carried
#: out, and its answer is lost.
Fault = Literal["crash", "cut", "lost"]

_LOOK_SECONDS = 0.002
_STUCK_SECONDS = 15.0
#: Modules with threads that take no part in a history.
_SERVERS = frozenset({"tests.fixtures.proxies", "tests.fixtures.firehose", "socketserver"})
_MOST_ELECTIONS = 20_000
_SESSIONS = """
    SELECT pid, application_name, state, wait_event, pg_blocking_pids(pid), left(query, 80)
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
_ANY_LEFT = "SELECT FROM pg_stat_activity WHERE pid = ANY(%s)"


class CrashedError(BaseException):
    """The actor's process has crashed; `except Exception` does not catch this."""


class StuckError(BaseException):
    """No thread can run; `except Exception` does not catch this."""


@dataclass
class Actor:
    """A process of the history: a consumer, or an operator's tool."""

    name: str
    #: The faults that may happen to the actor.
    faults: tuple[Fault, ...] = ()
    is_dead: bool = False
    #: Until this election, the actor is elected only if no other actor can be.
    paused_until: int = 0
    #: All its connections, including closed connections.
    links: list[psycopg.Connection[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Chances:
    """The scheduling probabilities of a history."""

    #: That the actor that ran last is elected again.
    stay: float = 0.5
    #: That an elected actor then pauses for a number of elections.
    pause: float = 0.03
    longest_pause: int = 60
    #: That a fault happens at a point.
    fault: float = 0.02
    #: Maximum number of faults in a history.
    faults: int = 3


@dataclass
class _Waiter:
    """A thread that waits at a point or for Postgres."""

    name: str
    actor: Actor
    wake: threading.Condition
    #: Its backend and socket, while it waits for a lock.
    pid: int | None = None
    socket: int = -1
    #: The releases of locks when Postgres was last asked for its lock.
    releases: int = -1


class Scheduler:
    """Elects the thread that runs next."""

    def __init__(self, seed: int, monitor: psycopg.Connection[Any], chances: Chances) -> None:
        """Schedule the calling thread and all threads that start from now on.

        Args:
            seed: determines the elections and faults.
            monitor: a superuser's connection, to query locks and terminate backends.
            chances: the probabilities of pauses and faults.
        """
        self._random = random.Random(seed)
        self._monitor = monitor
        self.chances = chances
        self._lock = threading.RLock()
        self._waiters: dict[int, _Waiter] = {}
        self._granted: _Waiter | None = None
        self._last: Actor | None = None
        self._elections = 0
        self._releases = 0
        self._faults_left = chances.faults
        self._strangers = {one.ident for one in threading.enumerate()} - {threading.get_ident()}
        self._moved_at = time.monotonic()
        #: Every point, in the order in which threads passed it.
        self.trace: list[str] = []

    def enter(self, actor: Actor, what: str) -> Fault | None:
        """Wait at a point until this thread is elected; return the fault that happens there.

        Raises:
            CrashedError: the actor has crashed, here or earlier.
        """
        if not actor.is_dead:
            with self._lock:
                self._wait(_Waiter(f"{actor.name} {_role()}", actor, self._condition()))
                self.trace.append(f"{actor.name}: {what}")
        if actor.is_dead:
            raise CrashedError
        fault = self._choose_fault(actor)
        if fault == "crash":
            self.crash(actor)
        return fault

    def crash(self, actor: Actor) -> None:
        """End the actor's process.

        Raises:
            CrashedError: always.
        """
        actor.is_dead = True
        self.end_backends(*(link.pgconn.backend_pid for link in actor.links if not link.closed))
        raise CrashedError

    def end_backends(self, *pids: int) -> None:
        """Terminate sessions, and wait until Postgres has rolled their transactions back."""
        with self._lock:
            for pid in pids:
                self._monitor.execute("SELECT pg_terminate_backend(%s)", [pid])
            self.note_release()
            # The time-out of pg_terminate_backend() polls only every 100 ms.
            while self._monitor.execute(_ANY_LEFT, [list(pids)]).fetchone():
                time.sleep(0.0002)

    def note_release(self) -> None:
        """Note that a session may have released locks, for which other sessions wait."""
        self._releases += 1

    def run(self, actor: Actor, gen: Any, socket: int, pid: int) -> Any:
        """Execute a statement; while it waits for another session's lock, other threads run."""
        try:
            wanted = next(gen)
            while True:
                reading = [socket] if wanted & 1 else []
                writing = [socket] if wanted & 2 else []
                readable, writable, _ = select.select(reading, writing, [], _LOOK_SECONDS)
                ready = bool(readable) + 2 * bool(writable)
                if not ready and self._waits_for_others(pid):
                    self._wait_for_postgres(actor, pid, socket)
                wanted = gen.send(ready) or wanted
        except StopIteration as end:
            return end.value

    def _choose_fault(self, actor: Actor) -> Fault | None:
        if not actor.faults or not self._faults_left:
            return None
        if self._random.random() >= self.chances.fault:
            return None
        self._faults_left -= 1
        fault = self._random.choice(actor.faults)
        self.trace[-1] += f"   <- {fault}"
        return fault

    def _wait_for_postgres(self, actor: Actor, pid: int, socket: int) -> None:
        with self._lock:
            self.trace.append(f"{actor.name}: waits for a lock")
            waiter = _Waiter(f"{actor.name} {_role()}", actor, self._condition(), pid, socket)
            self._wait(waiter)
            self.trace.append(f"{actor.name}: has its lock")

    def _condition(self) -> threading.Condition:
        return threading.Condition(self._lock)

    def _wait(self, waiter: _Waiter) -> None:
        """Return when the waiter is elected."""
        me = threading.get_ident()
        self._waiters[me] = waiter
        while True:
            if self._granted is None and self._is_quiet():
                self._elect()
            if self._granted is waiter:
                self._granted = None
                del self._waiters[me]
                return
            waiter.wake.wait(_LOOK_SECONDS)
            is_late = time.monotonic() > self._moved_at + _STUCK_SECONDS
            if is_late or self._elections > _MOST_ELECTIONS:
                del self._waiters[me]
                raise StuckError(self._situation())

    def _elect(self) -> None:
        ready = sorted(
            (one for one in self._waiters.values() if self._can_go_on(one)),
            key=lambda one: one.name,
        )
        if not ready:
            for one in self._waiters.values():
                one.releases = -1
            return
        self._elections += 1
        self._moved_at = time.monotonic()
        awake = [one for one in ready if one.actor.paused_until <= self._elections] or ready
        same = [one for one in awake if one.actor is self._last]
        stays = bool(same) and self._random.random() < self.chances.stay
        chosen = same[0] if stays else self._random.choice(awake)
        if len(ready) > 1 and self._random.random() < self.chances.pause:
            pause = self._random.randint(5, self.chances.longest_pause)
            chosen.actor.paused_until = self._elections + pause
        self._last = chosen.actor
        self._granted = chosen
        chosen.wake.notify()

    def _can_go_on(self, waiter: _Waiter) -> bool:
        """Return whether the thread can run: it has its lock, or waits for none.

        If Postgres has granted the lock but not answered yet, wait for the answer. Postgres is not
        asked again before another session may have released its locks.
        """
        if waiter.pid is None:
            return True
        deadline = time.monotonic() + _STUCK_SECONDS
        while not select.select([waiter.socket], [], [], 0)[0]:
            if waiter.releases == self._releases or self._waits_for_others(waiter.pid):
                waiter.releases = self._releases
                return False
            if time.monotonic() > deadline:
                raise StuckError(self._situation())
            time.sleep(0.0002)
        waiter.pid = None
        return True

    def _waits_for_others(self, pid: int) -> bool:
        with self._lock:
            row = self._monitor.execute("SELECT pg_blocking_pids(%s) <> '{}'", [pid]).fetchone()
        return bool(row and row[0])

    def _is_quiet(self) -> bool:
        """Return whether every thread of the history is at a point, in Postgres, or parked."""
        frames = _frames()
        for one in threading.enumerate():
            if one.ident in self._strangers or one.ident in self._waiters or _serves_others(one):
                continue
            frame = frames.get(one.ident or 0)  # a starting thread has no frame yet
            if frame is None or not _is_parked(frame):
                return False
        return True

    def _situation(self) -> str:
        frames = _frames()
        lines = ["no thread can go on:"]
        for one in threading.enumerate():
            if one.ident in self._strangers:
                continue
            waiter = self._waiters.get(one.ident or 0)
            frame = frames.get(one.ident or 0)
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
            lines.append(f"  {one.name}: {waiter or place}")
        sessions = self._monitor.execute(_SESSIONS).fetchall()
        lines += [f"  {' '.join(map(str, session))}" for session in sessions]
        return "\n".join([*lines, "the last points:", *self.trace[-30:]])


def _frames() -> dict[int, FrameType]:
    """The current frame of each thread.

    Python 3.11 deadlocks if a garbage collection starts within the call
    (https://github.com/python/cpython/issues/106883).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if was_enabled:
            gc.enable()


def _serves_others(thread: threading.Thread) -> bool:
    """Return whether a thread belongs to a proxy or server that runs for other tests.

    They start threads at any time, because the stack's functions connect at any time.
    """
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) in _SERVERS


def _role() -> str:
    """The thread's role within its actor: its name without the numbers of executors."""
    return threading.current_thread().name.partition("_")[0]


def _is_parked(frame: FrameType) -> bool:
    """Return whether a thread with this frame waits for another thread."""
    name, file = frame.f_code.co_name, frame.f_code.co_filename
    if file == threading.__file__:
        if name == "wait":  # of a condition: `notify` releases this lock
            lock = frame.f_locals.get("waiter")
            return lock is not None and bool(lock.locked())
        if name in {"join", "_wait_for_tstate_lock"}:
            other = frame.f_locals.get("self")
            return isinstance(other, threading.Thread) and other in threading.enumerate()
    if file == pool_threads.__file__ and name == "_worker":
        return bool(frame.f_locals["work_queue"].empty())
    return False
