"""Tracks which tables have lately received new keys only, and so need no probe."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_CHUNKS = 3


@dataclass(frozen=True, slots=True)
class Habits:
    """How many chunks in a row brought a table new keys only.

    A performance hint; it never changes the result. With the habit, apply inserts rows without a
    probe, and probes only the rows that could not be inserted. Threads may share an instance.
    """

    #: Chunks in a row that make a habit. With a single chunk, a rare existing key (one in ten
    #: thousand) would waste more COPYs than the skipped probes save.
    needed: int = _CHUNKS
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def is_used_to_new_keys(self, path: str) -> bool:
        """Return whether a resource's next chunk probably has new keys only."""
        return self._in_a_row[path] >= self.needed

    def note(self, path: str, *, all_new: bool) -> None:
        """Record whether a chunk of a resource had new keys only."""
        self._in_a_row[path] = self._in_a_row[path] + 1 if all_new else 0
