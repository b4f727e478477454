"""The syntax tree of a list query: plain data, without SQL."""

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
#: The types that `select=column::type` may cast to; `list_casts` returns those of one operand.
Cast: TypeAlias = Literal["text", "integer", "bigint", "double precision", "numeric", "boolean"]


@dataclass(frozen=True, slots=True)
class Operand:
    """A column, or a path into a JSON column: `tags->0`, `address->>city`."""

    column: FieldSpec
    #: Member names, and element numbers from 0 (from -1 backwards); a number fits four bytes.
    path: tuple[str | int, ...] = ()
    #: The last arrow is `->>`: the value is text, not JSON. False if the path is empty.
    as_text: bool = False

    @property
    def kind(self) -> Kind:
        """The kind of the operand's values."""
        return Kind.TEXT if self.as_text else self.column.kind

    @property
    def nullable(self) -> bool:
        """True if a value may be null."""
        return self.column.nullable or bool(self.path)


@dataclass(frozen=True, slots=True)
class Filter:
    """`column.operator.value`, checked against the operand's kind."""

    operand: Operand
    operator: Operator
    #: Text that Postgres reads as the operand's type (JSON text for JSON).
    #: A tuple for `in` (may be empty), for a quantified operator, and for `ov`, where it holds the
    #: elements to overlap with, each as JSON text. For `is`: null, not_null, true, false or
    #: unknown. For `like` and `ilike`: the SQL pattern, with `*` replaced by `%`.
    value: str | tuple[str, ...]
    #: `like(any)`, `eq(all)`. Without values, `any` is false and `all` is true.
    quantifier: Literal["any", "all"] | None = None
    #: The text search configuration in `fts(english)`: a member of `CONFIGURATIONS`.
    language: str | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """`relation=not.is.null`: a related row exists that matches the relation's own filters."""

    embedded: Embedded
    #: `relation=is.null`: no such row exists.
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`and=(…)`, `or=(…)`. An empty `and` is true; an `or` always has members."""

    joined_by: Literal["and", "or"] = "and"
    members: tuple[Condition, ...] = ()
    negated: bool = False


Condition: TypeAlias = Filter | Presence | Group


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """One term of an order."""

    operand: Operand
    descending: bool = False
    #: Always resolved. The default is last if ascending, first if descending, as in Postgres.
    nulls_first: bool = False
    #: `relation(column)`: the operand belongs to this related row, which may be missing.
    embedded: Embedded | None = None

    @property
    def nullable(self) -> bool:
        """True if the sort value may be null."""
        return self.embedded is not None or self.operand.nullable


@dataclass(frozen=True, slots=True)
class Selected:
    """`alias:column::cast`: a member of each object in the answer."""

    operand: Operand
    #: The member's name: the alias, else the last name in the JSON path, else the column's name.
    name: str
    cast: Cast | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`alias:relation!inner(…)`: related rows inside each object."""

    relation: Relation
    #: The member's name: the alias, else the relation's name as the request spells it.
    name: str
    #: Omit rows without a related row that matches the relation's filters.
    inner: bool
    #: If no member is written (`country!inner()`), the relation only filters.
    members: tuple[Selected | Embedded, ...]
    #: An `and`, not negated. The filters of its inner members apply as well.
    where: Group
    #: Ends with the target's key in a relation to many rows; empty in a relation to one row.
    order: tuple[OrderTerm, ...]
    limit: int
    offset: int

    @property
    def is_written(self) -> bool:
        """True if the answer contains the relation."""
        return any(isinstance(m, Selected) or m.is_written for m in self.members)


@dataclass(frozen=True, slots=True)
class Position:
    """A decoded cursor: the sort values of the row that the page starts from, null as None.

    The page excludes that row. It holds the next rows in the order or, backward, the nearest
    preceding rows (still written in the order).
    """

    #: One for each term of the order, as text that Postgres reads as the term's type.
    values: tuple[str | None, ...]
    backward: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A list request, without its media type and count (see `Representation`)."""

    #: In the order in which the members are written; at least one is written, names are unique.
    select: tuple[Selected | Embedded, ...]
    #: An `and`, not negated.
    where: Group
    #: A total order: it ends with the key.
    order: tuple[OrderTerm, ...]
    #: Rows; at most `MAX_LIMIT`. `limit` and `offset` include the request's `Range`.
    limit: int
    offset: int
    #: From the cursor; excludes an offset.
    position: Position | None
    #: A digest that binds a cursor to its resource, order and filters (inner relations included).
    fingerprint: str

    @property
    def backward(self) -> bool:
        """True if the page holds the rows before a position."""
        return self.position is not None and self.position.backward

    def embeddings(self) -> Iterator[Embedded]:
        """Iterate over the embedded resources of all levels."""
        return _walk_embeddings(self.select)

    def resources(self, start: str) -> frozenset[str]:
        """Return the paths of all resources that the query reads, join resources included.

        Args:
            start: the path of the list itself.
        """
        relations = [embedded.relation for embedded in self.embeddings()]
        joins = [relation.through.spec.path for relation in relations if relation.through]
        return frozenset({start, *(relation.target.path for relation in relations), *joins})


def _walk_embeddings(members: tuple[Selected | Embedded, ...]) -> Iterator[Embedded]:
    for member in members:
        if isinstance(member, Embedded):
            yield member
            yield from _walk_embeddings(member.members)
