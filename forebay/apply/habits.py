"""What tables have lately been given: most get nothing but new keys, and need not be asked then."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_CHUNKS = 3


@dataclass(frozen=True, slots=True)
class Habits:
    """How many of the last chunks brought a table nothing but new keys.

    It decides the way, never the outcome: who expects new keys inserts them at once, and asks about
    those that could not be. Several threads may share one.
    """

    #: So many chunks in a row make a habit. One key in ten thousand that is not new would cost a
    #: COPY in vain more often than asking is saved, if one were enough.
    needed: int = _CHUNKS
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def is_used_to_new_keys(self, path: str) -> bool:
        """Whether a resource's next chunk will probably have no key that is there."""
        return self._in_a_row[path] >= self.needed

    def note(self, path: str, *, all_new: bool) -> None:
        """Takes note of a chunk of a resource."""
        self._in_a_row[path] = self._in_a_row[path] + 1 if all_new else 0
