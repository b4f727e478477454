"""The refusals of a rebuild, which are collected and named before it ends with an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ops.archive.invalid import LineFault, describe
from ops.console import Console
from ops.errors import RefusedError
from ops.rebuild.share import Folded, RefusedCommand

_SHOWN = 3
_NEXT_STEP = (
    "nothing was changed. Copy damaged objects again. If the archive itself has these faults, "
    "examine them, then rebuild with --allow-new-rejections"
)


class NotRebuiltError(RefusedError):
    """Commands can't apply, or lines are invalid, and the live run has not rejected them."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(refusals.sentence)
        self.refusals = refusals

    def print_to(self, console: Console) -> None:
        """Print all refusals: as messages, or with `--json` as the result."""
        if console.as_json:
            console.result({"refused": self.refusals.facts()})
            return
        for text in describe(self.refusals.invalid):
            console.note(text)
        for command in self.refusals.refused:
            console.note(str(command))


@dataclass(slots=True)
class Refusals:
    """The commands and lines that can't apply."""

    #: Invalid lines.
    invalid: list[LineFault] = field(default_factory=list)
    #: Commands that can't apply, with the reasons.
    refused: list[RefusedCommand] = field(default_factory=list)
    #: The number of commands that need a newer release.
    held: int = 0
    #: The message about a row that Postgres refuses; rows are no longer loaded after it.
    refused_row: str | None = None

    def __bool__(self) -> bool:
        return bool(self.invalid or self.refused or self.held or self.refused_row)

    def add(self, folded: Folded) -> None:
        """Add the refusals of some keys."""
        self.invalid += folded.invalid
        self.refused += folded.refused
        self.held += folded.held

    @property
    def sentence(self) -> str:
        """The error's message."""
        if self.held:
            return (
                f"{self.held:,} commands have a schema version that this release does not know; "
                "nothing was changed. Rebuild with the newer release"
            )
        if self.refused_row and not (self.invalid or self.refused):
            return self.refused_row
        texts = [f"{line} (an invalid line)" for line in self.invalid[:_SHOWN]]
        texts += [str(command) for command in self.refused[: _SHOWN - len(texts)]]
        total = len(self.invalid) + len(self.refused)
        more = f"; and {total - len(texts):,} more, named above" if total > len(texts) else ""
        objects = len({line.object for line in self.invalid})
        lines = f" ({len(self.invalid):,} invalid lines in {objects:,} objects)" * bool(objects)
        return (
            f"the live run has not rejected {total:,} commands that can't apply{lines}: "
            f"{'; '.join(texts)}{more}; {_NEXT_STEP}"
        )

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "invalid_lines": [
                line.facts() for line in sorted(self.invalid, key=lambda line: line[1:])
            ],
            "unfit_commands": [command.facts() for command in self.refused],
            "held": self.held,
            "refused_row": self.refused_row,
        }
