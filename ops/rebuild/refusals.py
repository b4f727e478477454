"""What a rebuild refuses: all of it is collected and named before the rebuild ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ops.archive.invalid import LineFault, describe
from ops.console import Console
from ops.errors import RefusedError
from ops.rebuild.share import Folded, Unfit

_SHOWN = 3
_NEXT_STEP = (
    "nothing was changed. Copy damaged objects again; what is so in the archive itself: look at "
    "it, then rebuild with --allow-new-rejections"
)


class NotRebuiltError(RefusedError):
    """Commands or lines can't be applied that the live run has not rejected."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(refusals.sentence)
        self.refusals = refusals

    def tell(self, console: Console) -> None:
        """Name every one of them: as notes, or with `--json` as the result."""
        if console.as_json:
            console.result({"refused": self.refusals.facts()})
            return
        for text in describe(self.refusals.invalid):
            console.note(text)
        for unfit in self.refusals.unfit:
            console.note(str(unfit))


@dataclass(slots=True)
class Refusals:
    """What was met that can't be applied."""

    #: Lines that are no commands.
    invalid: list[LineFault] = field(default_factory=list)
    #: Commands that can't apply.
    unfit: list[Unfit] = field(default_factory=list)
    #: How many commands need a newer release.
    held: int = 0
    #: Why Postgres refuses a row; that ends the loading.
    refused_row: str | None = None

    def __bool__(self) -> bool:
        return bool(self.invalid or self.unfit or self.held or self.refused_row)

    def add(self, folded: Folded) -> None:
        """Add what some keys come to."""
        self.invalid += folded.invalid
        self.unfit += folded.unfit
        self.held += folded.held

    @property
    def sentence(self) -> str:
        """The error's message."""
        if self.held:
            return (
                f"{self.held:,} commands have a schema version that this release does not know; "
                "nothing was changed. Rebuild with the newer release"
            )
        if self.refused_row and not (self.invalid or self.unfit):
            return self.refused_row
        named = [f"{one} (a line that is no command)" for one in self.invalid[:_SHOWN]]
        named += [str(one) for one in self.unfit[: _SHOWN - len(named)]]
        total = len(self.invalid) + len(self.unfit)
        more = f"; and {total - len(named):,} more, named above" if total > len(named) else ""
        objects = len({one.object for one in self.invalid})
        lines = f", {len(self.invalid):,} of them lines of {objects:,} objects" * bool(objects)
        return (
            f"{total:,} commands can't apply that the live run has not rejected{lines}: "
            f"{'; '.join(named)}{more}; {_NEXT_STEP}"
        )

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "invalid_lines": [one.facts() for one in sorted(self.invalid, key=lambda one: one[1:])],
            "unfit_commands": [one.facts() for one in self.unfit],
            "held": self.held,
            "refused_row": self.refused_row,
        }
