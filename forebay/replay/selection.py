"""The selection of archived commands for a replay."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from forebay.archive.lines import Entry, InvalidLine
from forebay.ids import make_least_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions on commands; all must hold, and empty conditions hold for every command."""

    #: Accepted at this time or later, according to the command's id.
    since: dt.datetime | None = None
    #: Accepted before this time.
    until: dt.datetime | None = None
    #: Paths of resources.
    resources: frozenset[str] = frozenset()
    #: Keys as text.
    keys: frozenset[str] = frozenset()
    #: Callers.
    by: frozenset[str] = frozenset()
    #: Command ids.
    ids: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """True if all conditions are empty."""
        return self == Selection()

    def chunks(self, chunks: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Yield each chunk with its selected commands; the result may contain empty chunks.

        Invalid lines are selected only if all conditions are empty.
        """
        if self.is_everything:
            yield from chunks
            return
        since = None if self.since is None else make_least_id(self.since)
        until = None if self.until is None else make_least_id(self.until)
        for chunk in chunks:
            yield [
                entry
                for entry in chunk
                if not isinstance(entry, InvalidLine)
                and (since is None or entry.id >= since)
                and (until is None or entry.id < until)
                and (not self.resources or entry.resource in self.resources)
                and (not self.keys or str(entry.key) in self.keys)
                and (not self.by or entry.by in self.by)
                and (not self.ids or entry.id in self.ids)
            ]

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values for `from_json`; empty conditions are omitted."""
        document: dict[str, Any] = {
            name: sorted(getattr(self, name)) for name in _SETS if getattr(self, name)
        }
        for name in ("since", "until"):
            moment = getattr(self, name)
            if moment is not None:
                document[name] = moment.isoformat()
        return document

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Create a selection from the result of `to_json`.

        Raises:
            ValueError: a condition is unknown to this release, or a time is invalid.
        """
        unknown = set(told) - {"since", "until", *_SETS}
        if unknown:
            raise ValueError(
                f"the selection contains unknown conditions: {', '.join(sorted(unknown))}"
            )
        values: dict[str, Any] = {
            name: dt.datetime.fromisoformat(value)
            if name in {"since", "until"}
            else frozenset(value)
            for name, value in told.items()
        }
        return cls(**values)


_SETS = ("resources", "keys", "by", "ids")
