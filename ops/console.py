"""What operators see: progress on stderr, results on stdout as a table or as one JSON object."""

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
# Control characters but for line feed and tab, lone surrogates, and the marks by which Unicode
# turns the direction of writing (UAX #9, §2).
_COMMANDING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_IN_A_CELL = str.maketrans({"\t": "\\t", "\n": "\\n"})
# What is shown comes from clients and archives: `[/]` and `:smile:` in it are no markup.
_LITERALLY: Mapping[str, Any] = {"markup": False, "emoji": False}
_WIDTH = 240  # characters of a table that no terminal shows


class Facts(Protocol):
    """Something that a result names: its text for people, its members for programs."""

    def facts(self) -> dict[str, Any]: ...  # noqa: D102


class Meter:
    """The progress of one long piece of work: so many of so many, at what rate, until when."""

    def __init__(self, console: RichConsole, what: str, unit: str, total: int | None) -> None:
        self._console = console
        self._what = what
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
                what, total=total, unit=unit, rate="", note="", of=_number(total)
            )

    def start(self) -> None:
        """Shows the bar."""
        if self._bar is not None:
            self._bar.start()

    def stop(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int, *, note: str = "") -> None:
        """So much more is done; call it from one thread."""
        self._done += done
        rate = f"{self.rate:,.0f}/s"
        if self._bar is not None:
            self._bar.update(self._task, advance=done, rate=rate, note=visible(note))
            return
        now = time.monotonic()
        if now - self._last_line >= _PLAIN_LINE_SECONDS:
            self._last_line = now
            eta = self._eta()
            line = f"{self._what}: {self._done:,}/{_number(self._total)} {self._unit}, {rate}"
            line += (f", ETA {eta}" if eta else "") + (f", {note}" * bool(note))
            self._console.print(visible(line))

    @property
    def rate(self) -> float:
        """How much a second, up to now."""
        return self._done / max(time.monotonic() - self._started, 1e-9)

    def _eta(self) -> str:
        if not self._total or not self._done:
            return ""
        return duration(max(self._total - self._done, 0) / self.rate)


class Console:
    """Standard output and standard error of one command."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        databases: Iterable[Facts] = (),
        strays: Strays | None = None,
    ) -> None:
        """A console.

        Args:
            as_json: results are JSON objects.
            databases: the databases that results name (`Context.databases`); read at each result.
            strays: the strays that results count (`Context.strays`); read at each result.
        """
        self.as_json = as_json
        self._databases = databases
        self._strays = Strays() if strays is None else strays
        self._counted = 0
        self._named: list[str] = []
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True, **_LITERALLY)
        # What a file or another program gets is not folded to the width of a terminal.
        width = None if sys.stdout.isatty() else _WIDTH
        self._out = RichConsole(highlight=False, soft_wrap=True, width=width, **_LITERALLY)

    def note(self, text: str) -> None:
        """A sentence on standard error."""
        self._err.print(visible(text))

    @contextmanager
    def live(self) -> Iterator[Callable[[Mapping[str, Any], RenderableType], None]]:
        """A function that shows a result instead of the last one.

        With `--json`, or where the output is no terminal, each is shown below the last.
        """
        if self.as_json or not self._out.is_terminal:
            yield self._below
            return
        with Live(console=self._out, screen=True, auto_refresh=False) as screen:
            yield lambda _, text: screen.update(text, refresh=True)

    def _below(self, value: Mapping[str, Any], text: RenderableType) -> None:
        self.result(value)
        self.show(text)

    def show(self, text: RenderableType) -> None:
        """Something for people besides the result: on standard output, unless that is JSON."""
        if not self.as_json:
            self._out.print(visible(text) if isinstance(text, str) else text)

    def result(self, value: Mapping[str, Any], text: str | Table | None = None) -> None:
        """The command's result: one JSON object with `--json`, else the text or the table."""
        if self.as_json:
            databases = [database.facts() for database in self._databases]
            if databases:
                value = {**value, "databases": databases}
            if self._strays:
                value = {**value, "strays": self._strays.facts()}
            # Counts from Postgres may be Decimal; times carry their zone.
            line = orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
            sys.stdout.write(line.decode())
            sys.stdout.flush()
            return
        self._name_databases()
        self._count_strays()
        if isinstance(text, Table):
            self._out.print(text)
        elif text:
            self._out.print(visible(text))

    def _name_databases(self) -> None:
        """Print the databases that a result is about, each of them once."""
        for name in map(str, self._databases):
            if name not in self._named:
                self._named.append(name)
                self._out.print(visible(name))

    def _count_strays(self) -> None:
        """Print the strays, again only where there are more by now."""
        if len(self._strays) > self._counted:
            self._counted = len(self._strays)
            self._out.print(visible(f"{self._counted:,} files {self._strays}"))

    def facts(self, value: Mapping[str, Any]) -> None:
        """A result as a list of names and values, or as JSON."""
        self.result(value, pairs(value))

    @contextmanager
    def progress(self, what: str, *, unit: str, total: int | None = None) -> Iterator[Meter]:
        """A bar with rate and ETA on standard error; plain lines where that is no terminal."""
        meter = Meter(self._err, what, unit, total)
        meter.start()
        try:
            yield meter
        finally:
            meter.stop()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Returns when the operator agrees; `--yes` agrees in advance.

        Args:
            question: with the counts of what will be changed.
            yes: whether `--yes` was given.

        Raises:
            DeclinedError: the operator said no.
            UsageError: there is nobody to ask.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"{question} Nobody can be asked here: give --yes to agree")
        self._err.print(f"{visible(question)} [y/N] ", end="")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise DeclinedError("nothing was changed")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of plain values; numbers stand to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(visible(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_shown(value) for value in row))
    return made


def pairs(value: Mapping[str, Any]) -> Table:
    """Names and values below each other."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, item in value.items():
        made.add_row(visible(name.replace("_", " ")), _shown(item))
    return made


def visible(text: str) -> str:
    """The text with what a terminal would obey spelled out, so that it shows what there is.

    A client's text may be in it: it must neither move the cursor nor turn round what follows.
    """
    return _COMMANDING.sub(lambda found: ascii(found[0])[1:-1], text)


def short(text: str, length: int = 60) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def duration(seconds: float) -> str:
    """Seconds as people say them: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _shown(value: object) -> str:
    match value:
        case None:
            shown = "-"
        case bool():
            shown = "yes" if value else "no"
        case int():
            shown = f"{value:,}"
        case float():
            shown = f"{value:,.3f}"
        case Mapping():
            named = (f"{visible(str(name))} {_shown(item)}" for name, item in value.items())
            shown = ", ".join(named) or "-"
        case list() | tuple() | set():
            shown = ", ".join(map(_shown, value)) or "-"
        case _:
            # A line feed in a value would look like the next value.
            shown = visible(str(value)).translate(_IN_A_CELL)
    return shown
