"""Marks in a declaration: annotations of fields, indexes, and retired resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: The purpose of an index on one column.
Purpose: TypeAlias = Literal["order", "search", "trigram", "contains"]


@dataclass(frozen=True, slots=True)
class Key:
    """The natural key (int or str). Without this mark, the server generates a UUID named `id`."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """An index on this column; it never changes an answer."""

    #: `order` (a B-tree), `search` (full text), `trigram` (parts of a text), `contains` (JSON).
    purpose: Purpose = "order"
    #: The configuration of a `search` index, as in the filter `fts(english)`.
    language: str = "simple"


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique constraint on this column.

    If two commands have the same value, the order of their application determines the rejected one,
    so two replays could differ. The rejection is therefore recorded, and later replays follow it.
    """


@dataclass(frozen=True, slots=True)
class References:
    """A reference: the field contains the key of another resource.

    By default the database does not enforce it, because commands arrive in any order, and a row
    can arrive before the row that it refers to.
    """

    path: str
    enforced: bool = False
    #: A name for the relation in `select=`, in addition to the path: `country`.
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Retired:
    """A retired resource, declared in place of its class: `cities = Retired("cities")`.

    Consumers and replays skip and count its archived commands. The commands stay in the archive:
    a new declaration of the path and a replay restore its rows.
    """

    path: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index over several columns, for the class argument `indexes=[Index("a", "b")]`."""

    columns: tuple[str, ...]
    unique: bool = False

    def __init__(self, *columns: str, unique: bool = False) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "unique", unique)
