"""Decided commands: commands with a result that depends on the item at the time of their apply.

These are commands with a condition, and patches with an increment. The word is the name of a kind
of command, before and after the decision about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from forebay.command import Body, Op
from forebay.resource.partial import INCREMENT, is_increment
from forebay.resource.spec import NUMBERS, FieldSpec, ResourceSpec

#: A field, and the JSON number that is to be added to its value.
FieldIncrement: TypeAlias = tuple[FieldSpec, Any]


def is_decided_command(op: Op, body: Body | None, condition: object, spec: ResourceSpec) -> bool:
    """Return whether a command with these members is a decided command.

    Args:
        op: the command's.
        body: of the current schema version.
        condition: in any form; None without a condition.
        spec: the command's resource.
    """
    if condition is not None:
        return True
    if op == "patch" and body is not None:
        for value in body.values():  # apply calls this for each patch
            if isinstance(value, dict):
                return bool(find_increments(body, spec))
    return False


def find_increments(body: Body, spec: ResourceSpec) -> Sequence[FieldIncrement]:
    """The increments in a patch's body, with their fields."""
    return [
        (field, value[INCREMENT])
        for name, value in body.items()
        if isinstance(value, dict)
        and is_increment(value)
        and (field := spec.column(name)) is not None
        and field.kind in NUMBERS
    ]
