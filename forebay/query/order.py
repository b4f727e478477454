"""Reads `order=`."""

from __future__ import annotations

import re

from forebay.query.ast import Operand, OrderTerm
from forebay.query.faults import fault
from forebay.query.grammar import MAX_ORDER_TERMS
from forebay.query.operands import column_of, read_path
from forebay.query.scanner import Scanner
from forebay.resource.spec import Kind, ResourceSpec

_DIRECTION = re.compile(r"\.(?:asc|desc)(?!\w)")
_NULLS = re.compile(r"\.(?:nullsfirst|nullslast)(?!\w)")


def read_order(parameter: str, text: str | None, spec: ResourceSpec) -> tuple[OrderTerm, ...]:
    """The terms of an order, ending with the key, which makes it total; without text the key's.

    Raises:
        ProblemError: PGRST100, PGRST127, or bad_order if something can't be sorted by.
    """
    terms = [] if text is None else _read_terms(Scanner(parameter, text), spec)
    key = Operand(spec.key)
    operands = [term.operand for term in terms]
    if key in operands:
        # Keys differ from row to row: what comes after one has nothing left to say.
        return tuple(terms[: operands.index(key) + 1])
    return (*terms, OrderTerm(key))


def _read_terms(scanner: Scanner, spec: ResourceSpec) -> list[OrderTerm]:
    terms = [_read_term(scanner, spec)]
    while scanner.take(","):
        terms.append(_read_term(scanner, spec))
        if len(terms) > MAX_ORDER_TERMS:
            raise fault("bad_order", scanner.parameter, f"there are at most {MAX_ORDER_TERMS}")
        if any(term.operand == terms[-1].operand for term in terms[:-1]):
            name = terms[-1].operand.column.name
            raise fault("bad_order", scanner.parameter, f"{name} is there twice")
    scanner.expect_end()
    return terms


def _read_term(scanner: Scanner, spec: ResourceSpec) -> OrderTerm:
    operand = _read_sortable(scanner, spec)
    descending = scanner.match(_DIRECTION) == ".desc"
    nulls = scanner.match(_NULLS)
    scanner.skip_spaces()
    if not scanner.at_end and not scanner.next_is(","):
        raise scanner.error(".asc, .desc, .nullsfirst, .nullslast or a comma")
    return OrderTerm(operand, descending, descending if nulls is None else nulls == ".nullsfirst")


def _read_sortable(scanner: Scanner, spec: ResourceSpec) -> Operand:
    name = scanner.name()
    if scanner.next_is("("):
        raise fault("PGRST127", scanner.parameter, "a related row's column can't be sorted by")
    operand = read_path(scanner, column_of(spec, name, scanner.parameter, "bad_order"), "bad_order")
    if operand.kind is Kind.JSON and not operand.path:
        raise fault(
            "bad_order",
            scanner.parameter,
            f"{operand.column.name} is a JSON {operand.column.shape}, which has no order; a place "
            "inside it has, such as ->>name",
        )
    return operand
