"""Conditions of commands: comparisons with the item as it is when the command is applied.

A command with a condition is a decided command: it applies only if the condition holds for the item
at that moment, and the decision is recorded (law 7). In the archive a condition is the envelope's
member `if`:

    {"match": ["*" or entity tags], "where": [[field, operator, value], ...], "after": [ids]}

All comparisons must hold, one of the tags must match, and the commands in `after`, which are of the
same key, must be settled first. Members may be left out.
"""

from __future__ import annotations

import datetime as dt
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, Self

from forebay.conditional import does_tag_match
from forebay.ids import COMMAND_ID
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: The operators that compare with a value or, in the case of `in`, with a list.
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda left, rights: left in rights,
}
OPERATORS: Final = frozenset({"is", *_COMPARE})
#: Comparisons and tags in a condition, and values of `in`.
MAX_COMPARISONS: Final = 50
MAX_VALUES: Final = 500
#: How long a command waits for the commands that it depends on, from the first delivery of its
#: archive object.
SETTLING_SECONDS: Final = 300
#: The longest time from the acceptance of a dependency to that of the command that waits for it. An
#: older command that is not applied is lost or invented, or the pipeline has stood still for long.
MAX_DEPENDENCY_AGE_SECONDS: Final = 900

_MEMBERS: Final = frozenset({"match", "where", "after"})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_COMPARISON_SIZE: Final = 3
#: Characters of a value in a message.
_SHOWN: Final = 200


class Comparison(NamedTuple):
    """A comparison of a field with a value, or with several for `in`."""

    field: str
    operator: str
    #: A JSON value; a list for `in`; None for `is`.
    value: Any


@dataclass(frozen=True, slots=True)
class Condition:
    """A command's condition."""

    #: `*`, or entity tags; one of them must match. Empty: the item need only exist.
    match: Sequence[str] = ()
    where: Sequence[Comparison] = ()
    #: Ids of commands of the key that must be settled before the condition is examined.
    after: Sequence[str] = ()

    @classmethod
    def of_json(cls, members: Mapping[str, Any]) -> Self:
        """The condition of an envelope's member `if`, for which `is_condition` holds."""
        where = [Comparison(*comparison) for comparison in members.get("where", ())]
        return cls(tuple(members.get("match", ())), tuple(where), tuple(members.get("after", ())))

    def to_json(self) -> dict[str, Any]:
        """The envelope's member `if`."""
        members: dict[str, Any] = {}
        if self.match:
            members["match"] = list(self.match)
        if self.where:
            members["where"] = [list(comparison) for comparison in self.where]
        if self.after:
            members["after"] = list(self.after)
        return members

    @property
    def names_commands(self) -> bool:
        """True if the condition depends on what has become of other commands."""
        return bool(self.after or self.match)

    def list_command_tags(self) -> list[str]:
        """The tags that are ids of commands, and not tags of patched items."""
        return [tag for tag in self.match if COMMAND_ID.fullmatch(tag)]

    def has_match(self, state_tag: str | None, effective_id_of: Callable[[str], str]) -> bool:
        """Return whether an item has one of the tags; True without tags.

        Args:
            state_tag: the item's state tag; None without an item.
            effective_id_of: returns the id under which a command has taken its place.
        """
        if not self.match:
            return True
        return state_tag is not None and any(
            does_tag_match(tag, state_tag) or does_tag_match(effective_id_of(tag), state_tag)
            for tag in self.match
        )

    def find_fault(self, spec: ResourceSpec) -> str | None:
        """Return why the resource can't have this condition; None if it can."""
        return next(self._list_faults(spec), None)

    def _list_faults(self, spec: ResourceSpec) -> Iterator[str]:
        for name, operator_name, value in self.where:
            field = spec.column(name)
            if field is None or field is spec.key:
                yield f"{spec.path} has no field {name!r}"
            elif operator_name not in OPERATORS:
                yield f"{name}: {operator_name!r} must be one of {', '.join(sorted(OPERATORS))}"
            elif operator_name == "is":
                if value is not None:
                    yield f"{name}: `is` compares with null only"
            elif field.kind is Kind.JSON:
                yield f"{name}: a JSON field can only be compared with null"
            elif (operator_name == "in") != isinstance(value, list):
                yield f"{name}: `in` compares with a list, the other operators with one value"
            else:
                values = value if isinstance(value, list) else [value]
                unreadable = [each for each in values if _read_value(field, each) is None]
                if unreadable:
                    yield f"{name}: {_show(unreadable[0])} is no {field.kind.value}"


@dataclass(frozen=True, slots=True)
class PreparedCondition:
    """A condition, prepared for the items of a resource."""

    condition: Condition
    #: Why the resource can't have the condition; None if it can.
    fault: str | None
    #: By comparison, whether a JSON value meets it.
    _tests: Sequence[tuple[Comparison, Callable[[object], bool]]]

    @classmethod
    def of_json(cls, members: Mapping[str, Any], spec: ResourceSpec) -> Self:
        """The condition of an envelope's member `if`, for which `is_condition` holds."""
        condition = Condition.of_json(members)
        fault = condition.find_fault(spec)
        if fault is not None:
            return cls(condition, fault, ())
        fields = {field.name: field for field in spec.columns} if condition.where else {}
        tests = [(c, _make_test(fields[c.field], c)) for c in condition.where]
        return cls(condition, None, tests)

    def find_failure(
        self,
        state_tag: str | None,
        values: Mapping[str, Any],
        effective_id_of: Callable[[str], str] = str,
    ) -> str | None:
        """Return why the condition does not hold for an item; None if it holds.

        Args:
            state_tag: the item's state tag (see `forebay.conditional`); None if the condition has
                no tags.
            values: the item's fields as JSON values.
            effective_id_of: as in `Condition.has_match`.
        """
        if self.condition.match and not self.condition.has_match(state_tag, effective_id_of):
            return f"the item is not as expected: its entity tag was {state_tag}"
        for comparison, test in self._tests:
            value = values.get(comparison.field)
            if not test(value):
                return (
                    f"{comparison.field} {comparison.operator} {_show(comparison.value)} "
                    f"does not hold: the value was {_show(value)}"
                )
        return None


def _show(value: object) -> str:
    """The beginning of a value's JSON text, as a client of the API reads and writes it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def is_condition(value: object) -> bool:
    """Return whether a JSON value has the form of an envelope's member `if`."""
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        return False
    if not {list}.issuperset(map(type, value.values())):
        return False
    match, where, after = value.get("match", ()), value.get("where", ()), value.get("after", ())
    return (
        len(match) + len(where) + len(after) > 0
        and len(match) + len(where) <= MAX_COMPARISONS
        and len(after) <= MAX_COMPARISONS
        and {str}.issuperset(map(type, (*match, *after)))
        and all(map(_is_comparison, where))
        and all(map(COMMAND_ID.fullmatch, after))
    )


def _is_comparison(value: object) -> bool:
    if not isinstance(value, list) or len(value) != _COMPARISON_SIZE:
        return False
    name, operator_name, operand = value
    if not (isinstance(name, str) and isinstance(operator_name, str)):
        return False
    if isinstance(operand, list):
        return len(operand) <= MAX_VALUES and _SCALARS.issuperset(map(type, operand))
    return type(operand) in _SCALARS


def _make_test(field: FieldSpec, comparison: Comparison) -> Callable[[object], bool]:
    """Return a function that compares like SQL: a comparison with null never holds, except `is`."""
    name, operand = comparison.operator, comparison.value
    if name == "is":
        return lambda value: value is None
    compare, read = _COMPARE[name], _READERS[field.kind]
    if name == "in":
        right: Any = [_read_value(field, each) for each in operand]
    else:
        right = _read_value(field, operand)

    def test(value: object) -> bool:  # runs once per decided command
        try:
            left = read(value)
        except _UNREADABLE:
            return False
        return left is not None and compare(left, right)

    return test


def _read_value(field: FieldSpec, value: object) -> Any:  # noqa: ANN401 - as the field's kind
    """The value in a form that Python compares as Postgres does; None if it is none of its kind."""
    try:
        return _READERS[field.kind](value)
    except _UNREADABLE:
        return None


def _read_integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    number = Decimal(repr(value) if isinstance(value, float) else str(value))
    return number if number.is_finite() else None


def _read_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _read_moment(value: object) -> dt.datetime | None:
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    return moment if moment is not None and moment.tzinfo is not None else None


#: Raised by readers for values of another kind.
_UNREADABLE: Final = (ValueError, TypeError, InvalidOperation, OverflowError)
_READERS: Final[Mapping[Kind, Callable[[object], Any]]] = {
    Kind.TEXT: lambda value: value if isinstance(value, str) else None,
    Kind.UUID: lambda value: value.lower() if isinstance(value, str) else None,
    Kind.INTEGER: _read_integer,
    Kind.DECIMAL: _read_decimal,
    Kind.FLOAT: _read_float,
    Kind.BOOLEAN: lambda value: value if isinstance(value, bool) else None,
    Kind.DATE: lambda value: dt.date.fromisoformat(value) if isinstance(value, str) else None,
    Kind.TIMESTAMP: _read_moment,
    Kind.JSON: lambda value: value,
}
