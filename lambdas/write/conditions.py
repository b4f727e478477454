"""Reads the conditions of writes: `If-Match`, filters on fields, and members of operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from forebay.conditions import (
    MAX_COMPARISONS,
    MAX_VALUES,
    OPERATORS,
    Comparison,
    Condition,
    is_condition,
)
from forebay.problem import Problem, ProblemError
from forebay.query.ast import Operand
from forebay.query.faults import fault, shown
from forebay.query.operators import read_filter
from forebay.query.scanner import Scanner
from forebay.resource import spellings
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from lambdas.write.parameters import refuse_damage

_POSSIBLE: Final = "eq, neq, gt, gte, lt, lte, in and is.null"


def read_comparisons(spec: ResourceSpec, query: Mapping[str, object]) -> list[Comparison]:
    """Read the filters on fields other than the key, which are a write's condition.

    Raises:
        ProblemError: a filter has an operator that conditions don't have, or a value that does not
            fit its field.
    """
    return [
        _read_comparison(field, text)
        for field in spec.fields
        for text in _list_texts(query, field.name)
    ]


def _list_texts(query: Mapping[str, object], name: str) -> Iterator[str]:
    values = query.get(name, ())
    yield from map(str, values if isinstance(values, list | tuple) else (values,))


def _read_comparison(field: FieldSpec, text: str) -> Comparison:
    refuse_damage(field.name, text)
    if "\x00" in text or not _is_encodable(text):
        raise fault("PGRST100", field.name, f"{shown(text)} contains NUL or is not valid Unicode")
    scanner = Scanner(field.name, text)
    parsed = read_filter(scanner, Operand(field), grouped=False)
    scanner.expect_end()
    is_plain = not (parsed.negated or parsed.quantifier or parsed.language)
    if is_plain and parsed.operator == "is" and parsed.value == "null":
        return Comparison(field.name, "is", None)
    if not is_plain or parsed.operator == "is" or parsed.operator not in OPERATORS:
        raise _build_filter_error(field, f"a write's condition can't be {text[:80]!a}")
    if field.kind is Kind.JSON:
        raise _build_filter_error(field, "the condition of a JSON field can only be is.null")
    value = parsed.value
    if isinstance(value, str):
        return Comparison(field.name, parsed.operator, _convert(field, value))
    return Comparison(field.name, parsed.operator, [_convert(field, each) for each in value])


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _convert(field: FieldSpec, text: str) -> Any:  # noqa: ANN401 - as the field's kind
    """The JSON value of a filter's text, as it is in an archived body."""
    match field.kind:
        case Kind.INTEGER:
            return int(text)
        case Kind.FLOAT:
            return spellings.parse_double(text)
        case Kind.BOOLEAN:
            return text == "true"
        case Kind.TIMESTAMP:
            return text.replace("+00:00", "Z")
        case _:
            return text


def _build_filter_error(field: FieldSpec, detail: str) -> ProblemError:
    return ProblemError(
        Problem(
            "PGRST127",
            f"{field.name}: {detail}",
            hint=f"filters of a write are its condition, decided when it is applied: {_POSSIBLE}",
        )
    )


def build_condition(
    spec: ResourceSpec, match: tuple[str, ...], where: list[Comparison]
) -> Condition | None:
    """The condition of a write; None if it has neither tags nor comparisons.

    Raises:
        ProblemError: the resource can't have this condition.
    """
    if not match and not where:
        return None
    condition = Condition(match, tuple(where))
    if not is_condition(condition.to_json()):
        limits = f"{MAX_COMPARISONS} tags and filters, and {MAX_VALUES} values in a list"
        raise ProblemError(Problem("bad_filter", f"a condition has at most {limits}"))
    reason = condition.find_fault(spec)
    if reason is not None:
        raise ProblemError(Problem("bad_filter", reason))
    return condition
