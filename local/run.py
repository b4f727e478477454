"""`make run`: starts the stack, tells how to use it, and stops it when asked or when it breaks."""

import os
import signal
import sys
import threading
import time
from types import FrameType

from local.console import Display, welcome
from local.errors import LocalStackError
from local.reload import Reloader, reloading
from local.settings import LocalSettings
from local.stack import LocalStack

_CHECK_SECONDS = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A signal asks for the end; interrupts whatever the main thread waits for."""


def run(
    settings: LocalSettings, *, stop_with_parent: bool = False, accepted: str | None = None
) -> int:
    """Runs the stack until it is interrupted; returns the exit code.

    Args:
        settings: where, and on which ports.
        stop_with_parent: also stop when the process that started this one ends, as `make` does
            without a word when it is killed.
        accepted: the revision up to which migrations may drop or change data.
    """
    begun = time.monotonic()
    display = Display()
    stack = LocalStack(settings, display, accepted=accepted)
    if stop_with_parent:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    try:
        _obey_signals(stack)
        with stack:
            sys.stdout.write(welcome(stack, time.monotonic() - begun))
            sys.stdout.flush()
            reloader = Reloader(settings, stack.deployed, display)
            with reloading(reloader, settings.root, stack.is_current):
                _wait(stack)
    except StopRequested:
        return 0
    except LocalStackError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _wait(stack: LocalStack) -> None:
    """Returns never: a signal or a dead server ends it with an exception."""
    while True:
        stack.check()
        time.sleep(_CHECK_SECONDS)


def _obey_signals(stack: LocalStack) -> None:
    """The first signal ends what is going on; any during the stop only hurries it."""
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked or stack.is_stopping():
            stack.hurry()
            return
        asked = True
        raise StopRequested

    for number in _SIGNALS:
        signal.signal(number, handle)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
