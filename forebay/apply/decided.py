"""Decided commands: commands whose outcome depends on the item as it is when they are applied.

These are commands with a condition, and patches with an increment. Needs no database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, Final

from forebay.apply.edits import KeyState
from forebay.command import Body, Command
from forebay.conditions import Guard
from forebay.errors import BodyError
from forebay.ids import make_id_above
from forebay.resource.partial import INCREMENT, is_increment
from forebay.resource.spec import NUMBERS, FieldSpec, Kind, ResourceSpec
from forebay.unmet import INCREMENT_FAILED, PRECONDITION_FAILED

#: Adds numbers with all digits that a `numeric` column can have.
_DIGITS: Final = 2_100
_EXACT: Final = Context(prec=_DIGITS, traps=[InvalidOperation, Overflow, Inexact])


def is_decided(command: Command, spec: ResourceSpec) -> bool:
    """Return whether a command needs a decision; the decision makes it a plain command."""
    if command.condition is not None:
        return True
    if command.op == "patch" and command.body is not None:
        for value in command.body.values():  # apply asks for each patch
            if isinstance(value, dict):
                return next(_list_increments(command, spec), None) is not None
    return False


def decide(
    command: Command,
    guard: Guard | None,
    state: KeyState,
    spec: ResourceSpec,
    effective_id_of: Callable[[str], str] = str,
) -> Command:
    """The plain command that a decided command becomes.

    Args:
        command: of the current schema version.
        guard: its condition; None if it has none.
        state: of its key, with all values of the item.
        spec: its resource.
        effective_id_of: returns the id under which a command has taken its place.

    Raises:
        BodyError: its condition does not hold, or an increment has no valid result.
    """
    if guard is not None and guard.fault is not None:
        raise BodyError("condition_invalid", guard.fault)
    if not state.has_item:
        raise BodyError(PRECONDITION_FAILED, "there is no item with this key")
    if guard is not None:
        # Few conditions need the tag, which is a digest.
        state_tag = state.state_tag if guard.condition.match else None
        failure = guard.find_failure(state_tag, state.values, effective_id_of)
        if failure is not None:
            raise BodyError(PRECONDITION_FAILED, failure)
    body = _add_increments(command, state, spec)
    command_id, greatest_id = command.id, state.greatest_id
    if command_id <= greatest_id:
        command_id = make_id_above(greatest_id, create=False)
    members = (command.op, command.resource, command.key, command.schema, command.by, command.trace)
    return Command(command_id, *members, body, command.amends)


def _add_increments(command: Command, state: KeyState, spec: ResourceSpec) -> Body | None:
    """The body with the sum in place of each increment; the same body without increments."""
    body = command.body
    if body is None or command.op != "patch":
        return body
    sums = {
        field.name: _add(field, state.values.get(field.name), increment)
        for field, increment in _list_increments(command, spec)
    }
    if not sums:
        return body
    for fault in spec.body.check_fields(sums):
        raise BodyError(INCREMENT_FAILED, f"{fault.pointer}: {fault.detail}")
    return {**body, **sums}


def _list_increments(command: Command, spec: ResourceSpec) -> Iterator[tuple[FieldSpec, Any]]:
    for name, value in (command.body or {}).items():
        if is_increment(value):
            field = spec.column(name)
            if field is not None and field.kind in NUMBERS:
                yield field, value[INCREMENT]


def _add(field: FieldSpec, value: Any, increment: Any) -> int | str:  # noqa: ANN401 - JSON values
    """The sum as the field's JSON value.

    Raises:
        BodyError: a summand is no number.
    """
    if value is None:
        raise BodyError(INCREMENT_FAILED, f"{field.name} is null, so it can't be incremented")
    if field.kind is Kind.INTEGER and type(value) is type(increment) is int:  # the common case
        return value + increment
    try:
        total = _EXACT.add(Decimal(str(value)), Decimal(str(increment)))
    except ArithmeticError:
        raise BodyError(
            INCREMENT_FAILED, f"{field.name}: {increment!r} can't be added to {value!r}"
        ) from None
    # An exponent in an archived line is unbounded: Python would write all digits.
    if not total.is_finite() or total.adjusted() >= _DIGITS:
        raise BodyError(INCREMENT_FAILED, f"{field.name}: the sum is {total}")
    if field.kind is Kind.DECIMAL:
        return f"{total:f}"
    if total != total.to_integral_value():
        raise BodyError(INCREMENT_FAILED, f"{field.name}: {total} is not an integer")
    return int(total)
