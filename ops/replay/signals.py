"""Ctrl-C pauses; again, it stops. Enter (or SIGCONT, where nobody types) goes on after a pause."""

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
def steered(gate: Gate, said: Callable[[str], None], *, resume: str) -> Iterator[None]:
    """Lets the operator pause, continue and stop what passes the gate.

    Args:
        gate: closed by the first Ctrl-C, stopped by the second or by SIGTERM.
        said: told what has happened, in a sentence.
        resume: how a stopped run is gone on with.
    """
    pressed = threading.Semaphore(0)

    def interrupted(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM or gate.is_paused:
            gate.stop()
        else:
            gate.pause()
        pressed.release()

    def continued(_number: int, _frame: FrameType | None) -> None:
        gate.go()
        pressed.release()

    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, interrupted),
            (signal.SIGTERM, interrupted),
            (signal.SIGCONT, continued),
        )
    }
    ended = threading.Event()
    talker = threading.Thread(
        target=_talk, args=(gate, said, resume, pressed, ended), name="steering", daemon=True
    )
    talker.start()
    try:
        yield
    finally:
        ended.set()
        talker.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _talk(
    gate: Gate,
    said: Callable[[str], None],
    resume: str,
    pressed: threading.Semaphore,
    ended: threading.Event,
) -> None:
    """Says what a signal did, which its handler can't: it may have interrupted the same output."""
    was_paused = False
    while not ended.is_set():
        if pressed.acquire(timeout=_LOOK_SECONDS):
            if gate.is_stopped:
                said(f"stopping after the chunks at hand; go on later with: {resume}")
            elif gate.is_paused:
                said("paused; Enter (or SIGCONT) goes on, Ctrl-C again stops")
        if gate.is_paused and not gate.is_stopped and _enter_was_pressed():
            gate.go()
        if was_paused and not gate.is_paused:
            said("going on")
        was_paused = gate.is_paused


def _enter_was_pressed() -> bool:
    if not sys.stdin.isatty():
        return False
    ready, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
    return bool(ready) and sys.stdin.readline() != ""
