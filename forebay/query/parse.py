"""Parses the query parameters of a list; every fault names the parameter and what is allowed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Literal, cast

from forebay.problem import Problem, ProblemError
from forebay.query.ast import Compare, Condition, Is, ListQuery, OneOf, OrderTerm
from forebay.query.cursor import read_cursor
from forebay.query.grammar import COMPARISONS, DEFAULT_LIMIT, MAX_LIMIT
from forebay.query.values import checked
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

_IS_STATES = ("null", "not_null", "true", "false")
_MAX_CONDITIONS = 50
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_list(spec: ResourceSpec, query: Mapping[str, str]) -> ListQuery:
    """The query of a list request.

    Args:
        spec: of the resource.
        query: the route's declared parameters that the request has.

    Raises:
        ProblemError: a parameter can't be understood.
    """
    conditions = [
        _condition(column, column.name, query[column.name])
        for column in spec.columns
        if column.name in query
    ]
    if "and" in query:
        conditions += _conjunction(spec, query["and"])
    if len(conditions) > _MAX_CONDITIONS:
        raise _bad("bad_filter", f"there are {len(conditions)} filters, {_MAX_CONDITIONS} is most")
    order = _order(spec, query.get("order", ""))
    fingerprint = _fingerprint(spec, conditions, order)
    return ListQuery(
        conditions=tuple(conditions),
        order=order,
        limit=_limit(query.get("limit")),
        after=read_cursor(query["cursor"], fingerprint, order) if "cursor" in query else None,
        fingerprint=fingerprint,
    )


def _conjunction(spec: ResourceSpec, text: str) -> Iterator[Condition]:
    """`(population.gte.1000,population.lt.5000)`: a column may occur more than once."""
    if not (text.startswith("(") and text.endswith(")")):
        raise _bad("bad_filter", "and takes conditions in parentheses: and=(col.gte.1,col.lt.9)")
    for part in _split(text[1:-1]):
        name, dot, rest = part.partition(".")
        column = spec.column(name)
        if column is None or not dot:
            raise _bad("bad_filter", f"and: {part!r} does not begin with a column of {spec.path}")
        operator, dot, value = rest.partition(".")
        yield _condition(column, "and", operator + dot + _unquoted(value))


def _condition(column: FieldSpec, parameter: str, text: str) -> Condition:
    operator, dot, value = text.partition(".")
    if not column.comparable:
        raise _bad("bad_filter", f"{parameter}: {column.name} holds JSON, which has no filter")
    if not dot or operator not in {*COMPARISONS, "in", "is"}:
        allowed = ", ".join((*COMPARISONS, "in", "is"))
        raise _bad(
            "bad_filter",
            f"{parameter}: {column.name} takes an operator and a value, such as eq.5; operators: "
            f"{allowed}",
        )
    if operator == "is":
        return _is(column, parameter, value)
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise _bad("bad_filter", f"{parameter}: in takes a list in parentheses: in.(a,b)")
        parts = _split(value[1:-1])
        values = tuple(_value(column, parameter, _unquoted(part)) for part in parts)
        return OneOf(column, values)
    literal = cast("Literal['eq', 'neq', 'gt', 'gte', 'lt', 'lte']", operator)
    return Compare(column, literal, _value(column, parameter, value))


def _is(column: FieldSpec, parameter: str, value: str) -> Is:
    if value not in _IS_STATES:
        raise _bad("bad_filter", f"{parameter}: is takes one of {', '.join(_IS_STATES)}")
    if value in {"true", "false"} and column.kind is not Kind.BOOLEAN:
        raise _bad("bad_filter", f"{parameter}: {column.name} is no boolean, so is takes null only")
    return Is(column, cast("Literal['null', 'not_null', 'true', 'false']", value))


def _value(column: FieldSpec, parameter: str, text: str) -> str:
    try:
        return checked(column, text)
    except ValueError as exc:
        shown = text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - for the eye
        raise _bad(
            "bad_filter", f"{parameter}: {shown!r} is no value of {column.name}: {exc}"
        ) from None


def _split(text: str) -> list[str]:
    """The parts between commas, as they are; commas in quotes or parentheses do not part."""
    parts, current, depth, quoted = [], "", 0, False
    chars = iter(text)
    for char in chars:
        if char == "," and not quoted and depth == 0:
            parts.append(current)
            current = ""
            continue
        current += char
        if quoted and char == "\\":
            current += next(chars, "")
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(char, 0)
    return [*parts, current] if text else []


def _unquoted(text: str) -> str:
    r"""A value of a list; in double quotes, `\"` and `\\` stand for `"` and `\` (as PostgREST)."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text


def _order(spec: ResourceSpec, text: str) -> tuple[OrderTerm, ...]:
    terms: list[OrderTerm] = []
    for part in text.split(",") if text else []:
        name, _, direction = part.partition(".")
        column = spec.column(name)
        if column is None or not column.comparable or direction not in {"", "asc", "desc"}:
            columns = ", ".join(column.name for column in spec.columns if column.comparable)
            raise _bad(
                "bad_order",
                f"order: {part!r} should be a column, with .asc or .desc; columns: {columns}",
            )
        if any(term.column is column for term in terms):
            raise _bad("bad_order", f"order: {name} is there twice")
        terms.append(OrderTerm(column, descending=direction == "desc"))
    if not any(term.column is spec.key for term in terms):
        terms.append(OrderTerm(spec.key))
    return tuple(terms)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit()) or not 0 <= int(text[:9]) <= MAX_LIMIT:
        raise _bad("bad_limit", f"limit: {text[:20]!r} should be 0 to {MAX_LIMIT}")
    return int(text)


def _fingerprint(
    spec: ResourceSpec, conditions: list[Condition], order: tuple[OrderTerm, ...]
) -> str:
    described = repr(
        (
            spec.path,
            [(type(c).__name__, c.column.name, *_details(c)) for c in conditions],
            [(term.column.name, term.descending) for term in order],
        )
    )
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _details(condition: Condition) -> tuple[object, ...]:
    match condition:
        case Compare():
            return condition.operator, condition.value
        case OneOf():
            return condition.values
        case Is():
            return (condition.state,)


def _bad(code: str, detail: str) -> ProblemError:
    return ProblemError(Problem(code, detail))
