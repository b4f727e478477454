"""`make run`: starts the stack, prints instructions, and stops it on request or after a failure."""

import os
import signal
import sys
import threading
import time
from types import FrameType

from local.console import Display, welcome
from local.errors import LocalStackError
from local.reload import Reloader, reload_in_background
from local.settings import LocalSettings
from local.stack import LocalStack

_CHECK_SECONDS = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A signal requests the stop; raised in the main thread, whatever it waits for."""


def run(
    settings: LocalSettings, *, stop_with_parent: bool = False, accepted: str | None = None
) -> int:
    """Run the stack until it is interrupted; return the exit code.

    Args:
        settings: contain the folders and the ports.
        stop_with_parent: also stop when the parent process ends: a killed `make` sends no signal
            to its children.
        accepted: the revision up to which migrations may drop or change data.
    """
    start = time.monotonic()
    display = Display()
    stack = LocalStack(settings, display, accepted=accepted)
    if stop_with_parent:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    try:
        _obey_signals(stack)
        with stack:
            sys.stdout.write(welcome(stack, time.monotonic() - start))
            sys.stdout.flush()
            reloader = Reloader(settings, stack.deployed, display)
            with reload_in_background(reloader, settings.root, stack.is_current):
                _wait(stack)
    except StopRequested:
        return 0
    except LocalStackError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _wait(stack: LocalStack) -> None:
    """Check the stack until a signal or a dead server raises an exception."""
    while True:
        stack.check()
        time.sleep(_CHECK_SECONDS)


def _obey_signals(stack: LocalStack) -> None:
    """Stop the stack at the first signal; later signals, or those during a stop, hurry it."""
    was_signalled = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal was_signalled
        if was_signalled or stack.is_stopping():
            stack.hurry()
            return
        was_signalled = True
        raise StopRequested

    for number in _SIGNALS:
        signal.signal(number, handle)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
