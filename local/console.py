"""Show the stack's events on the terminal, and instructions once the stack runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

import resources
from local.events import Listener
from local.hints import build_commands
from local.postgres.config import OWNER, READER
from local.settings import DEFAULT_BASE_PORT
from local.stack import LocalStack

_CREDENTIALS = '  (callers need credentials: docs/local.md, "Tokens and keys")'


class Display(Listener):
    """One line per finished step; on a terminal also a line that lists the running steps."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to the given console, or to standard output."""
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._running: list[str] = []
        self._status: Status = self._console.status("")

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Show the step while it runs, and a line with its duration and notes if it succeeds."""
        start = time.monotonic()
        notes: list[str] = []
        with self._lock:
            self._running.append(name)
            self._show_running()
        try:
            yield notes
            self._print_line("green", "✓", name, time.monotonic() - start, ", ".join(notes))
        finally:
            with self._lock:
                self._running.remove(name)
                self._show_running()

    def report_stop(self, name: str, seconds: float, *, forced: bool) -> None:
        """Show the end of a server."""
        self._print_line("dim", "■", name, seconds, "killed" * forced)

    def remark(self, text: str) -> None:
        """Show a message."""
        self._console.print(Text.assemble(("·", "cyan"), f" {text}"))

    def _show_running(self) -> None:
        if not self._console.is_terminal:
            return
        if self._running:
            self._status.update(", ".join(self._running))
            self._status.start()
        else:
            self._status.stop()

    def _print_line(self, style: str, symbol: str, name: str, seconds: float, note: str) -> None:
        line = Text.assemble((symbol, style), f" {name:<18}{seconds:5.1f} s")
        if note:
            line.append(f"  {note}", "dim")
        self._console.print(line)


def welcome(stack: LocalStack, seconds: float) -> str:
    """Return instructions for the started stack; every command in them works when pasted."""
    url = stack.settings.base_url
    hints = _CREDENTIALS if stack.requires_credentials else build_commands(resources.load(), url)
    primary, replica = stack.primary.address(OWNER), stack.replica.address(READER)
    port = stack.settings.ports.base
    option = "" if port == DEFAULT_BASE_PORT else f" PORT={port}"
    return f"""
Forebay answers at {url} (after {seconds:.1f} s).
API documentation: {url}/docs
Examples, to run one after the other:

{hints}

  primary   {primary}   make psql{option}
  replica   {replica}   make psql{option} REPLICA=1
  AWS       {stack.settings.emulator_url}   eval "$(make -s credentials{option})"
  logs      {stack.settings.logs}

Saved changes in lambdas/, forebay/ and resources/ take effect immediately. Ctrl-C stops the stack.
"""
