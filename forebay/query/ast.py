"""A parsed list query as plain data; SQL is made from it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from forebay.resource.relations import Relation
from forebay.resource.spec import FieldSpec, Kind

Operator: TypeAlias = Literal[
    "eq", "neq", "gt", "gte", "lt", "lte", "isdistinct", "in", "is",
    "like", "ilike", "match", "imatch",
    "fts", "plfts", "phfts", "wfts",
    "cs", "cd", "ov",
]  # fmt: skip
#: The types that `select=column::type` may cast to; a column's kind narrows them further.
Cast: TypeAlias = Literal["text", "integer", "bigint", "double precision", "numeric", "boolean"]


@dataclass(frozen=True, slots=True)
class Operand:
    """A column, or a place inside a JSON column: `tags->0`, `address->>city`."""

    column: FieldSpec
    #: Members by name, elements by number from 0 (or from -1, backwards); fits four bytes.
    path: tuple[str | int, ...] = ()
    #: The last arrow is `->>`: text, not JSON. Never without a path.
    as_text: bool = False

    @property
    def kind(self) -> Kind:
        """What kind of value it yields."""
        return Kind.TEXT if self.as_text else self.column.kind

    @property
    def nullable(self) -> bool:
        """Whether it may be null."""
        return self.column.nullable or bool(self.path)


@dataclass(frozen=True, slots=True)
class Filter:
    """`column.operator.value`, checked against the operand's kind."""

    operand: Operand
    operator: Operator
    #: In the text form that Postgres reads as the operand's type (JSON text for JSON).
    #: Several for `in` (perhaps none), for a quantified operator, and for `ov`, whose values are
    #: the elements to overlap with, each as JSON text. For `is`: null, not_null, true, false or
    #: unknown. Of `like` and `ilike` it is SQL's pattern: `*` is `%` already.
    value: str | tuple[str, ...]
    #: `like(any)`, `eq(all)`: over several values, perhaps none (any fails, all holds then).
    quantifier: Literal["any", "all"] | None = None
    #: The text search configuration of `fts(english)` and its like: one that Postgres has.
    language: str | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """`relation=not.is.null`: whether there is a related row, as far as its filters let one in."""

    embedded: Embedded
    #: `relation=is.null`: there is none.
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`and=(…)`, `or=(…)`; an empty `and` holds always, an empty `or` there is none."""

    joined_by: Literal["and", "or"] = "and"
    members: tuple[Condition, ...] = ()
    negated: bool = False


Condition: TypeAlias = Filter | Presence | Group


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """One thing to sort by."""

    operand: Operand
    descending: bool = False
    #: Resolved: without a word, nulls come last ascending, first descending.
    nulls_first: bool = False
    #: `relation(column)`: the operand is one of this related row, which may be missing.
    embedded: Embedded | None = None

    @property
    def nullable(self) -> bool:
        """Whether what it sorts by may be null."""
        return self.embedded is not None or self.operand.nullable


@dataclass(frozen=True, slots=True)
class Selected:
    """`alias:column::cast`: one member of each answered object."""

    operand: Operand
    #: The member's name: the alias, or the column's, or the last name of the JSON path.
    name: str
    cast: Cast | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`alias:relation!inner(…)`: rows of another resource inside each object."""

    relation: Relation
    #: The member's name: the alias, or the relation's name as it was written.
    name: str
    #: Rows without a related row are left out; filters on the relation then filter the rows too.
    inner: bool
    #: None that is written (`country!inner()`): nothing of it is written, it only filters.
    members: tuple[Selected | Embedded, ...]
    #: All must hold: an `and`, not negated; so must those of its inner members.
    where: Group
    #: Of a relation to many it ends with the target's key; empty for one to one.
    order: tuple[OrderTerm, ...]
    limit: int
    offset: int

    @property
    def is_written(self) -> bool:
        """Whether anything of it is written."""
        return any(isinstance(m, Selected) or m.is_written for m in self.members)


@dataclass(frozen=True, slots=True)
class Position:
    """What a cursor says: the order's values of the row to go on from, null as None.

    The row itself is left out: the page is what comes after it in the order or, backward, the
    nearest rows that come before it (still written in the order).
    """

    #: As many as the order has terms; each in the text form that Postgres reads as its type.
    values: tuple[str | None, ...]
    backward: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list asks for, besides how it wants the answer written."""

    #: In the order in which the members are written; at least one is, names occur once.
    select: tuple[Selected | Embedded, ...]
    #: All must hold: an `and`, not negated.
    where: Group
    #: Ends with the key, so that it is total.
    order: tuple[OrderTerm, ...]
    #: Rows; never above the cap. `Range` is in it already, and in `offset`.
    limit: int
    offset: int
    #: From the cursor; not together with an offset.
    position: Position | None
    #: What a cursor must match: resource, order and filters, also those of inner relations.
    fingerprint: str

    @property
    def backward(self) -> bool:
        """Whether rows are looked for against the order: those before a position."""
        return self.position is not None and self.position.backward

    def embeddings(self) -> Iterator[Embedded]:
        """Every embedded resource, at whatever level, each once."""
        return _embeddings(self.select)

    def resources(self, start: str) -> frozenset[str]:
        """The paths of all resources that are read, join resources included.

        Args:
            start: the path of the list itself.
        """
        relations = [embedded.relation for embedded in self.embeddings()]
        joins = [relation.through.spec.path for relation in relations if relation.through]
        return frozenset({start, *(relation.target.path for relation in relations), *joins})


def _embeddings(members: tuple[Selected | Embedded, ...]) -> Iterator[Embedded]:
    for member in members:
        if isinstance(member, Embedded):
            yield member
            yield from _embeddings(member.members)
