"""What goes into apply and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from forebay.command import Command
from forebay.db.faults import CONFLICTS


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of an archive object that is no command we can read."""

    #: Position in the object, from 0.
    number: int
    #: The line's bytes, or the beginning of it where it is too long or its rest is unreadable.
    raw: bytes
    code: str
    detail: str


Entry: TypeAlias = Command | BadLine


@dataclass(frozen=True, slots=True)
class Source:
    """Where commands come from."""

    #: The archive object's key: the ledger's primary key.
    object: str
    #: A replay applies an object however often it was applied before.
    replay: bool = False
    #: Only chosen commands of the object are replayed: the ledger must not call it applied.
    partial: bool = False

    def __post_init__(self) -> None:
        if self.partial and not self.replay:
            raise ValueError(f"{self.object}: only a replay may apply a part of an object")


@dataclass(frozen=True, slots=True)
class Undecided:
    """A command or a line that could not be applied, and about which nothing was decided."""

    #: As it was archived.
    entry: Entry
    #: A stable name of the reason.
    code: str
    detail: str
    sqlstate: str | None = None

    @property
    def needs_other_release(self) -> bool:
        """Whether the reason is this release's code or declarations, not Postgres or the line."""
        return not isinstance(self.entry, BadLine) and self.sqlstate is None

    @property
    def depends_on_other_rows(self) -> bool:
        """Whether the command may apply when other commands have."""
        return self.sqlstate in CONFLICTS


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of each line; they add up to the number of lines."""

    #: Changed a table.
    applied: int = 0
    #: Lost to another command of the same key.
    superseded: int = 0
    #: Was here before.
    duplicates: int = 0
    #: Can never apply.
    rejected: int = 0
    #: Is of a retired resource.
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.applied + other.applied,
            self.superseded + other.superseded,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of apply did."""

    #: Lines looked at by this run; not those that an earlier, interrupted run had done.
    lines: int = 0
    counts: Counts = Counts()
    #: Smallest and greatest command id seen, if any.
    first_id: str | None = None
    last_id: str | None = None
    #: Why commands were held back for newer code, if any were.
    held: str | None = None
    #: Commands that a run which may not decide could not apply, with all others of their keys in
    #: the object; they are in no count.
    undecided: tuple[Undecided, ...] = ()
    #: The object had been applied before, and nothing was done.
    already_applied: bool = False

    def with_undecided(self, undecided: Sequence[Undecided]) -> Outcome:
        """This outcome with more commands that nothing was decided about."""
        return replace(self, undecided=(*self.undecided, *undecided))

    def plus(self, lines: int, ids: Sequence[str], counts: Counts, *, held: str | None) -> Outcome:
        """This outcome after one more chunk.

        Args:
            lines: how many it has.
            ids: of its commands, ascending.
            counts: what became of its lines.
            held: why some of them must wait, if any must.
        """
        first, last = self.first_id, self.last_id
        if ids:
            first = ids[0] if first is None else min(first, ids[0])
            last = ids[-1] if last is None else max(last, ids[-1])
        return replace(
            self,
            lines=self.lines + lines,
            counts=self.counts + counts,
            first_id=first,
            last_id=last,
            held=self.held or held,
        )
