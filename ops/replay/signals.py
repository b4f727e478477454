"""Steers a replay: Ctrl-C pauses it, and stops it during a pause; Enter or SIGCONT resumes it."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ops.replay.gate import Gate

_LOOK_SECONDS = 0.2


@contextmanager
def steer(gate: Gate, notify: Callable[[str], None], *, resume: str) -> Iterator[None]:
    """Let the operator pause, continue and stop the replay within a `with` block.

    Args:
        gate: paused by Ctrl-C; stopped by a second Ctrl-C or by SIGTERM.
        notify: receives a message about each change.
        resume: the command line that resumes a stopped replay, for the message.
    """
    signals = threading.Semaphore(0)

    def handle_interrupt(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM or gate.is_paused:
            gate.stop()
        else:
            gate.pause()
        signals.release()

    def handle_continue(_number: int, _frame: FrameType | None) -> None:
        gate.go()
        signals.release()

    previous_handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, handle_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, handle_interrupt),
        signal.SIGCONT: signal.signal(signal.SIGCONT, handle_continue),
    }
    ended = threading.Event()
    reporter = threading.Thread(
        target=_report, args=(gate, notify, resume, signals, ended), name="steering", daemon=True
    )
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _report(
    gate: Gate,
    notify: Callable[[str], None],
    resume: str,
    signals: threading.Semaphore,
    ended: threading.Event,
) -> None:
    """Report the effects of signals; a handler can't, because it may interrupt the same output."""
    was_paused = False
    while not ended.is_set():
        if signals.acquire(timeout=_LOOK_SECONDS):
            if gate.is_stopped:
                notify(f"stopping after the current chunks; resume later with: {resume}")
            elif gate.is_paused:
                notify("paused; Enter (or SIGCONT) continues, Ctrl-C stops")
        if gate.is_paused and not gate.is_stopped and _enter_was_pressed():
            gate.go()
        if was_paused and not gate.is_paused:
            notify("continuing")
        was_paused = gate.is_paused


def _enter_was_pressed() -> bool:
    if not sys.stdin.isatty():
        return False
    ready, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
    return bool(ready) and sys.stdin.readline() != ""
