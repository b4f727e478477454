"""The input and output types of apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forebay.decisions.refusals import Undecided


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of commands."""

    #: The archive object's key: the ledger's primary key.
    object: str
    #: True in a replay, which applies an object however often it was applied before.
    replay: bool = False
    #: True if only chosen commands of the object are replayed: the object is not marked complete.
    partial: bool = False

    def __post_init__(self) -> None:
        if self.partial and not self.replay:
            raise ValueError(f"{self.object}: only a replay may apply a part of an object")


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of lines per status; the sum is the number of lines."""

    #: Changed a table.
    applied: int = 0
    #: Lost to another command of the same key.
    superseded: int = 0
    #: Applied or decided before.
    duplicates: int = 0
    #: Can never apply.
    rejected: int = 0
    #: Belongs to a retired resource.
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """The sums of both."""
        return Counts(
            self.applied + other.applied,
            self.superseded + other.superseded,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run of apply."""

    #: Lines of this run, without the lines that an earlier, interrupted run applied.
    lines: int = 0
    counts: Counts = Counts()
    #: Smallest and greatest command id of the lines; None without commands.
    first_id: str | None = None
    last_id: str | None = None
    #: Why commands are held for newer code, if any are.
    held: str | None = None
    #: Commands that a run without decisions could not apply, with all other commands of their keys
    #: in the object; no count includes them.
    undecided: tuple[Undecided, ...] = ()
    #: True if the object was complete before, and the run made no change.
    already_applied: bool = False

    def with_undecided(self, undecided: Sequence[Undecided]) -> Outcome:
        """This outcome with more undecided commands."""
        return replace(self, undecided=(*self.undecided, *undecided))

    def plus(self, lines: int, ids: Sequence[str], counts: Counts, *, held: str | None) -> Outcome:
        """This outcome after another chunk.

        Args:
            lines: the number of its lines.
            ids: of its commands, ascending.
            counts: the statuses of its lines.
            held: why some of its commands are held, if any are.
        """
        first_id, last_id = self.first_id, self.last_id
        if ids:
            first_id = ids[0] if first_id is None else min(first_id, ids[0])
            last_id = ids[-1] if last_id is None else max(last_id, ids[-1])
        return replace(
            self,
            lines=self.lines + lines,
            counts=self.counts + counts,
            first_id=first_id,
            last_id=last_id,
            held=self.held or held,
        )
