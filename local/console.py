"""Show the stack's events on the terminal, and instructions once the stack runs."""

import threading

from rich.console import Console
from rich.status import Status
from rich.text import Text

import resources
from local.events import Event, Remark, ServerStopped, StepBegun, StepDone
from local.hints import build_commands
from local.postgres.config import OWNER, READER
from local.settings import DEFAULT_BASE_PORT
from local.stack import LocalStack

_CREDENTIALS = '  (callers need credentials: docs/local.md, "Tokens and keys")'


class Display:
    """One line per finished step; on a terminal also a line that lists the running steps."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to the given console, or to standard output."""
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._running: list[str] = []
        self._status: Status = self._console.status("")

    def __call__(self, event: Event) -> None:
        """Show one event; may be called from any thread."""
        with self._lock:
            match event:
                case StepBegun(step):
                    self._running.append(step)
                case StepDone(step, seconds, note):
                    self._running.remove(step)
                    self._print_line("green", "✓", f"{step:<18}{seconds:5.1f} s", note)
                case ServerStopped(name, seconds, forced):
                    self._print_line("dim", "■", f"{name:<18}{seconds:5.1f} s", "killed" * forced)
                case Remark(text):
                    self._print_line("cyan", "·", text)
            self._show_running()

    def _show_running(self) -> None:
        if not self._console.is_terminal:
            return
        if self._running:
            self._status.update(", ".join(self._running))
            self._status.start()
        else:
            self._status.stop()

    def _print_line(self, style: str, symbol: str, text: str, note: str = "") -> None:
        line = Text.assemble((symbol, style), f" {text}")
        if note:
            line.append(f"  {note}", "dim")
        self._console.print(line)


def welcome(stack: LocalStack, seconds: float) -> str:
    """Return instructions for the started stack; every command in them works when pasted."""
    url = stack.base_url
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
