"""What a declaration writes beside a field's type, and in the place of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: What an index on one column is for.
Purpose: TypeAlias = Literal["order", "search", "trigram", "contains"]


@dataclass(frozen=True, slots=True)
class Key:
    """Marks the natural key (int or str). Without one, the server makes a UUID named `id`."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Asks for an index on this one column; it never changes an answer."""

    #: `order` (a B-tree), `search` (full text), `trigram` (parts of a text), `contains` (JSON).
    purpose: Purpose = "order"
    #: Of a search: the configuration that filters name, as in `fts(english)`.
    language: str = "simple"


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
class Retired:
    """A resource that is no more, in the place of its class: `cities = Retired("cities")`.

    Its archived commands are skipped and counted, whatever applies them. They stay in the archive:
    a declaration of the same path, and a replay, bring its rows back.
    """

    path: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index over several columns, given to the class: `indexes=[Index("a", "b")]`."""

    columns: tuple[str, ...]
    unique: bool = False

    def __init__(self, *columns: str, unique: bool = False) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "unique", unique)
