"""The output of commands: progress on stderr, results on stdout as a table or one JSON object."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ops.archive.strays import Strays
from ops.errors import DeclinedError, UsageError

_PLAIN_LINE_SECONDS = 5.0
# Control characters except line feed and tab, lone surrogates, and Unicode's marks that change the
# direction of writing (UAX #9, §2).
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CELL_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n"})
# The output contains text of clients and archives; `[/]` or `:smile:` in it must stay literal.
_LITERAL: Mapping[str, Any] = {"markup": False, "emoji": False}
_WIDTH = 240  # characters; of a table that is not written to a terminal


class Facts(Protocol):
    """An object that results name: `str()` for the text output, `facts()` for the JSON output."""

    def facts(self) -> dict[str, Any]: ...  # noqa: D102


class Meter:
    """The progress of a long task: units done and in total, the rate, and the remaining time."""

    def __init__(self, console: RichConsole, what: str, unit: str, total: int | None) -> None:
        self._console = console
        self._label = what
        self._unit = unit
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.fields[of]} {task.fields[unit]}"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(
                what, total=total, unit=unit, rate="", note="", of=_format_number(total)
            )

    def start(self) -> None:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int, *, note: str = "") -> None:
        """Add units to those that are done; must be called from one thread only.

        Args:
            done: the number of units since the last call.
            note: a text that is shown after the rate.
        """
        self._done += done
        rate = f"{self.rate:,.0f}/s"
        if self._bar is not None:
            self._bar.update(self._task, advance=done, rate=rate, note=escape(note))
            return
        now = time.monotonic()
        if now - self._last_line >= _PLAIN_LINE_SECONDS:
            self._last_line = now
            eta = self._format_eta()
            line = (
                f"{self._label}: {self._done:,}/{_format_number(self._total)} {self._unit}, {rate}"
            )
            line += (f", ETA {eta}" if eta else "") + (f", {note}" * bool(note))
            self._console.print(escape(line))

    @property
    def rate(self) -> float:
        """Units per second, on average since the start."""
        return self._done / max(time.monotonic() - self._started, 1e-9)

    def _format_eta(self) -> str:
        if not self._total or not self._done:
            return ""
        return format_duration(max(self._total - self._done, 0) / self.rate)


class Console:
    """The standard output and standard error of a command."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        databases: Iterable[Facts] = (),
        strays: Strays | None = None,
    ) -> None:
        """Create a console.

        Args:
            as_json: whether results are JSON objects.
            databases: the databases that results name (`Context.databases`); read at each result.
            strays: the strays that results count (`Context.strays`); read at each result.
        """
        self.as_json = as_json
        self._databases = databases
        self._strays = Strays() if strays is None else strays
        self._strays_shown = 0
        self._databases_shown: list[str] = []
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True, **_LITERAL)
        # Output to a file or a pipe is not folded to the width of a terminal.
        width = None if sys.stdout.isatty() else _WIDTH
        self._out = RichConsole(highlight=False, soft_wrap=True, width=width, **_LITERAL)

    def note(self, text: str) -> None:
        """Print a message on standard error."""
        self._err.print(escape(text))

    @contextmanager
    def live(self) -> Iterator[Callable[[Mapping[str, Any], RenderableType], None]]:
        """Return a function that shows a result in the place of the previous result.

        With `--json`, or if the output is not a terminal, each result is shown below the previous
        result.
        """
        if self.as_json or not self._out.is_terminal:
            yield self._append
            return
        with Live(console=self._out, screen=True, auto_refresh=False) as screen:
            yield lambda _, text: screen.update(text, refresh=True)

    def _append(self, value: Mapping[str, Any], text: RenderableType) -> None:
        self.result(value)
        self.show(text)

    def show(self, text: RenderableType) -> None:
        """Print an addition to the result on standard output; not with `--json`."""
        if not self.as_json:
            self._out.print(escape(text) if isinstance(text, str) else text)

    def result(self, value: Mapping[str, Any], text: str | Table | None = None) -> None:
        """Print the command's result: one JSON object with `--json`, else the text or table."""
        if self.as_json:
            databases = [database.facts() for database in self._databases]
            if databases:
                value = {**value, "databases": databases}
            if self._strays:
                value = {**value, "strays": self._strays.facts()}
            # Counts from Postgres may be Decimal; times have a zone.
            line = orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
            sys.stdout.write(line.decode())
            sys.stdout.flush()
            return
        self._show_databases()
        self._show_strays()
        if isinstance(text, Table):
            self._out.print(text)
        elif text:
            self._out.print(escape(text))

    def _show_databases(self) -> None:
        """Print the databases of a result, each once per command."""
        for name in map(str, self._databases):
            if name not in self._databases_shown:
                self._databases_shown.append(name)
                self._out.print(escape(name))

    def _show_strays(self) -> None:
        """Print the strays, again only if there are more than at the previous result."""
        if len(self._strays) > self._strays_shown:
            self._strays_shown = len(self._strays)
            self._out.print(escape(f"{self._strays_shown:,} files {self._strays}"))

    def facts(self, value: Mapping[str, Any]) -> None:
        """Print the command's result as a list of names and values, or as JSON."""
        self.result(value, build_pairs_table(value))

    @contextmanager
    def progress(self, what: str, *, unit: str, total: int | None = None) -> Iterator[Meter]:
        """Show a bar with rate and ETA on standard error; plain lines if it is not a terminal."""
        meter = Meter(self._err, what, unit, total)
        meter.start()
        try:
            yield meter
        finally:
            meter.stop()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Wait for the operator's confirmation; `--yes` confirms in advance.

        Args:
            question: contains the counts of the objects that will be changed.
            yes: whether `--yes` was given.

        Raises:
            DeclinedError: the operator did not confirm.
            UsageError: standard input is not a terminal.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"{question} Standard input is not a terminal; confirm with --yes")
        self._err.print(f"{escape(question)} [y/N] ", end="")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise DeclinedError("not confirmed; nothing was changed")


def build_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table of plain values; columns of numbers are aligned to the right."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        result.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(_format_value(value) for value in row))
    return result


def build_pairs_table(value: Mapping[str, Any]) -> Table:
    """Return a table with a row per name and value."""
    result = Table(box=None, pad_edge=False, show_header=False)
    result.add_column(style="dim")
    result.add_column(overflow="fold")
    for name, item in value.items():
        result.add_row(escape(name.replace("_", " ")), _format_value(item))
    return result


def escape(text: str) -> str:
    """Escape the characters of a text that a terminal would interpret.

    The text may contain a client's input, which must neither move the cursor nor change the
    direction of writing.
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def shorten(text: str, length: int = 60) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def format_duration(seconds: float) -> str:
    """Format seconds for people: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    total = round(seconds)
    if total < 60:  # noqa: PLR2004
        return f"{total} s"
    minutes, remainder = divmod(total, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {remainder:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _format_number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _format_value(value: object) -> str:
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:,.3f}"
        case Mapping():
            members = (f"{escape(str(name))} {_format_value(item)}" for name, item in value.items())
            text = ", ".join(members) or "-"
        case list() | tuple() | set():
            text = ", ".join(map(_format_value, value)) or "-"
        case _:
            # A line feed in a value would look like the next value.
            text = escape(str(value)).translate(_CELL_ESCAPES)
    return text
