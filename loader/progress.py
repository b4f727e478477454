"""Progress bars on standard error; hidden if that is not a terminal."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn


class Bars:
    """Three bars: accepted, watched, confirmed."""

    def __init__(self, console: Console | None = None) -> None:
        """Make the bars, which are shown inside the `with` block."""
        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._accepted = self._add_bar("accepted")
        self._visible = self._add_bar("visible")
        self._confirmed = self._add_bar("confirmed")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def expect(self, *, items: int, watched: int) -> None:
        """Set the totals of accepted and of watched items."""
        self._progress.update(self._accepted, total=items)
        self._progress.update(self._visible, total=watched)
        self._progress.update(self._confirmed, total=items)

    def add_accepted(self, count: int) -> None:
        """Add to the accepted commands."""
        self._progress.advance(self._accepted, count)

    def add_visible(self, count: int) -> None:
        """Add to the watched commands that are visible."""
        self._progress.advance(self._visible, count)

    def add_confirmed(self, count: int = 1) -> None:
        """Add to the commands that have a final status."""
        self._progress.advance(self._confirmed, count)

    def _add_bar(self, name: str) -> TaskID:
        return self._progress.add_task(name, total=None)
