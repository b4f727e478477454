"""Parser for `order=`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from forebay.query.ast import Embedded, Operand, OrderTerm
from forebay.query.faults import fault, shown
from forebay.query.grammar import MAX_ORDER_TERMS
from forebay.query.operands import find_column, read_path
from forebay.query.scanner import Scanner
from forebay.resource.spec import Kind, ResourceSpec

_DIRECTION = re.compile(r"\.(?:asc|desc)(?!\w)")
_NULLS = re.compile(r"\.(?:nullsfirst|nullslast)(?!\w)")


#: Finds the embedded relations that a name refers to.
Related: TypeAlias = Callable[[str], Sequence[Embedded]]


def read_order(
    parameter: str, text: str | None, spec: ResourceSpec, related: Related
) -> tuple[OrderTerm, ...]:
    """Parse an order into terms. The key is the last term, so the order is total.

    Args:
        parameter: the parameter's name, for messages.
        text: the parameter's text; None means the order of the keys.
        spec: the resource of the sorted rows.
        related: finds the relations that are embedded in those rows.

    Raises:
        ProblemError: PGRST100, PGRST108, PGRST118, or bad_order if an operand can't be sorted by.
    """
    terms = [] if text is None else _read_terms(Scanner(parameter, text), spec, related)
    key = Operand(spec.key)
    for number, term in enumerate(terms):
        if term.operand == key and term.embedded is None:
            # Keys are unique, so terms after the key have no effect.
            return tuple(terms[: number + 1])
    return (*terms, OrderTerm(key))


def _read_terms(scanner: Scanner, spec: ResourceSpec, related: Related) -> list[OrderTerm]:
    terms = [_read_term(scanner, spec, related)]
    while scanner.take(","):
        terms.append(_read_term(scanner, spec, related))
        if len(terms) > MAX_ORDER_TERMS:
            raise fault(
                "bad_order", scanner.parameter, f"at most {MAX_ORDER_TERMS} terms are allowed"
            )
        if any(_is_same(term, terms[-1]) for term in terms[:-1]):
            name = terms[-1].operand.column.name
            raise fault("bad_order", scanner.parameter, f"{name} is given twice")
    scanner.expect_end()
    return terms


def _is_same(left: OrderTerm, right: OrderTerm) -> bool:
    return left.operand == right.operand and left.embedded is right.embedded


def _read_term(scanner: Scanner, spec: ResourceSpec, related: Related) -> OrderTerm:
    name, embedded = scanner.name(), None
    if scanner.take("("):
        embedded = _require_one_row(scanner, name, related(name))
        operand = _read_sortable(scanner, embedded.relation.target, scanner.name())
        scanner.expect(")")
    else:
        operand = _read_sortable(scanner, spec, name)
    descending = scanner.match(_DIRECTION) == ".desc"
    nulls = scanner.match(_NULLS)
    scanner.skip_spaces()
    if not scanner.at_end and not scanner.next_is(","):
        raise scanner.error(".asc, .desc, .nullsfirst, .nullslast or a comma")
    nulls_first = descending if nulls is None else nulls == ".nullsfirst"
    return OrderTerm(operand, descending, nulls_first, embedded)


def _require_one_row(scanner: Scanner, name: str, embedded: Sequence[Embedded]) -> Embedded:
    if not embedded:
        raise fault(
            "PGRST108",
            scanner.parameter,
            f"{shown(name)} is not embedded in this request",
            f"Add it to select, by this name or with this alias: select=*,{name}()",
        )
    if embedded[0].relation.many:
        raise fault(
            "PGRST118",
            scanner.parameter,
            f"{shown(name)} can have many rows, so it determines no order; "
            "order=relation(column) requires a relation to one row",
        )
    return embedded[0]


def _read_sortable(scanner: Scanner, spec: ResourceSpec, name: str) -> Operand:
    operand = read_path(
        scanner, find_column(spec, name, scanner.parameter, "bad_order"), "bad_order"
    )
    if operand.kind is Kind.JSON and not operand.path:
        raise fault(
            "bad_order",
            scanner.parameter,
            f"{operand.column.name} is a JSON {operand.column.shape}, which has no order; order "
            "by a path inside it, such as ->>name",
        )
    return operand
