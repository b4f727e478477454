"""The operators of filters: the kinds that support them, and the parsers of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from forebay.problem import ProblemError
from forebay.query.arrays import read_array
from forebay.query.ast import Filter, Operand, Operator
from forebay.query.faults import fault, listed, shown
from forebay.query.grammar import MAX_PARAMETER_LENGTH
from forebay.query.scanner import Scanner
from forebay.query.textsearch import CONFIGURATIONS, check_tsquery
from forebay.query.values import ORDERED_ITEMS, checked, contained, elements, pattern
from forebay.resource.spec import Kind

Quantifier: TypeAlias = Literal["any", "all"]

COMPARISONS: Final = ("eq", "neq", "gt", "gte", "lt", "lte", "isdistinct", "in", "is")
PATTERNS: Final = ("like", "ilike", "match", "imatch")
TEXT_SEARCH: Final = ("fts", "plfts", "phfts", "wfts")
CONTAINMENT: Final = ("cs", "cd", "ov")
#: Operators that need an ordered operand.
ORDERING: Final = frozenset({"gt", "gte", "lt", "lte"})
OPERATORS: Final = (*COMPARISONS, *PATTERNS, *TEXT_SEARCH, *CONTAINMENT)
#: Operators that support `(any)` and `(all)`.
QUANTIFIABLE: Final = ("eq", "gt", "gte", "lt", "lte", *PATTERNS)
IS_STATES: Final = ("null", "not_null", "true", "false", "unknown")

_WORD = re.compile(r"[A-Za-z_]*")
_MODIFIER = re.compile(r"\([A-Za-z0-9_ $]*\)")


@dataclass(frozen=True, slots=True)
class _Head:
    """The part of a filter before its value: `not.like(any).`."""

    operator: Operator
    quantifier: Quantifier | None
    language: str | None
    negated: bool


def list_operators(operand: Operand) -> tuple[str, ...]:
    """Return the operators that the operand supports."""
    if operand.kind is Kind.TEXT:
        return (*COMPARISONS, *PATTERNS, *TEXT_SEARCH)
    if operand.kind is not Kind.JSON:
        return COMPARISONS
    is_listed = operand.column.shape == "list" and not operand.path
    containment = CONTAINMENT if is_listed or operand.path else ("cs", "cd")
    if operand.path or (is_listed and operand.column.items in ORDERED_ITEMS):
        return (*COMPARISONS, *containment, *TEXT_SEARCH)
    equality = tuple(word for word in COMPARISONS if word not in ORDERING)
    return (*equality, *containment, *TEXT_SEARCH)


def read_filter(scanner: Scanner, operand: Operand, *, grouped: bool) -> Filter:
    """Parse `not.operator(modifier).value`.

    Args:
        scanner: positioned after the operand and its dot.
        operand: the operand of the filter.
        grouped: the filter is inside `and=(…)`, where `,` and `)` end a value. Otherwise the value
            is the unchanged rest of the text.

    Raises:
        ProblemError: PGRST100, or bad_filter if the operand does not support the operator or the
            value.
    """
    head = _read_head(scanner, operand)
    if head.operator == "in":
        value: str | tuple[str, ...] = _read_list(scanner, operand)
    elif head.operator == "is":
        value = _read_state(scanner, operand)
    else:
        text = _read_grouped_value(scanner, operand) if grouped else scanner.rest()
        value = _read_value(scanner.parameter, operand, head, text)
    return Filter(operand, head.operator, value, head.quantifier, head.language, head.negated)


def _read_head(scanner: Scanner, operand: Operand) -> _Head:
    negated = scanner.take("not.")
    word = scanner.match(_WORD) or ""
    if word not in OPERATORS:
        raise fault(
            "PGRST100",
            scanner.parameter,
            f"{operand.column.name} requires an operator and a value, such as eq.5, and "
            f"{shown(word)} is not an operator; {_describe(operand)} supports "
            f"{listed(list_operators(operand))}",
        )
    if word not in list_operators(operand):
        raise fault(
            "bad_filter",
            scanner.parameter,
            f"{operand.column.name} is {_describe(operand)}, which does not support {word}; it "
            f"supports {listed(list_operators(operand))}",
        )
    quantifier, language = _read_modifier(scanner, word)
    scanner.expect(".")
    return _Head(cast("Operator", word), quantifier, language, negated)


def _read_modifier(scanner: Scanner, word: str) -> tuple[Quantifier | None, str | None]:
    modifier = scanner.match(_MODIFIER)
    if modifier is None:
        return None, None
    modifier_text = modifier[1:-1].strip()
    if word in QUANTIFIABLE and modifier_text in {"any", "all"}:
        return cast("Quantifier", modifier_text), None
    if word in TEXT_SEARCH and modifier_text.lower() in CONFIGURATIONS:
        return None, modifier_text.lower()
    if word in TEXT_SEARCH:
        expected = f"a text search configuration: {listed(sorted(CONFIGURATIONS))}"
    else:
        expected = "any or all" if word in QUANTIFIABLE else "no argument"
    raise fault("PGRST100", scanner.parameter, f"{word} accepts {expected} in brackets")


def _read_list(scanner: Scanner, operand: Operand) -> tuple[str, ...]:
    scanner.bracket("(")
    values = [scanner.element()]
    while scanner.take(","):
        values.append(scanner.element())
    scanner.expect(")")
    scanner.skip_spaces()
    if values == [("", False)]:
        return ()
    return tuple(
        _check_fit(scanner.parameter, operand, _trim(operand, text), checked) for text, _ in values
    )


def _read_grouped_value(scanner: Scanner, operand: Operand) -> str:
    if operand.kind is not Kind.TEXT:
        scanner.skip_spaces()
    return _trim(operand, scanner.grouped_value())


def _trim(operand: Operand, text: str) -> str:
    """Strip blanks around a value in brackets, except text, as Postgres does."""
    return text if operand.kind is Kind.TEXT else text.strip(" \t")


def _read_state(scanner: Scanner, operand: Operand) -> str:
    state = (scanner.match(_WORD) or "").lower()
    states = IS_STATES if operand.kind is Kind.BOOLEAN else ("null", "not_null")
    if state not in IS_STATES:
        raise fault("PGRST100", scanner.parameter, f"is requires one of {listed(IS_STATES)}")
    if state not in states:
        raise fault(
            "bad_filter",
            scanner.parameter,
            f"{operand.column.name} is {_describe(operand)}, for which is accepts only "
            f"{listed(states)}",
        )
    return state


def _read_value(
    parameter: str, operand: Operand, parsed_head: _Head, text: str
) -> str | tuple[str, ...]:
    if parsed_head.quantifier is None and len(text) > MAX_PARAMETER_LENGTH:
        raise fault(
            "PGRST100", parameter, f"a value can have at most {MAX_PARAMETER_LENGTH} characters"
        )
    if parsed_head.operator == "ov":
        return _read_several(parameter, operand, text, elements)
    reader = _READERS.get(parsed_head.operator, checked)
    if parsed_head.quantifier is None:
        return _check_fit(parameter, operand, text, reader)
    values = _read_several(parameter, operand, text, lambda _, literal: read_array(literal))
    return tuple(_check_fit(parameter, operand, value, reader) for value in values)


def _check_fit(
    parameter: str, operand: Operand, text: str, reader: Callable[[Operand, str], str]
) -> str:
    try:
        return reader(operand, text)
    except ValueError as exc:
        raise _describe_misfit(parameter, operand, text, exc) from None


def _read_several(
    parameter: str,
    operand: Operand,
    text: str,
    reader: Callable[[Operand, str], tuple[str, ...]],
) -> tuple[str, ...]:
    try:
        return reader(operand, text)
    except ValueError as exc:
        raise _describe_misfit(parameter, operand, text, exc) from None


def _describe_misfit(parameter: str, operand: Operand, text: str, exc: ValueError) -> ProblemError:
    about = f"{operand.column.name} is {_describe(operand)}"
    return fault("bad_filter", parameter, f"{about}, and {shown(text)} {exc}")


def _describe(operand: Operand) -> str:
    if operand.kind is Kind.JSON and not operand.path and operand.column.shape is not None:
        return f"a JSON {operand.column.shape}"
    return operand.kind.value


def _read_plain(_operand: Operand, text: str) -> str:
    return text


def _read_pattern(_operand: Operand, text: str) -> str:
    return pattern(text)


def _read_tsquery(_operand: Operand, text: str) -> str:
    check_tsquery(text)
    return text


#: Parsers of values that are not of the operand's kind, by operator. Only Postgres can check the
#: syntax of a regular expression; the read function turns its error into a 400.
_READERS: Mapping[str, Callable[[Operand, str], str]] = {
    "like": _read_pattern,
    "ilike": _read_pattern,
    "match": _read_plain,
    "imatch": _read_plain,
    "fts": _read_tsquery,
    "plfts": _read_plain,
    "phfts": _read_plain,
    "wfts": _read_plain,
    "cs": contained,
    "cd": contained,
}
