"""A parsed list query as plain data; SQL is made from it elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from forebay.resource.spec import FieldSpec


@dataclass(frozen=True, slots=True)
class Compare:
    """`column.op.value`, the value checked and in the text form that Postgres reads."""

    column: FieldSpec
    operator: Literal["eq", "neq", "gt", "gte", "lt", "lte"]
    value: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """`column.in.(a,b)`."""

    column: FieldSpec
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Is:
    """`column.is.null` and its like."""

    column: FieldSpec
    state: Literal["null", "not_null", "true", "false"]


Condition: TypeAlias = Compare | OneOf | Is


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """One column to sort by; Postgres's own place for nulls: last ascending, first descending."""

    column: FieldSpec
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list asks for."""

    #: All must hold.
    conditions: tuple[Condition, ...]
    #: Ends with the key, so that it is total.
    order: tuple[OrderTerm, ...]
    limit: int
    #: The order's values of the row to go on after, null as None.
    after: tuple[str | None, ...] | None
    #: What a cursor must match: order and conditions.
    fingerprint: str
