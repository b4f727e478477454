"""Makes the decisions about decided commands: examines conditions, and adds increments.

Needs no database.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import partial
from typing import Any, Final, Self

import orjson

from forebay.apply.edits.state import KeyState
from forebay.command import Body, Command
from forebay.conditions import PreparedCondition
from forebay.decided_commands import FieldIncrement, find_increments
from forebay.decisions.effects import Effect
from forebay.errors import BodyError
from forebay.ids import make_id_above
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from forebay.unmet import INCREMENT_FAILED, PRECONDITION_FAILED

#: Makes a command of its members, in a quarter of the time of a call of `Command`.
_command_of: Callable[[tuple[Any, ...]], Command] = partial(tuple.__new__, Command)
#: Adds numbers with all digits that a `numeric` column can have.
_DIGITS: Final = 2_100
_EXACT: Final = Context(prec=_DIGITS, traps=[InvalidOperation, Overflow, Inexact])


@dataclass(frozen=True, slots=True)
class Decider:
    """Makes the decisions about decided commands of a resource, all with the same time."""

    spec: ResourceSpec
    #: By the ids of the commands that have a condition.
    conditions: Mapping[str, PreparedCondition] = field(default_factory=dict)
    #: By the ids of the commands that have any.
    increments: Mapping[str, Sequence[FieldIncrement]] = field(default_factory=dict)
    #: The fields with values that the decisions need.
    field_names: Collection[str] = ()
    decided_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    #: Fields with sums that were found valid: many commands come to the same sum.
    _valid_sums: set[tuple[str, int | str]] = field(default_factory=set)

    @classmethod
    def of_commands(cls, commands: Iterable[Command], spec: ResourceSpec) -> Self:
        """Prepare the decisions about these commands."""
        # Many commands have the same condition.
        conditions_by_text: dict[bytes, PreparedCondition] = {}
        conditions: dict[str, PreparedCondition] = {}
        increments: dict[str, Sequence[FieldIncrement]] = {}
        for command in commands:
            if command.condition is not None:
                text = orjson.dumps(command.condition)
                if (condition := conditions_by_text.get(text)) is None:
                    condition = conditions_by_text[text] = PreparedCondition.of_json(
                        command.condition, spec
                    )
                conditions[command.id] = condition
            if command.op == "patch" and command.body is not None:
                of_command = find_increments(command.body, spec)
                if of_command:
                    increments[command.id] = of_command
        names = {field.name for of_command in increments.values() for field, _ in of_command}
        for condition in conditions_by_text.values():
            names.update(comparison.field for comparison in condition.condition.where)
        return cls(spec, conditions, increments, names)

    def decide(
        self, command: Command, state: KeyState, effective_id_of: Callable[[str], str] = str
    ) -> Command:
        """The plain command that a decided command becomes.

        Args:
            command: of the current schema version.
            state: of its key, with the values of `field_names`.
            effective_id_of: returns the id under which a command has taken its place.

        Raises:
            BodyError: its condition does not hold, or an increment has no valid result.
        """
        condition = self.conditions.get(command.id)
        if condition is not None and condition.fault is not None:
            raise BodyError("condition_invalid", condition.fault)
        if not state.has_item:
            raise BodyError(PRECONDITION_FAILED, "there is no item with this key")
        if condition is not None:
            # Few conditions need the tag, which is a digest.
            state_tag = state.state_tag if condition.condition.match else None
            failure = condition.find_failure(state_tag, state.values, effective_id_of)
            if failure is not None:
                raise BodyError(PRECONDITION_FAILED, failure)
        command_id, body, greatest_id = command.id, command.body, state.greatest_id
        if body is not None and (increments := self.increments.get(command_id)):
            body = {**body, **self._add_increments(increments, state.values)}
        if command_id <= greatest_id:
            command_id = make_id_above(greatest_id, create=False)
        return _command_of((command_id, *command[1:7], body, command.amends, None))

    def make_effect(self, command: Command, plain: Command) -> Effect:
        """The effect of a decided command that passed.

        Args:
            command: the decided command.
            plain: the plain command that it has become.
        """
        body, schema = None, None
        if plain.body is not command.body:
            body, schema = plain.body, command.schema
        key = str(command.key)
        return Effect(command.id, command.resource, key, plain.id, body, schema, self.decided_at)

    def _add_increments(self, increments: Sequence[FieldIncrement], values: Body) -> Body:
        """The valid sums of increments, by the fields' names."""
        sums: dict[str, int | str] = {}
        for column, increment in increments:
            sums[column.name] = _add_increment(column, values.get(column.name), increment)
        if not self._valid_sums.issuperset(sums.items()):
            for fault in self.spec.body.check_fields(sums):
                raise BodyError(INCREMENT_FAILED, f"{fault.pointer}: {fault.detail}")
            self._valid_sums.update(sums.items())
        return sums


def _add_increment(field: FieldSpec, value: Any, increment: Any) -> int | str:  # noqa: ANN401 - JSON values
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
