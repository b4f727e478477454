"""What a declaration writes beside a field's type: key, index, uniqueness, reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """Marks the natural key (int or str). Without one, the server makes a UUID named `id`."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Asks for an index on this one column."""


@dataclass(frozen=True, slots=True)
class Unique:
    """Asks for uniqueness of this column.

    Which of two commands that claim the same value is rejected depends on which is applied first,
    so this is the one thing that can make two replays of the same set differ; the rejection is
    recorded, and a recorded rejection holds in every later replay.
    """


@dataclass(frozen=True, slots=True)
class References:
    """Says that the field holds the key of another resource.

    Not enforced by the database unless asked for: commands may arrive in any order, and a row
    may well arrive before the row that it refers to.
    """

    path: str
    enforced: bool = False
    #: What `select=` may call the way along it, besides the path: `country`.
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index over several columns, given to the class: `indexes=[Index("a", "b")]`."""

    columns: tuple[str, ...]
    unique: bool = False

    def __init__(self, *columns: str, unique: bool = False) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "unique", unique)
